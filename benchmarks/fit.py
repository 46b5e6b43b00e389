"""Speed of training an ensemble: `python benchmarks/fit.py [PRESET ...]`.

For each preset and size of data: the time of one gradient step (all members, batch sampling and Adam included) and its
rate as a share of this machine's own matrix-multiply rate at the shapes of the hidden layers, forward and backward
counted as three forward passes.
"""

import argparse

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from foretell.compilation import COMPILER_OPTIONS
from foretell.keys import Stream, key_for
from foretell.replay import Transitions, add
from foretell.runs.presets import resolve
from foretell.tasks import make_task
from foretell.training.state import init_run
from machine import best_seconds, describe, matmul_rate, network_flop, network_sizes


def measure(preset: str, rows: int, repeats: int) -> list[str]:
    settings = resolve(preset, [{"fit": {"min_steps": 200, "max_steps": 200}}])
    task = make_task(settings.task)
    agent = settings.build(task)
    run, _ = init_run(agent, task.spec, settings.train, 0)
    generator = np.random.default_rng(0)
    obs = generator.normal(size=(rows + 1, task.spec.obs_size)).astype(np.float32)
    action = generator.normal(size=(rows, task.spec.action_size)).astype(np.float32)
    zeros = np.zeros(rows, np.float32)
    replay = jax.jit(add)(run.replay, Transitions(obs[:-1], action, zeros, obs[1:], zeros > 0))

    def learn(state, replay, call):
        return agent.learn(state, replay, key_for(0, Stream.LEARN, call))[0]

    sizes = network_sizes(agent.model)
    batch, members = settings.fit.batch_size, settings.model.members
    limit = matmul_rate(members, batch, sizes[1], sizes[2])
    program = jax.jit(learn, compiler_options=COMPILER_OPTIONS)
    seconds = best_seconds(lambda: program(run.agent, replay, np.int32(0)), repeats=repeats) / 200
    rate = 3.0 * members * batch * network_flop(sizes) / seconds
    limit = max(limit, matmul_rate(members, batch, sizes[1], sizes[2]))  # clocks vary from minute to minute
    return [
        preset,
        f"{rows:,}",
        f"{1e3 * seconds:.3f}",
        f"{rate / 1e9:.0f}",
        f"{limit / 1e9:.0f}",
        f"{100 * rate / limit:.0f} %",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", default=["pets/cartpole", "pets/cartpole-paper"])
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    table = Table(title=f"one gradient step, {describe()}")
    for column in ("preset", "rows", "ms", "GFLOP/s", "matmul GFLOP/s", "share"):
        table.add_column(column, justify="left" if column == "preset" else "right")
    for preset in args.presets:
        for rows in (200, 2000):
            table.add_row(*measure(preset, rows, args.repeats))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
