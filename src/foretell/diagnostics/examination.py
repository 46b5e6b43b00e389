"""All diagnostics of an agent together: how they are measured, and what is found."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from foretell.agents import Agent, ValueExpansion
from foretell.agents.base import Metrics, State
from foretell.diagnostics import learning
from foretell.diagnostics.calibration import Calibration, calibration
from foretell.diagnostics.critics import WithCritics, imagined_returns, imagines_returns, pair_values
from foretell.diagnostics.imagining import Imaginer, draw
from foretell.diagnostics.open_loop import Gap, OpenLoop
from foretell.diagnostics.play import Played, Player, TargetPolicy
from foretell.diagnostics.prediction import Track
from foretell.diagnostics.recorded import transitions
from foretell.diagnostics.returns import complete_et, expanded_et, plan_gap, returns_et
from foretell.errors import UserError
from foretell.keys import Stream, numpy_generator
from foretell.models import TrueModel
from foretell.replay import Transitions
from foretell.runs import arguments
from foretell.tasks import Task
from foretell.tasks.base import Follows


class Sizes(NamedTuple):
    """How much is measured."""

    episodes: int = 10
    """Fresh episodes, for values and plans."""
    horizon: int = 10
    """Steps of open-loop predictions, K."""
    starts: int = 512
    """Starts of open-loop predictions."""
    oracle: tuple[int, ...] = (1, 5, 10, 25)
    """Values of H of the estimators oracle-H."""
    tail: float | None = None
    """What true returns do about a time limit. None: they go on with the value that the target critics give the last
    observation. A number: steps are left out where more than this share of an endless return is missing; 1 keeps all,
    as in the original, whose truth is biased towards 0 near the end."""
    policy: Literal["target", "online"] = "target"
    """Of agents with critics, who plays the episodes: the policy of the targets, or the one that acts."""


def check_sizes(sizes: Any) -> None:
    """Raises `UserError` unless something can be measured."""
    if not isinstance(sizes, Sizes):
        raise UserError(f"sizes must be foretell.diagnostics.examination.Sizes, not {sizes!r}")
    for name in ("episodes", "horizon", "starts"):
        arguments.whole_number(name, getattr(sizes, name), 1)
    for steps in arguments.numbers("the steps of oracle estimators", sizes.oracle):
        arguments.whole_number("the steps of oracle estimators", steps, 0)
    if sizes.tail is not None and not 0 < arguments.number("tail", sizes.tail) <= 1:
        raise UserError(f"tail must be bootstrap or a share above 0 and up to 1, not {sizes.tail}")
    if not isinstance(sizes.policy, str) or sizes.policy not in ("target", "online"):
        raise UserError(f"policy must be target or online, not {sizes.policy!r}")


class Values(NamedTuple):
    """Estimates of the values of visited pairs; `e` is an episode, `t` a step."""

    truth_et: Float[np.ndarray, "e t"]
    """Monte-Carlo returns."""
    estimates: dict[str, Float[np.ndarray, "e t"]]
    """By estimator: `critic`, `target`, `oracle_<H>`, and `imagined` where a policy is improved in imagination."""
    used_et: Bool[np.ndarray, "e t"]


class Findings(NamedTuple):
    """What was measured; None and empty where the agent has no such thing."""

    open_loop: OpenLoop | None = None
    calibrations: tuple[Calibration | None, ...] = ()
    """After each number of steps, from 1."""
    discount: float = 1.0
    """Of K-step returns: the learner's, 1 for an agent without one."""
    values: Values | None = None
    plan: Gap | None = None
    """Of planned returns against realised ones."""
    learner: dict[str, float] = {}  # noqa: RUF012
    """Losses, gradients, noise and weights."""
    returns: tuple[float, ...] = ()
    """Undiscounted, of the fresh episodes."""


