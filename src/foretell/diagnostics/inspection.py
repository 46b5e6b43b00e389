"""What a trained agent does, and how far its targets would trust the model there, or how far its model sees."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from foretell.agents import ValueExpansion
from foretell.agents.value_expansion import ValueExpansionState
from foretell.replay import Transitions
from foretell.runs.directory import writing
from foretell.training.controller import Controller, EvaluationResult
from foretell.values import candidates

BUCKETS = 10
_CHUNK = 512


@dataclass(frozen=True)
class Inspection:
    """Episodes of a trained agent, and what its model is good for there."""

    results: list[EvaluationResult]
    """Empty if the replay was inspected."""
    histogram: Float[np.ndarray, "buckets frames"] | None = None
    """Of the weights of horizons in its targets, if they follow a model: shares of the transitions; bucket `b` holds
    weights from `b / 10` to `(b + 1) / 10`."""
    errors: dict[int, float] | None = None
    """Of open-loop predictions by their number of steps, if it plans with a model; see `report.prediction`."""


class Recording(gymnasium.Wrapper):
    """Records the transitions of all episodes."""

    def __init__(self, env: gymnasium.Env, rows: list[tuple]) -> None:
        super().__init__(env)
        self._rows = rows

    def reset(self, **kwargs: object) -> tuple[np.ndarray, dict]:
        obs, info = self.env.reset(**kwargs)  # type: ignore[arg-type]
        self._obs = obs
        return obs, info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._rows.append((self._obs, action, reward, obs, terminated))
        self._obs = obs
        return obs, float(reward), terminated, truncated, info


def recorded(rows: list[tuple]) -> Transitions:
    """The transitions of a `Recording`."""
    columns = (np.array(column) for column in zip(*rows, strict=True))
    data: list[Any] = [a if a.dtype == bool else a.astype(np.float32) for a in columns]
    return Transitions(*data)


def horizon_weights(controller: Controller, data: Transitions) -> Float[np.ndarray, "frames rows"] | None:
    """The weight of each horizon in the targets of transitions; None if the agent's targets follow no model."""
    agent, count = controller.agent, len(data.reward)
    if not isinstance(agent, ValueExpansion) or agent.model is None:
        return None
    weigh = jax.jit(partial(agent.horizon_weights, controller.state))
    parts, keys = [], jax.random.split(jax.random.key(0), -(-count // _CHUNK))
    for key, start in zip(keys, range(0, count, _CHUNK), strict=True):
        # Chunks of one size, of which the program is compiled once; the last is filled up by repeating rows.
        index = np.minimum(np.arange(start, start + _CHUNK), count - 1)
        parts.append(np.asarray(weigh(jax.tree.map(lambda a: jnp.asarray(a[index]), data), key)))  # noqa: B023
    return np.concatenate(parts, 1)[:, :count]


def horizon_candidates(
    agent: ValueExpansion, state: ValueExpansionState, data: Transitions, key: Key[Array, ""]
) -> Float[Array, "frames samples rows"]:
    """Samples of the candidate of every horizon, from which the target of each transition is made.

    Samples of the same particle, which follows one model, are `model.particles` apart.
    """
    learner, imagined = agent.learner, agent.expand(key, state.learner, agent.model_params(state), data)
    return candidates(imagined, discount=learner.discount, reward_scale=learner.reward_scale, sources=1)[0]


def weight_histogram(weights: Float[np.ndarray, "frames rows"]) -> Float[np.ndarray, "buckets frames"]:
    """Per horizon, the share of weights in each of ten buckets over (0, 1]; what lies outside counts to the nearest."""
    bucket = np.clip(np.floor(BUCKETS * (weights - 1e-5)), 0, BUCKETS - 1).astype(int)
    return np.stack([np.bincount(row, minlength=BUCKETS) / len(row) for row in bucket], 1)


def draw_weights(histogram: Float[np.ndarray, "buckets frames"], path: Path, *, title: str) -> None:
    """The histogram as a picture: a column of shades per horizon, the share written in each cell."""
    from matplotlib.figure import Figure  # slow to import, and needed at the end alone

    frames = histogram.shape[1]
    figure = Figure(figsize=(2.2 + 1.1 * frames, 4.4), dpi=130, layout="constrained")
    axes = figure.subplots()
    axes.imshow(histogram, origin="lower", aspect="auto", cmap="Blues", vmin=0, vmax=1)
    for (bucket, frame), share in np.ndenumerate(histogram):
        if share >= 0.005:
            colour = "white" if share > 0.6 else "#2b3440"
            axes.text(frame, bucket, f"{share:.2f}", ha="center", va="center", fontsize=8, color=colour)
    axes.set(title=title, xlabel="horizon (imagined steps)", ylabel="weight in the target")
    axes.set_xticks(range(frames))
    axes.set_yticks(np.arange(BUCKETS + 1) - 0.5, [f"{edge / BUCKETS:.1f}" for edge in range(BUCKETS + 1)])
    axes.spines[:].set_visible(False)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
