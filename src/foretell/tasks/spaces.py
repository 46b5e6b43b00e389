"""Conversion between an environment's spaces and flat vectors.

Dictionaries, tuples, matrices and binary numbers are flattened; discrete numbers become one-hot vectors, as in
`gymnasium.spaces.flatten`. Leading axes are kept, so a batch is converted like a single observation.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from jaxtyping import Float

from foretell.errors import UserError

Bound = Sequence[float] | np.ndarray
"""The lower or upper bound of each entry of an action."""
LARGEST = 1e9
"""Larger bounds of actions count as unbounded: planners could not compute with their squares."""
_SIDE = 32
"""A box with two axes of at least this length is an image."""
_SHOWN = 80
"""Characters of a value in a message."""
_CHOICES = 10_000
"""Discrete observations with more values are refused: each value would be an entry of the vector."""


class Leaf(NamedTuple):
    """A simple space, possibly nested in other spaces."""

    space: gymnasium.Space
    name: str
    path: tuple[Any, ...]
    """The keys that lead to it."""


class Spaces:
    """The observation and action spaces of an environment, as flat vectors."""

    def __init__(self, observation: Any, action: Any, name: str) -> None:
        """Read the spaces of the environment of this name. Raises `UserError` if they are not supported."""
        _check_kind("observation_space", observation, name)
        _check_kind("action_space", action, name)
        self.observation, self.action = observation, action
        self._parts = list(_leaves(observation, "obs"))
        self.obs_names = _distinct(entry for leaf in self._parts for entry in _entries(leaf, name))
        if not self.obs_names:
            raise UserError(f"'{name}' has observations of shape {observation.shape}, which hold no numbers")
        boxes = [_real(leaf.space, name) for leaf in _leaves(action, "action")]
        self.dtype = np.result_type(*(box.dtype for box in boxes), np.float16)
        self.low, self.high = (
            np.concatenate([np.ravel(getattr(box, end)) for box in boxes] or [np.zeros(0)]).astype(self.dtype)
            for end in ("low", "high")
        )
        if not self.low.size:
            raise UserError(f"'{name}' has actions of shape {action.shape}, which hold no numbers")
        if not (self.low <= self.high).all():
            i = int(np.argmin(self.low <= self.high))
            raise UserError(
                f"'{name}' has the bounds {self.low[i]:g} and {self.high[i]:g} for entry {i} of its actions, but the "
                "lower one must be a number that is not above the upper one"
            )
        self.free = self.low < self.high
        """Entries of an action that can be chosen; the lower and upper bounds of the others are equal."""
        if not self.free.any():
            raise UserError(f"'{name}' has no action to choose: the lower and upper bounds of all actions are equal")

    def vector(self, obs: Any) -> Float[np.ndarray, "*batch obs"]:
        """A copy of an observation as a vector. Raises `ValueError` if it is not in its space."""
        return np.concatenate([_flat(leaf, _at(obs, leaf)) for leaf in self._parts], -1)

    def rows(self, obs: Any) -> Any:
        """An observation, or a batch of observations, as vectors; a value that is a vector already stays as it is.

        Raises `ValueError` if a nested observation is not in its space.
        """
        if isinstance(self.observation, Box) and len(self.observation.shape) == 1:
            return obs
        flat = not isinstance(obs, Mapping | tuple) and np.ndim(obs) in (1, 2) and np.shape(obs)[-1] == self.obs_size
        return obs if flat and np.shape(obs) != self.observation.shape else self.vector(obs)

    @property
    def obs_size(self) -> int:
        return len(self.obs_names)

    def native(self, action: Float[np.ndarray, "*batch action"], low: Bound, high: Bound) -> Any:
        """The action within these bounds that is nearest to a vector, in the environment's own shape and precision."""
        own = np.array(action).astype(self.dtype)
        own = np.clip(own, np.asarray(low, self.dtype), np.asarray(high, self.dtype))
        if own.shape[-1] != self.free.size:
            whole = np.broadcast_to(self.low, (*own.shape[:-1], self.free.size)).copy()
            whole[..., self.free] = own
            own = whole
        return _built(self.action, own)


def real_array(value: Any) -> np.ndarray:
    """A copy of a value as an array of real numbers, whether they are Python's, NumPy's or those of another library.

    Masked entries become NaN. Raises `ValueError` if it has anything else.
    """
    if hasattr(value, "detach"):  # a tensor of PyTorch, maybe on another device and within a graph of gradients
        value = value.detach().cpu()
    if isinstance(value, np.ma.MaskedArray):
        value = np.ma.filled(value.astype(np.float64), np.nan)
    found = np.array(value)
    if found.dtype.kind == "O" and all(hasattr(part, "__float__") for part in found.flat):
        found = found.astype(np.float64)
    if found.dtype.kind not in "biuf":
        raise ValueError(f"{brief_value(value)} is not made of real numbers")
    return found


def brief_value(value: object) -> str:
    """A value as it is shown in messages."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _check_kind(role: str, space: object, env: str) -> None:
    """Raises `UserError` if this is none of Gymnasium's spaces."""
    if space is None:
        raise UserError(f"'{env}' has no {role}; set it to one of gymnasium.spaces")
    if not isinstance(space, gymnasium.Space):
        kind = f"{type(space).__module__}.{type(space).__name__}".removeprefix("builtins.")
        raise UserError(f"'{env}' has an {role} of type {kind}, but it must be one of gymnasium.spaces")


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    """The names, with a number behind those that were there before."""
    counts: dict[str, int] = {}
    found = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        found.append(name if counts[name] == 1 else f"{name}#{counts[name]}")
    return tuple(found)


