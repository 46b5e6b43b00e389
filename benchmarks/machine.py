"""What this machine can do: the rate of a batched matrix multiply, measured in the process that asks."""

import os
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp

from foretell.models import LearnedModel


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
    """FLOP/s of `[members, rows, in] x [members, in, out]` in float32, which JAX lets a GPU multiply as TF32."""
    a, b = jnp.ones((members, rows, width_in)), jnp.ones((members, width_in, width_out))
    flop = 2.0 * members * rows * width_in * width_out
    if jax.default_backend() == "cpu":
        multiply = jax.jit(jnp.matmul)
        return flop / best_seconds(lambda: multiply(a, b), repeats=7, inner=max(1, round(2e9 / flop)))
    # A call takes a GPU longer than the multiplication: many of them in one program, to and fro.
    there, back, count = b / width_in, jnp.swapaxes(b, 1, 2) / width_out, max(1, round(1e12 / flop))
    chain = jax.jit(lambda a: jax.lax.fori_loop(0, count, lambda _, x: (x @ there) @ back, a))
    return 2 * count * flop / best_seconds(lambda: chain(a), repeats=7)


def machine_rate() -> float:
    """FLOP/s of one large multiply, in which all cores take part."""
    return matmul_rate(1, 2048, 2048, 2048)


def memory_rate() -> float:
    """Bytes per second of copying an array that no cache holds: what is read and what is written."""
    a = jnp.ones(32 * 2**20)
    copied = jax.jit(lambda a: a + 1.0)
    return 2.0 * a.nbytes / best_seconds(lambda: copied(a), repeats=5)


def network_flop(sizes: tuple[int, ...]) -> float:
    """Floating-point operations of one forward pass of one row: two per weight."""
    return 2.0 * sum(a * b for a, b in pairwise(sizes))


def network_sizes(model: LearnedModel) -> tuple[int, ...]:
    """Widths of the dynamics networks, input and output included."""
    task, ensemble = model.task, model.regressor
    heads = 1 + ensemble.probabilistic
    return (task.feature_size + task.spec.action_size, *ensemble.hidden, heads * task.target_size)


def describe() -> str:
    """One line that says where a table was made."""
    device = jax.devices()[0]
    return f"jax {jax.__version__} on {device.device_kind} ({device.platform})"


def measured() -> dict[str, Any]:
    """What is stored of the machine with a table."""
    return {"cores": os.cpu_count(), "matmul": machine_rate(), "memory": memory_rate(), "jax": describe()}


def sentence(machine: dict[str, Any]) -> str:
    """The same in words."""
    rates = f"{machine['matmul'] / 1e9:.0f} GFLOP/s, memory {machine['memory'] / 1e9:.1f} GB/s"
    return f"Machine: {machine['cores']} cores, matrix multiply {rates}; {machine['jax']}."
