"""The rule of `auto`: which preset to train for an environment, from what can be seen of it.

The rule follows the measurements on the page docs/how-to/which-agent.md; a preset is chosen for environments that are
like those on which it was best.
"""

from collections.abc import Callable
from typing import NamedTuple


class Seen(NamedTuple):
    """What can be seen of an environment, and how long the run is to be."""

    obs_size: int
    action_size: int
    horizon: int
    """Steps per episode."""
    terminates: bool
    """Whether episodes may end before that."""
    steps: int | None
    """Length of the run in environment steps; None: as the preset has it."""


class Rule(NamedTuple):
    """A preset, and the environments that it is chosen for."""

    preset: str
    fits: Callable[[Seen], bool]
    reason: str
    """How such environments are described."""
    measured: str
    """The measurements behind it."""


FEW_STEPS = 10_000
"""Below, an actor-critic with 5,000 random steps had hardly learned on the tasks that were measured."""
RULES = (
    Rule(
        "pets/default",
        lambda seen: not seen.terminates and seen.horizon <= 200 and seen.obs_size <= 20 and seen.action_size <= 7,
        "short episodes that do not end early, up to 20 observations and 7 actions",
        "cartpole, Pendulum-v1, reacher and pusher",
    ),
    Rule(
        "steve/default",
        lambda seen: seen.terminates and seen.obs_size <= 8 and seen.action_size <= 2,
        "episodes that may end early, up to 8 observations and 2 actions",
        "InvertedPendulum-v5",
    ),
    Rule(
        "pets/default",
        lambda seen: not seen.terminates and seen.steps is not None and seen.steps < FEW_STEPS,
        f"fewer than {FEW_STEPS:,} steps, in episodes that do not end early",
        "the half-cheetah, on which a preset of PETS was ahead until then",
    ),
    Rule(
        "dhmbpo/default",
        lambda seen: True,
        "long episodes, or ones that may end early, or many observations",
        "HalfCheetah-v5 and Hopper-v5",
    ),
)
"""The first rule that fits decides."""


def rule_for(seen: Seen) -> Rule:
    """The rule that decides for an environment."""
    return next(rule for rule in RULES if rule.fits(seen))


def sentence(rule: Rule, seen: Seen) -> str:
    """What was chosen, and why."""
    length = f"{seen.horizon:,} steps per episode" + (", which may end early" if seen.terminates else "")
    return (
        f"auto chose {rule.preset}: observations [{seen.obs_size}], actions [{seen.action_size}], {length}\n"
        f"     (for {rule.reason}; measured on {rule.measured})"
    )