class Examiner:
    """Measures an agent. Programs are compiled once, environments are made once; close it."""

    def __init__(self, agent: Agent, task: Task, sizes: Sizes, seed: int, workers: int = 1) -> None:
        """Prepare.

        Args:
            agent: the agent.
            task: its task.
            sizes: how much to measure; without episodes, values and plans are not.
            seed: of starts and of all noise.
            workers: processes that step the environments.
        """
        self._agent, self._task, self._sizes = agent, task, sizes
        self._seed = int(numpy_generator(seed, Stream.DIAGNOSE).integers(2**31))  # no episode starts as one of the run
        self._learns = isinstance(agent, WithCritics)
        self._acting = TargetPolicy(agent) if self._learns and sizes.policy == "target" else agent  # type: ignore[arg-type]
        self._policy_of = jax.jit(self._acting.policy)
        self._player = Player(self._acting, task, sizes.episodes, self._seed, workers) if sizes.episodes else None
        model = getattr(agent, "model", None)
        sees = model is not None and not (isinstance(model, TrueModel) and task.restore is None)
        self._imaginer = Imaginer(agent, task, sizes.horizon) if sees else None
        if isinstance(agent, WithCritics):
            self._values_of = jax.jit(partial(pair_values, agent))
            self._imagined_of = jax.jit(partial(imagined_returns, agent)) if imagines_returns(agent) else None
            self._learning_of = jax.jit(partial(learner_state, agent, task))

    def close(self) -> None:
        if self._player is not None:
            self._player.close()

    def examine(self, state: State, recorded: Sequence[Track], number: int = 0, *, fresh: bool = True) -> Findings:
        """Measure.

        Args:
            state: what the agent has learned.
            recorded: episodes of the run, for the learner's batch.
            number: makes random draws differ from those of other calls.
            fresh: begin predictions in fresh episodes, or in the recorded ones.

        Raises:
            UserError: if an environment fails.
        """
        rng = numpy_generator(self._seed, Stream.DIAGNOSE, number)
        found = Findings(discount=self._agent.learner.discount if isinstance(self._agent, WithCritics) else 1.0)
        tracks = list(recorded)
        if self._player is not None:
            played = self._player.play(self._policy_of(state), number * self._sizes.episodes)
            found = found._replace(values=self._values(state, played), plan=self._plan(played))
            found = found._replace(returns=tuple(played.reward.sum(1).tolist()))
            tracks = played.tracks if fresh else tracks
        if self._imaginer is not None and (seen := self._imaginer.look(state, tracks, self._sizes.starts, rng)):
            found = found._replace(open_loop=seen, calibrations=_calibrations(seen))
        if self._learns and recorded:
            return found._replace(learner=self._learner(state, recorded, rng))
        return found

    def _values(self, state: State, played: Played) -> Values | None:
        agent = self._agent
        if not isinstance(agent, WithCritics):
            return None
        key = jax.random.key(self._seed)
        critic, target, tail = map(np.asarray, self._values_of(state, played.obs, played.action, played.length, key))
        scale = agent.learner.reward_scale
        found = q_values(played, critic, target, tail, scale, agent.learner.discount, self._sizes)
        if self._imagined_of is not None:
            found.estimates["imagined"] = np.asarray(self._imagined_of(state, played.obs, jax.random.fold_in(key, 1)))
        return found

    def _plan(self, played: Played) -> Gap | None:
        """Along a path, plans have another objective than the environment's reward."""
        if "value" not in played.noted or isinstance(self._task, Follows):
            return None
        planner: Any = self._agent.planner  # type: ignore[attr-defined]
        arrays = (played.noted["value"], played.reward, played.length, played.terminated)
        return plan_gap(*arrays, planner.horizon, planner.replan_every)

    def _learner(self, state: State, recorded: Sequence[Track], rng: np.random.Generator) -> dict[str, float]:
        assert isinstance(self._agent, WithCritics)
        batch = draw(transitions(recorded), self._agent.learner.batch_size, rng)
        found = self._learning_of(state, batch, jax.random.key(int(rng.integers(2**31))))
        return {name: float(value) for name, value in found.items()}


def q_values(
    played: Played,
    critic_et: Float[np.ndarray, "e t"],
    target_et: Float[np.ndarray, "e t"],
    last_e: Float[np.ndarray, "e"],
    reward_scale: float,
    discount: float,
    sizes: Sizes,
) -> Values:
    """All estimators beside the truth.

    Entropy bonuses of later actions are added to rewards, as values contain them (SAC).

    Args:
        played: the episodes.
        critic_et: values by the critics.
        target_et: values by the target critics.
        last_e: value of where each episode has come to.
        reward_scale: the learner's, to whose units bonuses belong.
        discount: factor on the next time step.
        sizes: says what to do about time limits, and the values of H.
    """
    bonus_et = played.noted.get("bonus", np.zeros_like(critic_et)) / reward_scale
    later = np.arange(1, bonus_et.shape[1]) < played.length[:, None]
    reward_et = played.reward.copy()
    reward_et[:, :-1] += discount * np.where(later, bonus_et[:, 1:], 0.0)
    tail_e = np.where(played.terminated, 0.0, last_e) if sizes.tail is None else None
    share = 1.0 if sizes.tail is None else sizes.tail
    expand = partial(expanded_et, reward_et, target_et, played.length, discount=discount, tail_e=tail_e)
    estimates = {f"oracle_{h}": expand(h) for h in sizes.oracle}
    used = complete_et(played.length, played.terminated, reward_et.shape[1], discount, share)
    truth = returns_et(reward_et, played.length, discount, tail_e)
    return Values(truth, {"critic": critic_et, "target": target_et, **estimates}, used)


def learner_state(agent: WithCritics, task: Task, state: State, batch: Transitions, key: Key[Array, ""]) -> Metrics:
    """Losses with their gradients (of value expansion), noise of exploration, and sizes of weights."""
    loss_key, noise_key = jax.random.split(key)
    noise = learning.action_noise(agent, task, agent.policy(state), batch.obs, noise_key)
    losses = learning.losses(agent, state, batch, loss_key) if isinstance(agent, ValueExpansion) else {}
    return {**losses, "action_noise": noise, **learning.weights(state)}


def _calibrations(found: OpenLoop) -> tuple[Calibration | None, ...]:
    kept = found.kept_i
    particles, real = found.particles_ikpd[kept], found.real_ikd[kept]
    return tuple(calibration(particles[:, k], real[:, k]) for k in range(real.shape[1]))
