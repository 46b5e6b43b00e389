"""Speed of training an ensemble: `python benchmarks/fit.py [PRESET ...]`.

For each preset and size of data: the time of one gradient step (all members, batch sampling and Adam included) and its
rate as a share of this machine's own matrix-multiply rate at the shapes of the hidden layers, forward and backward
counted as three forward passes.
"""

import argparse

import jax
from rich.console import Console
from rich.table import Table

from foretell.compilation import COMPILER_OPTIONS
from machine import best_seconds, describe, matmul_rate
from racing.prepare import fitted


def measure(preset: str, rows: int, repeats: int) -> list[str]:
    prepared = fitted(preset, rows, {"fit": {"min_steps": 200, "max_steps": 200}})
    limit = matmul_rate(*prepared.shape)
    program = jax.jit(prepared.function, compiler_options=COMPILER_OPTIONS)
    seconds = best_seconds(lambda: program(*prepared.arguments), repeats=repeats) / 200
    rate = prepared.flop / seconds
    limit = max(limit, matmul_rate(*prepared.shape))  # clocks vary from minute to minute
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