def _leaves(space: gymnasium.Space, name: str, path: tuple[Any, ...] = ()) -> Iterator[Leaf]:
    """The simple spaces in a nested space, each with its name."""
    if isinstance(space, Dict):
        for key, part in space.spaces.items():
            yield from _leaves(part, f"{name}.{key}" if path else str(key), (*path, key))
    elif isinstance(space, Tuple):
        for i, part in enumerate(space.spaces):
            yield from _leaves(part, f"{name}[{i}]", (*path, i))
    else:
        yield Leaf(space, name, path)


def _entries(leaf: Leaf, env: str) -> list[str]:
    """The names of a simple space's vector entries. Raises `UserError` if it cannot be a vector of fixed size."""
    space, name = leaf.space, leaf.name
    if isinstance(space, Discrete | MultiDiscrete) and (count := int(np.sum(_counts(space)))) > _CHOICES:
        raise UserError(
            f"'{env}' has {count} discrete observations ('{name}'), but each is an entry of the vector, of which there "
            f"may be {_CHOICES}; use a wrapper that observes numbers"
        )
    if isinstance(space, Discrete):
        return [f"{name}={int(space.start) + value}" for value in range(int(space.n))]
    if isinstance(space, MultiDiscrete):
        starts = np.broadcast_to(space.start, space.shape)
        at = zip(np.ndindex(space.shape), np.ravel(space.nvec), np.ravel(starts), strict=True)
        return [f"{name}{_index(i)}={start + value}" for i, count, start in at for value in range(count)]
    if not isinstance(space, Box | MultiBinary):
        kind = type(space).__name__
        raise UserError(f"'{env}' has observations of type {kind} ('{name}'), which cannot be a vector of fixed size")
    if _is_image(space):
        raise UserError(
            f"'{env}' observes images ('{name}' of shape {space.shape}), but Foretell's models learn from states, that "
            "is vectors; use an environment or a wrapper whose observations are its state"
        )
    if np.issubdtype(space.dtype, np.complexfloating):
        raise UserError(f"'{env}' has observations of type {space.dtype} ('{name}'), but they must be real numbers")
    return [f"{name}{_index(i)}" for i in np.ndindex(space.shape)]


def _counts(space: Discrete | MultiDiscrete) -> np.ndarray:
    """The number of values of each entry."""
    return np.ravel(space.n if isinstance(space, Discrete) else space.nvec).astype(np.float64)


def _index(place: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, place))}]" if place else ""


def _is_image(space: gymnasium.Space) -> bool:
    shape = space.shape or ()
    return len(shape) > 1 and (space.dtype == np.uint8 or sorted(shape)[-2] >= _SIDE)


def _real(space: gymnasium.Space, env: str) -> Box:
    """The space, if its values are real numbers. Raises `UserError`."""
    if isinstance(space, Discrete | MultiDiscrete | MultiBinary):
        raise UserError(
            f"'{env}' has discrete actions ({space}), but Foretell's planners and policies choose real numbers"
        )
    if not isinstance(space, Box):
        raise UserError(f"'{env}' has actions of type {type(space).__name__}, but only real numbers are supported")
    if not np.issubdtype(space.dtype, np.floating):
        raise UserError(f"'{env}' has actions of type {space.dtype}, but only real numbers are supported")
    return space


def _at(obs: Any, leaf: Leaf) -> Any:
    """The part of an observation that belongs to a leaf."""
    for key in leaf.path:
        try:
            obs = obs[key]
        except (KeyError, IndexError, TypeError):
            raise ValueError(f"the observation has no '{leaf.name}'") from None
    return obs


def _flat(leaf: Leaf, value: Any) -> Float[np.ndarray, "*batch part"]:
    """A copy of a simple space's value as a vector, in double precision."""
    space = leaf.space
    try:
        found = real_array(value)
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"the observation {brief_value(value)} is not made of real numbers") from None
    shape = tuple(space.shape or ())
    batch = found.shape[: found.ndim - len(shape)]
    if found.shape != batch + shape:
        what = "the observation" if not leaf.path else f"'{leaf.name}' of the observation"
        raise ValueError(f"{what} has shape {found.shape}, but its space has shape {shape}")
    if isinstance(space, Discrete | MultiDiscrete):
        counts = _counts(space)
        chosen = (found - space.start).reshape(*batch, -1)
        if not ((chosen >= 0) & (chosen < counts) & (chosen == np.floor(chosen))).all():
            raise ValueError(f"the observation {brief_value(value)} is not in {space}")
        hot = [chosen[..., i, None] == np.arange(count) for i, count in enumerate(counts)]
        return np.concatenate(hot, -1).astype(np.float64)
    return found.astype(np.float64).reshape(*batch, -1)


def _built(space: gymnasium.Space, flat: np.ndarray) -> Any:
    """A value of a (nested) space of boxes from the flat vector of its entries."""
    if isinstance(space, Dict | Tuple):
        parts = list(space.spaces.values()) if isinstance(space, Dict) else list(space.spaces)
        sizes = [sum(math.prod(leaf.space.shape or ()) for leaf in _leaves(part, "action")) for part in parts]
        pieces = np.split(flat, np.cumsum(sizes)[:-1], axis=-1)
        built = [_built(part, piece) for part, piece in zip(parts, pieces, strict=True)]
        return dict(zip(space.spaces, built, strict=True)) if isinstance(space, Dict) else tuple(built)
    return flat.astype(space.dtype).reshape((*flat.shape[:-1], *(space.shape or ())))
