"""What an agent's world model believed along an episode: what it planned, rejected and expected, and how sure it was.

Letters: `m` is a moment of the episode, `c` a candidate, `k` a step after the moment, `p` a particle, `d` a dimension
of the observation, `i` a start of a prediction.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from foretell.agents import Agent, ValueExpansion
from foretell.agents.base import State
from foretell.agents.mbmpc import Guided
from foretell.compilation import COMPILER_OPTIONS
from foretell.diagnostics.calibration import Calibration, calibration
from foretell.diagnostics.episode import Lived
from foretell.diagnostics.imagining import chunked, imagine_plan
from foretell.diagnostics.inspection import horizon_candidates
from foretell.diagnostics.open_loop import Norms, kept_i, mse_k, norms_k, std_of
from foretell.diagnostics.prediction import Track
from foretell.models import open_loop, rollout, start
from foretell.models.base import returns
from foretell.models.true import TrueModel
from foretell.replay import Transitions
from foretell.tasks import Task
from foretell.tasks.base import Follows

HORIZON = 15
"""Steps predicted ahead, of agents that do not plan."""
_STARTS, _CHUNK = 128, 32
_NEIGHBOURS = 5


class Foreseen(NamedTuple):
    """What a model predicts for sequences of actions; `b` is a sequence."""

    obs: Float[Array, "b k+1 p d"]
    """The observation at which they start comes first."""
    value: Float[Array, "b p"]
    """Imagined return of each particle."""
    action: Float[Array, "b k a"]
    """The actions, a mean over particles: a guide acts on what each of them observes."""


class Horizons(NamedTuple):
    """The candidates from which value expansion makes its target, one for each horizon `j`, at moments `m`."""

    mean_mj: Float[np.ndarray, "m j"]
    """In units of values, over the samples of a candidate: models, reward networks and critics."""
    std_mj: Float[np.ndarray, "m j"]
    weight_mj: Float[np.ndarray, "m j"]
    """In the target."""


class Neighbour(NamedTuple):
    """A step in the data that is like one of the episode."""

    episode: int
    time: int
    distance: float
    """Root mean square difference of observation and action, each dimension in units of its standard deviation in the
    data."""
    reward: float


class Accuracy(NamedTuple):
    """How good the predictions for executed actions are, over starts along the episode."""

    mse_k: Float[np.ndarray, "k"]
    """Mean squared error, in units of the episode's standard deviations."""
    still_k: Float[np.ndarray, "k"]
    """That of predicting that nothing changes."""
    norms: Norms
    calibrations: tuple[Calibration | None, ...]
    """After each number of steps, from 1."""
    time_i: Int[np.ndarray, "i"]
    """When the predictions start."""
    error_ik: Float[np.ndarray, "i k"]
    """Root mean square error over dimensions, in units of the episode's standard deviations."""
    std_ik: Float[np.ndarray, "i k"]
    """Root mean square standard deviation of the particles, likewise: their disagreement."""
    error_d: Float[np.ndarray, "d"]
    """Root mean square error of each dimension, likewise, over all numbers of steps."""


class Belief(NamedTuple):
    """An episode, and what the model believed at moments of it."""

    lived: Lived
    planned: Foreseen
    """What the model expected of the plan; of agents with a policy, of what this does in imagination."""
    expected: Foreseen
    """What it predicts for the actions that were executed, the last one repeated beyond the end."""
    rejected: Foreseen | None
    """What it expected of the candidates of `candidates.RANKS`, `[m * c, ...]`; None without a search."""
    members: int
    """Members among which the particles are divided, in order; 1 if they change members."""
    horizons: Horizons | None
    """Of agents whose targets look ahead in the model."""
    has_value: bool
    """Whether imagined returns are what is planned for; along a path they are not."""
    accuracy: Accuracy
    neighbours: list[list[Neighbour]]
    """Of each moment, the nearest steps in the data."""


def can_believe(agent: Agent) -> bool:
    """Whether the agent has a world model that may be wrong."""
    model = getattr(agent, "model", None)
    return model is not None and not isinstance(model, TrueModel)


def horizon_of(agent: Agent) -> int:
    """Steps that are predicted ahead: as many as are planned."""
    return getattr(getattr(agent, "planner", None), "horizon", HORIZON)


