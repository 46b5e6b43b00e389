"""A run on `tiny/Line-v0` that keeps models and predictions, and looks at them."""

import numpy as np

import foretell
from tiny import LINE, TINY

HORIZON, PARTICLES = TINY["planner"]["horizon"], TINY["imagination"]["particles"]
SPARSE = {"planner": {"horizon": 4, "replan_every": 3}}
"""Every plan is executed for three steps."""


def train(out, *overrides, callbacks=(), **schedule):
    changes = [TINY, {"train": {"eval_episodes": 1, **schedule}}, *overrides]
    return foretell.train("pets/default", out=out, env=LINE, overrides=changes, quiet=True, callbacks=callbacks)


def data_of(run, episode):
    with np.load(run / "data" / f"episode_{episode:04d}.npz") as file:
        return dict(file)


def files_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
