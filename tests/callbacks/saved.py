"""A run on `tiny/Line-v0` that keeps models and predictions, and looks at them."""

import numpy as np

from tiny import TINY, tiny_run

HORIZON, PARTICLES = TINY["planner"]["horizon"], TINY["imagination"]["particles"]
SPARSE = {"planner": {"horizon": 4, "replan_every": 3}}
"""Every plan is executed for three steps."""


def train(out, *overrides, **schedule):
    return tiny_run(out, *overrides, **{"eval_episodes": 1, **schedule})


def data_of(run, episode):
    with np.load(run / "data" / f"episode_{episode:04d}.npz") as file:
        return dict(file)


def files_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
