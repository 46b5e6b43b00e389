"""What this machine can do: the rate of a batched matrix multiply, measured in the process that asks."""

import time
from collections.abc import Callable
from itertools import pairwise

import jax

from foretell.worldmodel import WorldModel


def best_seconds(call: Callable[[], object], *, repeats: int, inner: int = 1) -> float:
    """Shortest of `repeats` timings of `inner` calls, per call; the first call, which compiles, is not timed."""
    jax.block_until_ready(call())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(inner):
            out = call()
        jax.block_until_ready(out)
        times.append((time.perf_counter() - start) / inner)
    return min(times)


def matmul_rate(members: int, rows: int, width_in: int, width_out: int) -> float:
    """FLOP/s of `[members, rows, in] x [members, in, out]` in float32, to and fro in one program.

    On a GPU JAX lets float32 matrices be multiplied as TF32, here as everywhere.
    """
    keys = jax.random.split(jax.random.key(0), 3)
    a = jax.random.normal(keys[0], (members, rows, width_in))
    there = jax.random.normal(keys[1], (members, width_in, width_out)) / width_in**0.5
    back = jax.random.normal(keys[2], (members, width_out, width_in)) / width_out**0.5
    flop = 4.0 * members * rows * width_in * width_out
    inner = max(1, round((2e9 if jax.default_backend() == "cpu" else 2e12) / flop))
    multiply = jax.jit(lambda a: jax.lax.fori_loop(0, inner, lambda _, x: (x @ there) @ back, a))
    return inner * flop / best_seconds(lambda: multiply(a), repeats=7)


def network_flop(sizes: tuple[int, ...]) -> float:
    """Floating-point operations of one forward pass of one row: two per weight."""
    return 2.0 * sum(a * b for a, b in pairwise(sizes))


def network_sizes(world: WorldModel) -> tuple[int, ...]:
    """Widths of the dynamics networks, input and output included."""
    task, model = world.task, world.model
    heads = 1 + model.probabilistic
    return (task.feature_size + task.spec.action_size, *model.hidden, heads * task.target_size)


def describe() -> str:
    """One line that says where a table was made."""
    device = jax.devices()[0]
    return f"jax {jax.__version__} on {device.device_kind} ({device.platform})"
