"""How far an agent's model sees: what it expects of real actions, open loop, beside what they led to."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from foretell.diagnostics.open_loop import std_of
from foretell.models import Params, TrainedModel, open_loop, rollout, start
from foretell.runs.directory import writing
from foretell.training.controller import Controller, EvaluationResult

STEPS = (1, 5, 10, 50, 100)
"""Numbers of steps after which errors are reported (Nagabandi et al. 2018, released code)."""
_STARTS, _CHUNK = 256, 32


class Track(NamedTuple):
    """A real episode."""

    obs: Float[np.ndarray, "times obs"]
    """One more than actions."""
    actions: Float[np.ndarray, "steps action"]
    rewards: Float[np.ndarray, "steps"] = np.zeros(0, np.float32)
    """As many as actions, where they are known."""
    terminated: bool = False
    """Whether the last step ended it for good."""


def tracks(rows: list[tuple], results: list[EvaluationResult]) -> list[Track]:
    """The episodes that these transitions (observation, action, reward, next observation, end) are of."""
    found, start = [], 0
    for result in results:
        part = rows[start : start + result.length]
        obs = np.array([row[0] for row in part] + [part[-1][3]], np.float32)
        actions, rewards = (np.array([row[i] for row in part], np.float32) for i in (1, 2))
        found.append(Track(obs, actions, rewards, bool(part[-1][4])))
        start += result.length
    return found


class Predictor:
    """Predictions of a world model for recorded actions; compiled once for each number of steps."""

    def __init__(self, model: TrainedModel) -> None:
        self._program = jax.jit(partial(_predict, model))

    def __call__(
        self,
        params: Params,
        obs: Float[np.ndarray, "starts obs"],
        actions: Float[np.ndarray, "starts steps action"],
    ) -> Float[np.ndarray, "starts times particles obs"]:
        """The observations at which the actions start, and those that are predicted."""
        parts, keys = [], jax.random.split(jax.random.key(0), -(-len(obs) // _CHUNK))
        for key, first in zip(keys, range(0, len(obs), _CHUNK), strict=True):
            # Chunks of one size, of which the program is compiled once; the last is filled up by repeating rows.
            index = np.minimum(np.arange(first, first + _CHUNK), len(obs) - 1)
            parts.append(np.asarray(self._program(params, obs[index], actions[index], key)))
        return np.concatenate(parts)[: len(obs)]


def open_loop_predictions(
    controller: Controller, obs: Float[np.ndarray, "starts obs"], actions: Float[np.ndarray, "starts steps action"]
) -> Float[np.ndarray, "starts times particles obs"]:
    """What the agent's world model predicts for recorded actions; the observation at which they start comes first."""
    assert controller.agent.model is not None
    return Predictor(controller.agent.model)(_params(controller), obs, actions)


def _params(controller: Controller) -> Params:
    """What imagination needs of what the agent has learned."""
    return jax.jit(controller.agent.model_params)(controller.state)


def _predict(
    model: TrainedModel,
    params: Params,
    obs: Float[Array, "starts obs"],
    actions: Float[Array, "starts steps action"],
    key: Key[Array, ""],
) -> Float[Array, "starts times particles obs"]:
    begin = start(model, params, obs, key, model.particles)
    found = rollout(model, params, begin, open_loop(actions, model.particles), actions.shape[1], key)
    return jnp.moveaxis(found.obs, 2, 0)


def prediction_errors(controller: Controller, episodes: list[Track]) -> dict[int, float]:
    """As `errors_along`, of an agent's model, in units of the standard deviations in these episodes."""
    assert controller.agent.model is not None
    return errors_along(Predictor(controller.agent.model), _params(controller), episodes)


def spread(episodes: list[Track]) -> Float[np.ndarray, "obs"]:
    """The standard deviation of each dimension of the observations, 1 for a constant one."""
    return std_of(np.concatenate([track.obs for track in episodes]))


def errors_along(
    predict: Predictor, params: Params, episodes: list[Track], std: Float[np.ndarray, "obs"] | None = None
) -> dict[int, float]:
    """Mean square error after each of `STEPS` that the longest episode allows (Nagabandi et al. 2018, released code).

    Predictions are means over particles, from up to 256 moments, evenly spread over those with enough steps to come.

    Args:
        predict: of the world model.
        params: of the world model.
        episodes: real ones.
        std: the unit of each dimension; by default its standard deviation in these episodes.
    """
    steps = max(n for n in STEPS if n <= max(len(track.actions) for track in episodes))
    starts = [(track, t) for track in episodes for t in range(len(track.actions) - steps + 1)]
    starts = [starts[i] for i in np.linspace(0, len(starts) - 1, min(_STARTS, len(starts))).astype(int)]
    real = np.stack([track.obs[t : t + steps + 1] for track, t in starts])
    actions = np.stack([track.actions[t : t + steps] for track, t in starts])
    expected = predict(params, real[:, 0], actions).mean(2)
    square = np.square((expected - real) / (spread(episodes) if std is None else std)).mean((0, 2))
    return {n: float(square[n]) for n in STEPS if n <= steps}


def draw_prediction(controller: Controller, track: Track, names: tuple[str, ...], path: Path, *, title: str) -> None:
    """Every dimension of the beginning of an episode, and what the model expects of its actions: mean and range."""
    from matplotlib.figure import Figure  # slow to import, and needed at the end alone

    steps = min(len(track.actions), STEPS[-1])
    expected = open_loop_predictions(controller, track.obs[:1], track.actions[None, :steps])[0]
    columns = 4
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(11, 0.8 + 1.7 * rows), dpi=110, layout="constrained")
    for i, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.fill_between(
            range(steps + 1), expected[..., i].min(1), expected[..., i].max(1), color="#d1495b", alpha=0.2
        )
        axes.plot(expected[..., i].mean(1), color="#d1495b", lw=1.2, label="expected")
        axes.plot(track.obs[: steps + 1, i], color="#2b3440", lw=1, label="real")
        axes.set_title(name, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize=7)
    figure.suptitle(title)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
