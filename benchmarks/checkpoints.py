"""How long a checkpoint stops training, and how long it takes to be on disk, by the size of the replay.

`python benchmarks/checkpoints.py --rows 10000 100000 1000000` saves the state of a SAC agent, `sac/default` on the
half-cheetah (observations of 17 numbers, actions of 6), whose replay is full. Between two checkpoints `--new` rows are
added. A checkpoint stops training from the call of `Saver.save` to its return; it is written in the background. What a
resumed run copies before it trains has a column of its own.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from foretell.compilation import prepare_jax
from foretell.replay import Replay, Transitions, add
from foretell.runs.directory import RunDirectory
from foretell.runs.presets import resolve
from foretell.tasks import make_task
from foretell.training.events import RunInfo
from foretell.training.saver import Saver
from foretell.training.state import RunState, init_run


def prepare(rows: int, folder: Path) -> tuple[RunInfo, RunState]:
    """A run whose replay has room for so many rows."""
    settings = resolve("sac/default", [{"task": {"env": "HalfCheetah-v5"}, "train": {"capacity": rows}}])
    task = make_task(settings.task)
    agent = settings.build(task)
    run = RunInfo(
        directory=RunDirectory(folder), preset="sac/default", seed=0, task=task, agent=agent, schedule=settings.train
    )
    return run, init_run(agent, task.spec, settings.train, 0)[0]


def some_rows(count: int, like: Transitions) -> Transitions:
    """Rows of noise."""
    noise = np.random.default_rng(0)
    return jax.tree.map(lambda a: jnp.asarray(noise.normal(size=(count, *a.shape[1:])), a.dtype), like)


def measure(rows: int, saves: int, new: int, folder: Path) -> Iterator[tuple[float, float]]:
    """Seconds for which each checkpoint stops training, and seconds until it is on disk; first those of `prepare`."""
    run, state = prepare(rows, folder)
    put = jax.jit(add, donate_argnums=0)
    assert state.replay is not None
    replay: Replay = put(state.replay, some_rows(rows, state.replay.data))
    more = some_rows(min(new, rows), replay.data)
    saver = Saver(run)
    with closing(saver):
        start = time.perf_counter()
        saver.prepare(state._replace(replay=replay))
        yield time.perf_counter() - start, 0.0
        for _ in range(saves):
            replay = jax.block_until_ready(put(replay, more))
            start = time.perf_counter()
            state = saver.save(state._replace(replay=replay), 0.0, {})
            stopped = time.perf_counter() - start
            saver._checkpoints.wait()
            yield stopped, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--saves", type=int, default=8)
    parser.add_argument("--new", type=int, default=30_000, help="rows added between two checkpoints")
    args = parser.parse_args()

    prepare_jax()
    table = Table()
    for column in ("rows", "before training, ms", "stops training, ms", "longest, ms", "on disk after, s"):
        table.add_column(column, justify="right")
    for rows in args.rows:
        with tempfile.TemporaryDirectory() as folder:
            (before, _), *found = measure(rows, args.saves, args.new, Path(folder))
        stopped, written = np.array(found).T
        times = (1000 * before, 1000 * np.median(stopped), 1000 * stopped.max())
        table.add_row(f"{rows:,}", *(f"{value:.1f}" for value in times), f"{np.median(written):.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
