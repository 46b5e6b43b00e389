"""Branched rollouts: what a policy does in imagination from replayed observations on, kept as data.

Janner et al. 2019, "When to trust your model: model-based policy optimization" (MBPO), algorithm 2; the rollouts from
whose observations policies are improved in Kubo et al. 2025, "Double horizon model-based policy optimization" (DHMBPO).
"""

from typing import Annotated, NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from foretell.models import Act, Disagrees, Params, Start, WorldModel, rollout, start
from foretell.replay import Replay, Transitions, add, init_replay, sample
from foretell.settings import Settings

_MOST_ROUNDS = 10
"""Rounds of branches that are begun because those before have ended early."""
_MOST_SETS = 2000
"""Newest sets of branches whose first steps decide what divergence is usual."""


class Trust(NamedTuple):
    """How far the members of the model usually disagree on first steps of branches."""

    usual: Float[Array, ""]
    """The mean over sets of branches of a quantile of the divergence."""
    sets: Int[Array, ""]
    """Sets of branches so far."""

    def after(self, quantile: Float[Array, ""]) -> "Trust":
        """With one set more; a quantile that is not finite is left out."""
        sets = self.sets + jnp.isfinite(quantile)
        rate = 1.0 / jnp.clip(sets, 1, _MOST_SETS)
        usual = jnp.where(jnp.isfinite(quantile), self.usual + rate * (quantile - self.usual), self.usual)
        return Trust(usual, sets)


class Branches(Settings):
    """Branches of real trajectories, which the policy continues in imagination. The defaults are those of DHMBPO."""

    starts: PositiveInt = 256
    """Replayed observations at which a set of branches begins."""
    horizon: PositiveInt = 20
    """Steps of a branch. Where the imagined episodes end earlier, further branches are begun, until there are as many
    steps as if none had ended."""
    every: PositiveInt | None = 20
    """Updates of the policy between two sets; null: one set at each refit of the model (MBPO)."""
    retention: PositiveInt = 10
    """Sets that are kept."""
    schedule: tuple[int, int, int, int] | None = None
    """Let the steps of a branch grow (MBPO): `[E0, E1, K0, K1]` is `K0` steps until `E0` steps in the environment after
    the random ones, then more and more, linearly, until there are `K1` at `E1`. Null: always `horizon`."""
    max_divergence: PositiveFloat | None = None
    """End a branch where the members of the model disagree (MACURA): a step is kept, and the branch goes on, only if
    the geometric Jensen-Shannon divergence of the members is below this times what is usual on first steps (Walker2d:
    0.3, half-cheetah: 2, ant and humanoid: 5, hopper: 30). Null: branches end nowhere else than without this rule."""
    divergence_quantile: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """What is usual: this quantile of the divergences of first steps (hopper: 0.9), a mean over all sets of branches so
    far."""

    @model_validator(mode="after")
    def _check_schedule(self) -> "Branches":
        if self.schedule is None:
            return self
        first, last, least, most = self.schedule
        if not (0 <= first < last and 0 < least <= most):
            raise ValueError(f"schedule must be [E0, E1, K0, K1] with E0 < E1 and 0 < K0 <= K1, not {self.schedule}")
        if most > self.horizon:
            raise ValueError(f"horizon ({self.horizon}) must be at least {most}, the longest branch of the schedule")
        return self

    def length(self, steps: Int[Array, ""]) -> Int[Array, ""]:
        """Steps of a branch after so many steps in the environment since the random ones."""
        if self.schedule is None:
            return jnp.int32(self.horizon)
        first, last, least, most = self.schedule
        share = jnp.clip((steps - first) / (last - first), 0.0, 1.0)
        return jnp.floor(least + share * (most - least) + 1e-4).astype(jnp.int32)

    def init(self, obs_size: int, action_size: int) -> Replay:
        """No branches yet."""
        return init_replay(self.starts * self.horizon * self.retention, obs_size, action_size)

    def trust(self) -> Trust | None:
        """Nothing is usual yet; None if divergence does not matter."""
        return None if self.max_divergence is None else Trust(jnp.zeros(()), jnp.zeros((), jnp.int32))


def drawn(settings: Branches, kept: Replay, key: Key[Array, ""], count: int, horizon: Int[Array, ""]) -> Transitions:
    """Transitions drawn uniformly, with replacement, from as many of the newest as the kept sets have.

    While branches are short, the sets before those are still there, and are not drawn from.

    Args:
        settings: of the branches.
        kept: their transitions; there must be some.
        key: for the draw.
        count: of transitions.
        horizon: steps of a branch now.
    """
    newest = jnp.minimum(kept.size, settings.starts * settings.retention * horizon)
    slot = (kept.added - 1 - jax.random.randint(key, (count,), 0, newest)) % kept.capacity
    return jax.tree.map(lambda store: store[slot], kept.data)


