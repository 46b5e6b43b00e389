"""Random keys. No generator's state is ever stored: each key follows from the seed, a stream and counters.

A key can then neither be used twice by accident nor be lost between checkpoints.
"""

from enum import IntEnum

import jax
import numpy as np
from jaxtyping import Array, Key


class Stream(IntEnum):
    """What a random key is for."""

    INIT = 0
    ACT = 1
    LEARN = 2
    RANDOM = 3
    ENVIRONMENT = 4
    EVALUATION = 5
    IMAGINE = 6
    BEGIN = 7
    DIAGNOSE = 8


def key_for(seed: int | Array, stream: Stream, *counters: int | Array) -> Key[Array, ""]:
    """The key for one use.

    Args:
        seed: the run's seed.
        stream: what the key is for.
        counters: numbers that distinguish the uses of one stream, such as episode and time step.
    """
    key = jax.random.fold_in(jax.random.key(seed), stream)
    for counter in counters:
        key = jax.random.fold_in(key, counter)
    return key


def numpy_generator(seed: int, stream: Stream, *counters: int) -> np.random.Generator:
    """As `key_for`, for draws on the host."""
    return np.random.default_rng([seed, stream, *counters])


def environment_seed(seed: int, episode: int) -> int:
    """The seed with which an environment is reset for an episode of a run."""
    return int(numpy_generator(seed, Stream.ENVIRONMENT, episode).integers(2**31))
