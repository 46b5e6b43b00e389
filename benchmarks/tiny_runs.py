"""Tiny runs of all agents, for `kills.py`."""

import math
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import yaml

Work = Callable[[Path, Callable[[], None]], None]
"""What a process does: begin or continue a run in a folder, and call the function at the start of each checkpoint."""
SAVED = 0.06
"""Share of activities after which a checkpoint is written, in whatever time, besides those at the ends of trials."""
ENV = {"env": "Pendulum-v1", "horizon": 10}
PLANNED = {
    "task": ENV,
    "model": {"members": 2, "hidden": [8], "weight_decay": 0.0},
    "fit": {"min_steps": 1, "epochs": 1},
    "reward_model": {"hidden": [8]},
    "reward_fit": {"min_steps": 1, "epochs": 1},
    "imagination": {"particles": 2},
    "planner": {"horizon": 2, "population": 6, "iterations": 1, "elites": 2, "kept_elites": 0},
    "train": {"trials": 6, "random_steps": 0, "capacity": 100, "eval_episodes": 1},
}
PROCESS = {
    "task": {"horizon": 10},
    "model": {"inducing": 5},
    "fit": {"iterations": 2},
    "imagination": {"propagation": "DS", "particles": 2},
    "planner": {"horizon": 2, "population": 4, "iterations": 1, "elites": 2, "kept_elites": 0},
    "train": {"trials": 5, "capacity": 40},
}
SHOOTING = {
    "task": ENV,
    "model": {"hidden": [8], "weight_decay": [0.0, 0.0]},
    "fit": {"epochs": 1},
    "reward_model": {"hidden": [8]},
    "reward_fit": {"epochs": 1, "min_steps": 0},
    "planner": {"population": 4, "horizon": 2},
    "train": {"trials": 4, "random_episodes": 2, "capacity": 50},
}
GUIDED = {"guide": {"hidden": [8]}}
EXPANSION = {
    "task": ENV,
    "model": {"members": 2, "reward_members": 2, "hidden": [8], "aux_hidden": [8]},
    "fit": {"batch_size": 8},
    "learner": {"hidden": [8], "batch_size": 8},
    "updates": {"per_step": 0.5, "pretraining": 5},
}
STEPS = {"steps": 100, "steps_per_learning": 5, "random_steps": 20, "eval_every": 40, "log_every": 20, "capacity": 60}
STEPWISE = {"train": {**STEPS, "eval_episodes": 1}}
WITHOUT_MODEL = {name: EXPANSION[name] for name in ("task", "learner", "updates")}
WORKERS = {
    "train": {"environments": 2, "eval_environments": 2, "eval_episodes": 2, "workers": 2, "steps_per_learning": 4}
}
BRANCHED = {
    "task": ENV,
    "model": {"members": 2, "hidden": [8]},
    "fit": {"min_steps": 2, "max_steps": 4, "batch_size": 8},
    "imagination": {"particles": 2},
    "learner": {"hidden": [8], "batch_size": 8},
    "branches": {"starts": 4, "horizon": 3, "every": 2},
    "updates": {"refit_every": 10, "critic_first": 2},
    "train": {**STEPS, "eval_episodes": 1},
}
STAGES: dict[str, dict[str, Any]] = {
    "planner": {"description": "a planner", "base": "mbmpc/default", **SHOOTING},
    "imitator": {
        "description": "its imitator",
        "base": "kills/planner",
        "agent": "imitation",
        "imitation": {"demonstrations": 1},
        "policy": {"hidden": [8]},
        "policy_fit": {"epochs": 1, "batch_size": 8},
        "train": {"pretrained": "kills/planner", "trials": 4, "random_episodes": 0},
    },
    "tuner": {
        "description": "TRPO from the imitator",
        "base": "trpo/default",
        "task": ENV,
        "policy": {"hidden": [8]},
        "train": {
            "pretrained": "kills/imitator",
            "steps": 160,
            "steps_per_learning": 20,
            "environments": 2,
            "capacity": 50,
            "eval_episodes": 1,
            "eval_every": 60,
            "log_every": 20,
        },
    },
}
AGENTS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "pets": ("pets/default", [PLANNED]),
    "pets-gp": ("pets/cartpole+gp", [PROCESS]),
    "mbmpc": ("mbmpc/default", [SHOOTING]),
    "mbmpc-guided": ("mbmpc/default", [SHOOTING, GUIDED]),
    "imitation": ("kills/imitator", []),
    "staged": ("kills/tuner", []),
    "steve-ddpg": ("steve/default", [EXPANSION, STEPWISE]),
    "steve-td3": ("steve/default+td3", [EXPANSION, STEPWISE]),
    "steve-sac": ("steve/default+sac", [EXPANSION, STEPWISE]),
    "sac": ("sac/default", [WITHOUT_MODEL, STEPWISE]),
    "dhmbpo": ("dhmbpo/default", [BRANCHED]),
    "workers": ("sac/default", [WITHOUT_MODEL, STEPWISE, WORKERS]),
}
"""The preset and the settings of each agent; `staged` is MB-MPC, its imitation and TRPO, `imitation` the first two."""


@contextmanager
def staged_presets() -> Iterator[None]:
    """Foretell with the stages among its presets."""
    from foretell.runs import parts, presets

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "presets"
        shutil.copytree(str(resources.files("foretell") / "presets"), folder)
        (folder / "kills").mkdir()
        for name, tree in STAGES.items():
            (folder / "kills" / f"{name}.yaml").write_text(yaml.safe_dump(tree))
        presets.PRESETS = folder
        presets.PARTS = parts.PARTS = folder / "parts"
        yield


def trains(agent: str, seed: int) -> Work:
    """Training an agent, and writing what it has learned at the end."""

    def work(folder: Path, saving: Callable[[], None]) -> None:
        import jax
        import numpy as np

        from foretell import api
        from foretell.callbacks import curve
        from foretell.training.saver import Saver
        from foretell.training.stopwatch import Stopwatch

        save, moments = Saver.save, random.Random()
        Saver.save = lambda self, *args: (saving(), save(self, *args))[1]  # type: ignore[method-assign]
        Stopwatch.since_saved = property(lambda self: math.inf if moments.random() < SAVED else 0.0)  # type: ignore
        curve.draw_learning_curve = lambda *args, **options: None  # it takes longer than the run
        preset, overrides = AGENTS[agent]
        if (folder / "run" / "config.yaml").exists():
            run = api.resume(folder / "run", quiet=True)
        else:
            run = api.train(preset, out=folder / "run", seed=seed, overrides=overrides, quiet=True)
        np.savez(folder / "learned.npz", *map(np.asarray, jax.tree.leaves(run._controller.state)))

    return work


def prepare() -> None:
    """Import what runs need, and keep all their programs in the compilation cache; JAX does not begin to work."""
    for name in ("foretell.api", "foretell.envs.workers", "gymnasium.envs.classic_control.pendulum"):
        import_module(name)
    import jax

    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
