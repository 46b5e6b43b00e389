"""Imagined transitions as data: what a policy does in the world model, kept beside the replay.

The imagination buffer to which Feinberg et al. 2018 (MVE) compare value expansion, after Kalweit and Boedecker 2017.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key
from pydantic import PositiveFloat, PositiveInt

from foretell.models import Params, TrainedModel, WorldModel, rollout, start, survival
from foretell.nn import MLP
from foretell.replay import Replay, Transitions, add, init_replay, sample
from foretell.settings import Settings
from foretell.tasks import Task
from foretell.values.learners import Learner


class ImaginedData(Settings):
    """Imagined transitions as training data: how many at each call of `learn`, and how long they are kept."""

    ratio: PositiveFloat = 4.0
    """Imagined transitions for each new real transition, and updates on imagined transitions for each update on real
    ones."""
    horizon: PositiveInt = 5
    """Steps of each imagined trajectory. It starts at an observation of the replay."""
    retention: PositiveInt | None = 1
    """Number of calls of `learn` for which imagined transitions are kept (1: only the newest, Feinberg et al.); null:
    until `train.capacity` newer ones have overwritten them (their released code)."""

    def check(self, steps: int) -> None:
        """Raises `ValueError` if so many new real steps make no trajectory."""
        if not self.starts(steps):
            raise ValueError(
                f"imagined_data.ratio ({self.ratio}) makes no trajectory of imagined_data.horizon ({self.horizon}) for "
                f"train.steps_per_learning ({steps}) steps; the least is {self.horizon / steps:g}"
            )

    def starts(self, steps: int) -> int:
        """Imagined trajectories for so many new real steps."""
        return int(self.ratio * steps // self.horizon)


@dataclass(frozen=True)
class ImaginedReplay:
    """Keeps imagined transitions, which are made anew at each call of `learn`."""

    settings: ImaginedData
    task: Task
    model: TrainedModel
    learner: Learner
    steps: int
    """New real steps of each call."""
    most: int
    """Transitions kept where nothing else limits them."""

    @property
    def _starts(self) -> int:
        """Observations at which trajectories begin, one in each particle."""
        return max(1, self.settings.starts(self.steps) // self.model.particles)

    def init(self) -> Replay:
        """An empty replay."""
        made, kept = self._starts * self.model.particles * self.settings.horizon, self.settings.retention
        capacity = max(made, self.most if kept is None else kept * made)
        return init_replay(capacity, self.task.spec.obs_size, self.task.spec.action_size)

    def renew(
        self, key: Key[Array, ""], imagined: Replay, real: Replay, params: Params, policy: MLP, use: Bool[Array, ""]
    ) -> Replay:
        """With what the greedy policy does in imagination, from replayed observations on.

        Args:
            key: for the observations and the model's noise.
            imagined: what there was.
            real: the replay.
            params: what the model needs.
            policy: the policy.
            use: whether there is anything new.
        """
        start_key, roll_key = jax.random.split(key)

        def act(obs: Float[Array, "particles batch obs"]) -> Float[Array, "particles batch action"]:
            features = self.task.features(obs).reshape(-1, self.task.feature_size)
            action = self.learner.act(policy, features, roll_key, explore=False)
            return self.task.from_unit(action).reshape(*obs.shape[:2], -1)

        rows, sound = imagined_transitions(
            roll_key,
            self.settings.horizon,
            sample(real, start_key, self._starts).obs,
            model=self.model,
            params=params,
            particles=self.model.particles,
            act=act,
        )
        return add(imagined, rows, sound & use)


def imagined_transitions(
    key: Key[Array, ""],
    horizon: int,
    obs: Float[Array, "batch obs"],
    *,
    model: WorldModel,
    params: Params,
    particles: int,
    act: Callable[[Array], Array],
) -> tuple[Transitions, Bool[Array, "rows"]]:
    """The transitions of imagined trajectories, `horizon * particles * batch` of them.

    A step of which the model says that it ends the episode with a probability above 1/2 is the last one.

    Args:
        key: for the model's noise.
        horizon: steps of each trajectory.
        obs: where they begin.
        model: the world model.
        params: what it needs.
        particles: trajectories from each observation.
        act: observations -> actions in the environment's units.

    Returns:
        The transitions, and which of them come before the end of their trajectory and are finite.
    """
    begin_key, roll_key = jax.random.split(key)
    begin = start(model, params, obs, begin_key, particles)
    steps = rollout(model, params, begin, lambda key, obs, t: (act(obs), ()), horizon, roll_key)
    ends = steps.terminated > 0.5
    rows = Transitions(steps.obs[:-1], steps.action, steps.reward.mean(1), steps.obs[1:], ends)
    rows = jax.tree.map(lambda a: a.reshape(-1, *a.shape[3:]), rows)
    finite = jnp.isfinite(rows.reward) & jnp.isfinite(rows.next_obs).all(-1)
    return rows, (survival(ends)[0].ravel() > 0) & finite
