"""Where the trials of runs went, beside the path they were to follow.

`python benchmarks/paths.py RUN_DIR ... --out docs/results/paths.png` draws a panel for each run of `mbmpc/*-path`, and
prints how far along its path each came and how far off it was.
"""

import argparse
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from foretell import UserError
from foretell.runs.directory import RunDirectory
from foretell.tasks import make_task
from foretell.tasks.base import Follows
from foretell.tasks.nagabandi import FollowingTask, HalfCheetah
from foretell.tasks.waypoints import follow


def walk(task: FollowingTask, obs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions relative to the start, distances from the path, and the segments they are on."""
    route = task.routes[task.path][0]
    place = obs[:, list(task.position)]
    progress, distances, segments = task.start_progress(jnp.float32(obs[0])), [], []
    for position in place:
        followed = follow(route, progress, jnp.float32(position))
        progress = followed.progress
        distances.append(float(followed.distance))
        segments.append(int(progress.segment))
    return place - place[0], np.array(distances), np.array(segments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    args = parser.parse_args()
    figure = Figure(figsize=(3.6 * len(args.runs), 3.4), dpi=120, layout="constrained")
    table = Table("run", "path", "segments", "mean distance, m", "greatest, m")
    for axes, path in zip(np.atleast_1d(figure.subplots(1, len(args.runs))), args.runs, strict=True):
        run = RunDirectory.open(path)
        task = make_task(run.read_config()[0].task)
        if not isinstance(task, Follows):
            raise UserError(f"'{path}' follows no path")
        points = task.routes[task.path][0].start[: task.segments + 1]
        planar = not isinstance(task, HalfCheetah)  # which has no y
        ends, means, greatest = [], [], []
        for row in run.read_episodes():
            if row["kind"] != "train":
                continue
            place, distance, segment = walk(task, run.read_episode(row["episode"])["observations"])
            within = segment <= task.segments
            along, across = (
                (place[within, 0], place[within, 1]) if planar else (np.flatnonzero(within), place[within, 0])
            )
            axes.plot(along, across, lw=0.8, alpha=0.7)
            ends.append(min(int(segment[-1]), task.segments))
            means.append(distance[within].mean())
            greatest.append(distance[within].max())
        axes.set_title(f"{task.spec.env_id.split('/')[1]}: {task.path}", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        if planar:
            axes.plot(*points.T, "k--o", ms=3, lw=0.8)
            axes.set(xlabel="x (m)", ylabel="y (m)")
            axes.set_aspect("equal", adjustable="datalim")
        else:
            for x in points[:, 0]:
                axes.axhline(x, color="k", ls="--", lw=0.5)
            axes.set(xlabel="steps", ylabel="x (m)")
        numbers = (f"{np.mean(ends):.1f} of {task.segments}", f"{np.mean(means):.3f}", f"{np.max(greatest):.3f}")
        table.add_row(str(path), task.path, *numbers)
    figure.savefig(args.out)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
