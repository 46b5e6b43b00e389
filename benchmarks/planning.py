"""Speed of one control step: `python benchmarks/planning.py [PRESET ...]`.

For each preset: the time of one whole plan, the rate of its network evaluations as a share of this machine's own
matrix-multiply rate at the same shapes, the time to compile the plan from nothing and from the persistent cache, and
how many times faster it is with operands of 16 bits (`model.operands=bfloat16`): best times, taken in turns.
"""

import argparse
import tempfile
import time
from typing import NamedTuple

import jax
from rich.console import Console
from rich.table import Table

from foretell.compilation import COMPILER_OPTIONS
from machine import best_seconds, describe, matmul_rate, network_flop, network_sizes
from racing.prepare import planned


def measure(preset: str, repeats: int) -> list[str]:
    act, arguments, flop, shape, agent = planned(preset)
    cold = compile_seconds(act, arguments)
    cached = compile_seconds(act, arguments)
    program = jax.jit(act, compiler_options=COMPILER_OPTIONS).lower(*arguments).compile()
    limit = matmul_rate(*shape)
    seconds = best_seconds(lambda: program(*arguments), repeats=repeats, inner=1 if cold.plan > 0.1 else 100)
    limit = max(limit, matmul_rate(*shape))  # clocks vary from minute to minute
    evaluations = round(flop / network_flop(network_sizes(agent.model)))
    rate = flop / seconds
    return [
        preset,
        f"{1e3 * seconds:,.2f}",
        f"{evaluations:,}",
        f"{rate / 1e9:.0f}",
        f"{limit / 1e9:.0f}",
        f"{100 * rate / limit:.0f} %",
        f"{cold.compile:.2f}",
        f"{cached.compile:.2f}",
        f"{gain(preset, repeats):.2f}",
    ]


def gain(preset: str, repeats: int) -> float:
    """Time of a plan divided by that with operands of 16 bits."""
    best = dict.fromkeys(("float32", "bfloat16"), float("inf"))
    plans = {kind: planned(preset, {"model": {"operands": kind}}) for kind in best}
    programs = {kind: jax.jit(plan.function, compiler_options=COMPILER_OPTIONS) for kind, plan in plans.items()}
    for _ in range(repeats):
        for kind, (_, arguments, *_) in plans.items():
            seconds = best_seconds(lambda: programs[kind](*arguments), repeats=1, inner=3)  # noqa: B023
            best[kind] = min(best[kind], seconds)
    return best["float32"] / best["bfloat16"]


class Timing(NamedTuple):
    """Seconds to trace and compile, and of the first plan."""

    compile: float
    plan: float


def compile_seconds(act, arguments) -> Timing:
    """Compile as a new process would, from the persistent cache where it is there."""
    jax.clear_caches()
    start = time.perf_counter()
    program = jax.jit(lambda *args: act(*args), compiler_options=COMPILER_OPTIONS).lower(*arguments).compile()
    compiled = time.perf_counter()
    jax.block_until_ready(program(*arguments))
    return Timing(compiled - start, time.perf_counter() - compiled)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", default=["pets/cartpole", "pets/cartpole-paper"])
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        table = Table(title=f"one control step, {describe()}")
        for column in (
            "preset",
            "ms",
            "evaluations",
            "GFLOP/s",
            "matmul GFLOP/s",
            "share",
            "compile s",
            "from cache s",
            "16 bits",
        ):
            table.add_column(column, justify="left" if column == "preset" else "right")
        for preset in args.presets:
            table.add_row(*measure(preset, args.repeats))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