class _Tips(NamedTuple):
    """Branches that grow."""

    steps: Int[Array, ""]
    here: Start
    alive: Bool[Array, "particles batch"]
    kept: Replay


def spread(
    model: WorldModel, params: Params, obs: Float[Array, "rows obs"], key: Key[Array, ""], particles: int
) -> Start:
    """The start of one rollout from each observation, with the same number of rows in each particle.

    Args:
        model: the world model.
        params: what it needs.
        obs: where rollouts begin; their number is a multiple of `particles`.
        key: for the carry.
        particles: of the model.
    """
    begin = start(model, params, obs, key, 1)
    return jax.tree.map(lambda a: a.reshape(particles, -1, *a.shape[2:]), begin)


def grow(
    key: Key[Array, ""],
    kept: Replay,
    trust: Trust | None,
    real: Replay,
    *,
    settings: Branches,
    horizon: Int[Array, ""],
    model: WorldModel,
    params: Params,
    particles: int,
    act: Act,
) -> tuple[Replay, Trust | None]:
    """With a new set of branches.

    A branch ends where the model says that the episode ends with a probability above 1/2, or where it is not finite,
    or before a step on which the members of the model disagree (`Branches.max_divergence`).

    Args:
        key: for starts, policy and model.
        kept: the transitions of earlier branches.
        trust: how far the members of the model usually disagree; None if that does not matter.
        real: where branches begin.
        settings: of the branches.
        horizon: steps of a branch, at most those of the settings.
        model: the world model.
        params: what it needs.
        particles: of the model.
        act: the policy.
    """
    wanted, limit = kept.added + settings.starts * horizon, None
    if trust is not None and settings.max_divergence is not None:
        own_key = jax.random.fold_in(key, _MOST_ROUNDS)  # no round has it
        divergence = _first_divergence(own_key, real, settings.starts, model, params, particles, act)
        trust = trust.after(jnp.nanquantile(divergence, settings.divergence_quantile))
        limit = settings.max_divergence * trust.usual

    def again(state: tuple[Int[Array, ""], Replay]) -> tuple[Int[Array, ""], Replay]:
        number, kept = state
        start_key, begin_key, roll_key = jax.random.split(jax.random.fold_in(key, number), 3)
        here = spread(model, params, sample(real, start_key, settings.starts).obs, begin_key, particles)
        tips = _Tips(jnp.zeros((), jnp.int32), here, jnp.ones(here.obs.shape[:2], bool), kept)

        def onward(tips: _Tips) -> _Tips:
            return _grown(jax.random.fold_in(roll_key, tips.steps), tips, model, params, act, limit)

        tips = jax.lax.while_loop(lambda tips: (tips.steps < horizon) & tips.alive.any(), onward, tips)
        return number + 1, tips.kept

    first = jnp.zeros((), jnp.int32), kept
    grown = jax.lax.while_loop(lambda state: (state[1].added < wanted) & (state[0] < _MOST_ROUNDS), again, first)[1]
    return grown, trust


def _first_divergence(
    key: Key[Array, ""], real: Replay, count: int, model: WorldModel, params: Params, particles: int, act: Act
) -> Float[Array, "particles batch"]:
    """How far the members disagree on first steps of branches; NaN where that is not finite."""
    start_key, begin_key, act_key = jax.random.split(key, 3)
    here = spread(model, params, sample(real, start_key, count).obs, begin_key, particles)
    action, _ = act(act_key, here.obs, jnp.zeros((), jnp.int32))
    found = cast(Disagrees, model).disagreement(params, here.obs, action)
    return jnp.where(jnp.isfinite(found), found, jnp.nan)


def _grown(
    key: Key[Array, ""],
    tips: _Tips,
    model: WorldModel,
    params: Params,
    act: Act,
    limit: Float[Array, ""] | None,
) -> _Tips:
    """One step further, whose transitions are kept, but for those on which the members disagree too much."""
    step = rollout(model, params, tips.here, act, 1, key)
    ends, next_obs = step.terminated[0] > 0.5, step.end.obs
    rows = Transitions(tips.here.obs, step.action[0], step.reward[0].mean(0), next_obs, ends)
    sound = tips.alive & jnp.isfinite(rows.reward) & jnp.isfinite(next_obs).all(-1)
    if limit is not None:
        sound &= cast(Disagrees, model).disagreement(params, tips.here.obs, step.action[0]) < limit
    flat = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), rows)
    return _Tips(tips.steps + 1, step.end, sound & ~ends, add(tips.kept, flat, sound.ravel()))
