"""Observers that keep more of a run than its returns: every model, and what the planner expected."""

from functools import partial
from pathlib import Path
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from foretell.agents import Agent, Schedule
from foretell.agents.base import Imagines, Memory, Publishes, State
from foretell.errors import UserError, brief
from foretell.tasks import Task
from foretell.tasks.base import Follows
from foretell.training.directory import append_row, truncate_rows, writing
from foretell.training.loop import Loop
from foretell.training.observer import Observer
from foretell.training.state import Stream, key_for


class Models(Observer):
    """Saves the agent that acted in each trial, as `models/trial_0001.eqx` and so on."""

    def finished_episode(self, loop: Loop, row: dict[str, Any]) -> None:
        if row["kind"] == "train":
            path = model_path(loop.directory.models, int(loop.state.counters.trials))
            with writing(path):
                path.parent.mkdir(exist_ok=True)
                eqx.tree_serialise_leaves(path, loop.state.agent)


def model_path(folder: Path, trial: int) -> Path:
    return folder / f"trial_{trial:04d}.eqx"


def load_model(path: Path, like: State) -> State:
    """The agent saved at `path`, in the structure of `like`. Raises `UserError`."""
    try:
        return eqx.tree_deserialise_leaves(path, like)
    except FileNotFoundError:
        there = sorted(file.stem for file in path.parent.glob("trial_*.eqx"))
        said = f"there are {there[0]} to {there[-1]}" if there else "none were saved (train.save_all_models)"
        raise UserError(f"no model '{path}'; {said}") from None
    except (OSError, ValueError, RuntimeError, EOFError) as error:
        raise UserError(f"cannot read the model '{path}' ({brief(error)})") from error


class Greedy(Observer):
    """Keeps `greedy.csv`, as the released STEVE did, for tools that read it.

    A line for each evaluation episode, without header: hours, epoch (policies published), environment steps, score.
    """

    def __init__(self, agent: Publishes) -> None:
        self._agent = agent

    def started(self, loop: Loop) -> None:
        """Forget what was written after the checkpoint from which the run continues."""
        path, kept = loop.directory.greedy, sum(row["kind"] == "eval" for row in loop.directory.read_episodes())
        with writing(path):
            if path.exists():
                path.write_text("".join(path.read_text().splitlines(keepends=True)[:kept]))

    def finished_episode(self, loop: Loop, row: dict[str, Any]) -> None:
        if row["kind"] != "eval":
            return
        epoch = int(self._agent.epoch(loop.state.agent))
        with writing(loop.directory.greedy), loop.directory.greedy.open("a") as file:
            file.write(f"{loop.seconds / 3600:.6f},{epoch},{row['env_steps']},{row['return']:.6f}\n")


class Iterations(Observer):
    """Keeps `log.txt`, as homework 4 of CS294-112 did: costs and returns of the trials of each iteration.

    An iteration is what lies between two calls of `learn`. The cost of a trial is minus what plans are judged by along
    its real observations, not a number where that is learned or a path is followed. Deviations are the population's.
    """

    def __init__(self, task: Task, schedule: Schedule) -> None:
        self._reward = None if isinstance(task, Follows) else task.reward
        self._size = schedule.episodes_per_learning * schedule.environments

    def started(self, loop: Loop) -> None:
        """Forget what was written after the checkpoint from which the run continues."""
        truncate_rows(loop.directory.log, int(loop.state.counters.trials) // self._size)

    def finished_episode(self, loop: Loop, row: dict[str, Any]) -> None:
        trials = int(loop.state.counters.trials)
        if row["kind"] != "train" or trials % self._size:
            return
        rows = [row for row in loop.directory.read_episodes() if row["kind"] == "train"][-self._size :]
        costs = [self._cost(loop.directory.read_episode(row["episode"])) for row in rows]
        line: dict[str, Any] = {"Iteration": trials // self._size - 1}
        for name, values in (("Cost", costs), ("Return", [row["return"] for row in rows])):
            four = (np.mean(values), np.std(values), np.min(values), np.max(values))
            line |= {
                f"{what}{name}": f"{v:.6g}"
                for what, v in zip(("Average", "Std", "Minimum", "Maximum"), four, strict=True)
            }
        append_row(loop.directory.log, line, delimiter="\t")

    def _cost(self, episode: dict[str, np.ndarray]) -> float:
        if self._reward is None:
            return np.nan
        obs, actions = jnp.float32(episode["observations"]), jnp.float32(episode["actions"])
        return -float(self._reward(obs[:-1], actions, obs[1:]).sum())


class Predictions(Observer):
    """Saves the trajectories that were expected of every plan, one file of `predictions/` per episode.

    A file holds `predictions` `[plans, horizon + 1, particles, obs]`, or `means` and `vars` over particles
    `[plans, horizon + 1, obs]`. Plans of an unfinished episode are kept aside, and survive a resume.
    """

    def __init__(self, agent: Agent, which: Literal["moments", "particles"]) -> None:
        """Raises `UserError` if the agent does not imagine."""
        if not isinstance(agent, Imagines):
            raise UserError("train.log_predictions needs an agent that plans with a learned model; set it to none")
        self._which, self._stride = which, agent.planner.replan_every
        self._imagine = jax.jit(partial(_imagine, agent))

    def started(self, loop: Loop) -> None:
        folder = self._folder(loop)
        with writing(folder):
            folder.mkdir(exist_ok=True)
            kept = -(-int(loop.episodes.length[0]) // self._stride)
            for file in folder.glob("plan_*.npy"):
                if int(file.stem.split("_")[1]) >= kept:
                    file.unlink()

    def stepped(self, loop: Loop) -> None:
        t = int(loop.episodes.length[0]) - 1
        if loop.kind == "random" or t % self._stride:
            return
        episodes = loop.episodes
        numbers = (np.int32(number) for number in (loop.seed, episodes.number[0], t))
        expected = self._imagine(loop.state.agent, loop.memory, np.float32(episodes.obs[0, t]), *numbers)
        path = self._folder(loop) / f"plan_{t // self._stride:05d}.npy"
        with writing(path):
            np.save(path, np.asarray(expected))

    def finished_episode(self, loop: Loop, row: dict[str, Any]) -> None:
        plans = sorted(self._folder(loop).glob("plan_*.npy"))
        if not plans:
            return
        particles = np.stack([np.load(file) for file in plans])
        path = self._folder(loop) / f"episode_{row['episode']:04d}.npz"
        with writing(path):
            if self._which == "particles":
                np.savez(path, predictions=particles)
            else:
                np.savez(path, means=particles.mean(2), vars=particles.var(2))
            for file in plans:
                file.unlink()

    def _folder(self, loop: Loop) -> Path:
        return loop.directory.predictions


def _imagine(
    agent: Imagines,
    state: State,
    memory: Memory,
    obs: Float[Array, "obs"],
    seed: Int[Array, ""],
    episode: Int[Array, ""],
    t: Int[Array, ""],
) -> Float[Array, "times particles obs"]:
    return agent.imagine(state, memory, obs[None], key_for(seed, Stream.IMAGINE, episode, t))[0]
