"""`predictions/`: the trajectories that plans were expected to lead to."""

from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from foretell.agents import Agent
from foretell.agents.base import Extras, State
from foretell.errors import UserError
from foretell.keys import Stream, key_for
from foretell.models import open_loop, rollout, start
from foretell.models.true import TrueModel
from foretell.runs.directory import RunDirectory, writing
from foretell.tasks import TaskSpec
from foretell.training.events import Callback, EpisodeEnded, StepTaken, TrainingStarted


class Predictions(Callback):
    """Saves what was expected of every plan, one file per episode, of a run with a single environment.

    A file holds `predictions` `[plans, horizon + 1, particles, obs]`, or `means` and `vars` over particles
    `[plans, horizon + 1, obs]`. Plans of episodes under way are kept in files of their own, and survive a resume.
    """

    def __init__(self, agent: Agent, spec: TaskSpec, which: Literal["moments", "particles"]) -> None:
        """Check that the agent's plans can be imagined.

        Args:
            agent: the run's.
            spec: the task's.
            which: what to keep of the particles.

        Raises:
            UserError: if the agent does not plan with a learned model.
        """
        model = getattr(agent, "model", None)
        if model is None or isinstance(model, TrueModel) or not _plans(agent, spec):
            raise UserError("train.log_predictions needs an agent that plans with a learned model; set it to none")
        self._which = which
        self._stride = getattr(getattr(agent, "planner", None), "replan_every", 1)
        self._imagine = jax.jit(partial(_imagine, agent))

    def on_training_start(self, event: TrainingStarted) -> None:
        """Remove plans that were made after the checkpoint from which the run continues."""
        directory, episodes = event.run.directory, event.episodes
        made = -(-int(episodes.length[0]) // self._stride)
        kept = {_plan_path(directory, int(episodes.number[0]), i) for i in range(made)}
        with writing(directory.predictions):
            directory.predictions.mkdir(exist_ok=True)
            for path in directory.predictions.glob("plan_*.npy"):
                if path not in kept:
                    path.unlink()

    def on_step(self, event: StepTaken) -> None:
        number, t = int(event.episodes.number[0]), int(event.episodes.length[0]) - 1
        if "plan" not in event.extras or t % self._stride:
            return
        obs = np.float32(event.episodes.obs[:, t])
        numbers = np.int32(event.run.seed), np.int32(number), np.int32(t)
        expected = np.asarray(self._imagine(event.state, event.extras["plan"], obs, *numbers))
        path = _plan_path(event.run.directory, number, t // self._stride)
        with writing(path):
            np.save(path, expected)

    def on_episode_end(self, event: EpisodeEnded) -> None:
        folder, number = event.run.directory.predictions, event.row["episode"]
        plans = sorted(folder.glob(f"plan_{number:04d}_*.npy"))
        if not plans:
            return
        path = folder / f"episode_{number:04d}.npz"
        with writing(path):
            np.savez(path, **self._summary(np.stack([np.load(file) for file in plans])))
            for file in plans:
                file.unlink()

    def _summary(self, particles: Float[np.ndarray, "plans times particles obs"]) -> dict[str, Any]:
        if self._which == "particles":
            return {"predictions": particles}
        return {"means": particles.mean(2), "vars": particles.var(2)}


def _plan_path(directory: RunDirectory, episode: int, number: int) -> Path:
    return directory.predictions / f"plan_{episode:04d}_{number:05d}.npy"


def _plans(agent: Agent, spec: TaskSpec) -> bool:
    """Whether the agent's acting returns its plan; nothing is computed."""

    def act(obs: Float[Array, "1 obs"], seed: Int[Array, ""]) -> Extras:
        key = jax.random.key(seed)
        params = agent.policy(agent.init(key))
        return agent.act(params, agent.begin(params, obs, key), obs, key, explore=True)[2]

    return "plan" in jax.eval_shape(act, jnp.zeros((1, spec.obs_size)), 0)


def _imagine(
    agent: Agent,
    state: State,
    plan: Float[Array, "1 horizon action"],
    obs: Float[Array, "1 obs"],
    seed: Int[Array, ""],
    episode: Int[Array, ""],
    t: Int[Array, ""],
) -> Float[Array, "times particles obs"]:
    """The trajectories that the agent's model expects of a plan."""
    model, params = agent.model, agent.model_params(state)
    assert model is not None
    start_key, roll_key = jax.random.split(key_for(seed, Stream.IMAGINE, episode, t))
    begin = start(model, params, obs, start_key, model.particles)
    trajectory = rollout(model, params, begin, open_loop(plan, model.particles), plan.shape[1], roll_key)
    return trajectory.obs[:, :, 0]