def believe(
    agent: Agent, task: Task, state: State, lived: Lived, recorded: Sequence[tuple[int, Track]], seed: int
) -> Belief:
    """What the model believed.

    Args:
        agent: an agent with a learned model.
        task: its task.
        state: what it has learned.
        lived: the episode.
        recorded: episodes that it has learned from, with their numbers.
        seed: of the model's noise.
    """
    track, horizon = lived.track, min(horizon_of(agent), len(lived.track.actions))
    times = np.array([moment.time for moment in lived.moments])
    look = Foresight(agent, state, seed)
    at_m = track.obs[times]
    tried = [one.searched for one in lived.moments if one.searched is not None]
    rejected = None
    if len(tried) == len(times):
        actions = np.concatenate([one.actions for one in tried])
        rejected = look(np.repeat(at_m, len(actions) // len(times), 0), actions, planned=True)
    return Belief(
        lived, _planned(look, lived, at_m, horizon), look(at_m, windows(track.actions, times, horizon)), rejected,
        getattr(agent.model, "followed", 1), _horizons(agent, state, track, times, seed),
        not isinstance(task, Follows), accuracy(look, track, horizon),
        nearest([(track.obs[t], track.actions[t]) for t in times], recorded),
    )  # fmt: skip


class Foresight:
    """Predicts what actions lead to, in calls of one size."""

    def __init__(self, agent: Agent, state: State, seed: int) -> None:
        self._state, self._key = state, jax.random.key(seed)
        self._foresee = jax.jit(partial(foresee, agent), compiler_options=COMPILER_OPTIONS)
        self._carry_out = self._foresee
        if isinstance(agent, Guided):
            self._carry_out = jax.jit(partial(foresee, agent, planned=True), compiler_options=COMPILER_OPTIONS)
        self._follow = jax.jit(partial(imagine_plan, agent, HORIZON), compiler_options=COMPILER_OPTIONS)

    def __call__(
        self, obs: Float[np.ndarray, "b d"], action: Float[np.ndarray, "b k a"], *, planned: bool = False
    ) -> Foreseen:
        """What the model predicts for actions from each observation; see `foresee`."""
        action, call = np.asarray(action, np.float32), self._carry_out if planned else self._foresee
        return chunked(lambda rows, key: call(self._state, obs[rows], action[rows], key), len(obs), _CHUNK, self._key)

    def follow(self, obs: Float[np.ndarray, "b d"]) -> Float[np.ndarray, "b k a"]:
        """The actions of the agent's policy in imagination."""
        return chunked(lambda rows, key: self._follow(self._state, obs[rows], key), len(obs), _CHUNK, self._key).action


def foresee(
    agent: Agent,
    state: State,
    obs: Float[Array, "b d"],
    action: Float[Array, "b k a"],
    key: Key[Array, ""],
    *,
    planned: bool = False,
) -> Foreseen:
    """What the model predicts for sequences of actions; if they are planned, a guide may change all but the first."""
    model, params, (begin_key, roll_key) = agent.model, agent.model_params(state), jax.random.split(key)
    assert model is not None
    guided = planned and isinstance(agent, Guided)
    act = agent.following(agent.policy(state), action) if guided else open_loop(action, model.particles)  # type: ignore
    begin = start(model, params, obs, begin_key, model.particles)
    found = rollout(model, params, begin, act, action.shape[1], roll_key)
    return Foreseen(jnp.moveaxis(found.obs, 2, 0), returns(found).T, jnp.moveaxis(found.action.mean(1), 1, 0))


def windows(
    rows: Float[np.ndarray, "times n"], starts: Int[np.ndarray, "b"], length: int
) -> Float[np.ndarray, "b length n"]:
    """`length` rows from each start on, the last row repeated beyond the end."""
    return rows[np.minimum(starts[:, None] + np.arange(length), len(rows) - 1)]


def accuracy(look: Foresight, track: Track, horizon: int) -> Accuracy:
    """Errors and uncertainty of predictions along an episode, for the actions that were executed.

    Args:
        look: predicts.
        track: the episode.
        horizon: steps predicted ahead, at most the episode's.
    """
    last = len(track.actions) - horizon
    time_i = np.unique(np.linspace(0, last, min(_STARTS, last + 1)).round().astype(int))
    real = windows(track.obs, time_i, horizon + 1)[:, 1:]
    begin = np.broadcast_to(track.obs[time_i, None], real.shape)
    seen = look(track.obs[time_i], windows(track.actions, time_i, horizon)).obs[:, 1:]
    mean, std = np.asarray(seen).mean(2), std_of(track.obs)
    kept = kept_i(np.zeros(real.shape[:2], bool))
    square = np.square((np.float64(real) - mean) / std)
    spread = np.square(np.asarray(seen).std(2) / std)
    found = [calibration(np.asarray(seen)[:, k], real[:, k]) for k in range(horizon)]
    return Accuracy(
        mse_k(mean / std, real / std, kept), mse_k(begin / std, real / std, kept), norms_k(mean, real, kept),
        tuple(found), time_i, np.sqrt(square.mean(2)), np.sqrt(spread.mean(2)), np.sqrt(square.mean((0, 1))),
    )  # fmt: skip


def nearest(
    moments: Sequence[tuple[Float[np.ndarray, "d"], Float[np.ndarray, "a"]]], recorded: Sequence[tuple[int, Track]]
) -> list[list[Neighbour]]:
    """The steps of the data whose observation and action are nearest to each moment's; nearest first."""
    if not recorded:
        return [[] for _ in moments]
    rows = np.concatenate([np.concatenate([track.obs[:-1], track.actions], 1) for _, track in recorded])
    reward = np.concatenate([track.rewards for _, track in recorded])
    places = [(number, t) for number, track in recorded for t in range(len(track.actions))]
    scale = std_of(rows)
    found = []
    for obs, action in moments:
        distance = np.sqrt(np.square((rows - np.concatenate([obs, action])) / scale).mean(1))
        order = np.argsort(distance, kind="stable")[:_NEIGHBOURS]
        found.append([Neighbour(places[i][0], places[i][1], float(distance[i]), float(reward[i])) for i in order])
    return found


def _planned(look: Foresight, lived: Lived, at_m: Float[np.ndarray, "m d"], horizon: int) -> Foreseen:
    """What the model expected of the plan at each moment, or of the actions of the policy in imagination."""
    if lived.moments[0].plan is not None:
        return look(at_m, np.stack([np.asarray(moment.plan) for moment in lived.moments]), planned=True)
    return look(at_m, look.follow(at_m)[:, :horizon])


def _horizons(agent: Agent, state: State, track: Track, times: Int[np.ndarray, "m"], seed: int) -> Horizons | None:
    """What value expansion would learn from the steps that were taken at these times."""
    if not isinstance(agent, ValueExpansion) or not agent.expansion.horizon:
        return None
    ends = (times == len(track.actions) - 1) & track.terminated
    batch = Transitions(track.obs[times], track.actions[times], track.rewards[times], track.obs[times + 1], ends)
    samples = jax.jit(partial(horizon_candidates, agent))(state, batch, jax.random.key(seed))
    parts = samples.mean(1), samples.std(1), agent.expansion.reduce(samples)[1]
    return Horizons(*(np.asarray(part).T for part in parts))
