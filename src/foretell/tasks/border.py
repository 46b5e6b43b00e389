"""The wrapper around every environment, in which actions, observations and rewards are checked and converted.

Training, evaluation, inspection, filming and imagination all step environments through it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from inspect import iscoroutine
from typing import Any, NamedTuple
from weakref import ref

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from jaxtyping import Float

from foretell.errors import UserError, brief, located, one_line
from foretell.output import STDERR
from foretell.tasks.randomness import IMAGINED, GlobalRandom
from foretell.tasks.spaces import Spaces, brief_value, real_array

SUCCESS = ("is_success", "success")
"""Keys of `info` under which environments report whether the goal has been reached."""

_RATE = 30.0
"""Frames per second of a video if the environment does not say it, as in Gymnasium."""
_MOST = 1e15
"""The largest number of observations and rewards: networks compute with squares in single precision."""
_FINITE = float(np.finfo(np.float32).max)


class Limits(NamedTuple):
    """What a task declares about its environment. The bounds are those of the action entries that can be chosen."""

    name: str
    obs_names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    reward_weights: tuple[float, ...] | None = None


class Border(gymnasium.Wrapper):
    """An environment that takes and returns flat vectors.

    Actions may lie outside the bounds: the nearest action within the bounds is executed. The environment receives a
    copy of it in its own shape and precision. Observations are copies in double precision. Every reset with a seed also
    seeds the global random generators of Python and NumPy.
    """

    def __init__(self, env: gymnasium.Env, limits: Limits, *, strict: bool = True) -> None:
        """Wrap an environment.

        Args:
            env: the environment.
            limits: the names and bounds that its task declares.
            strict: refuse numbers that are not finite. False in imagination, because a planner may drive a simulator
                into states where it fails.

        Raises:
            UserError: if its spaces are not supported, or their sizes differ from those of the task.
        """
        super().__init__(env)
        self.metadata = {**(env.metadata or {}), "render_fps": _rate(env.metadata or {})}
        self._limits, self._strict, self._steps = limits, strict, 0
        self._random = GlobalRandom() if strict else IMAGINED
        self._frame: tuple[int, ...] = ()
        self._bounds = np.array(limits.low), np.array(limits.high)
        self._spaces = Spaces(env.observation_space, env.action_space, limits.name)
        for what, size, there in (
            ("observations", len(limits.obs_names), len(self._spaces.obs_names)),
            ("actions", len(limits.low), int(self._spaces.free.sum())),
        ):
            if size != there:
                raise UserError(
                    f"the task says that '{limits.name}' has {what} of size {size}, but their size is {there}"
                )

    @cached_property
    def observation_space(self) -> Box:  # type: ignore[override]
        """The space of the observation vectors."""
        return Box(-np.inf, np.inf, (len(self._limits.obs_names),), np.float64)

    @cached_property
    def action_space(self) -> Box:  # type: ignore[override]
        """The space of the action vectors, with the environment's own bounds."""
        spaces = self._spaces
        return Box(spaces.low[spaces.free], spaces.high[spaces.free], dtype=spaces.dtype.type)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float[np.ndarray, "obs"], dict[str, Any]]:
        """Begin an episode. Raises `UserError`."""
        self._steps = 0
        self._random.take(seed)
        given = {} if options is None else {"options": options}
        with self._blamed("reset"):
            obs, info = _both(self.env.reset(seed=seed, **given))
            _latest[id(self.unwrapped)] = ref(self)
            return self.observed(obs), info

    def step(self, action: Float[np.ndarray, "action"]) -> tuple[Float[np.ndarray, "obs"], float, bool, bool, dict]:
        """One step. Raises `UserError`."""
        self._random.take()
        self._check_holder()
        try:
            native = self._spaces.native(action, *self._bounds)
            obs, reward, terminated, truncated, info = _five(self.env.step(native))
            vector, number = self.observed(obs), self._number(reward)
            ends = self._flag("terminated", terminated), self._flag("truncated", truncated)
        except BaseException as error:
            with self._blamed("step"):
                raise error
        self._check_success(info)
        self._steps += 1
        return vector, number, *ends, info

    def render(self) -> Any:
        """An RGB image, always of the same size; None if the environment draws nothing. Raises `UserError`."""
        self._random.take()
        with self._blamed("render"):
            picture = rgb(self.env.render())
        if np.ndim(picture) != 3:
            return picture
        self._frame = self._frame or picture.shape
        return fitted(picture, self._frame)

    def close(self) -> None:
        """Close the environment, and release the global random generators.

        A failure is printed, but not raised: what was done before is complete, and may have failed itself.
        """
        self._random.release()
        if (holder := _latest.get(id(self.unwrapped))) is not None and holder() is self:
            del _latest[id(self.unwrapped)]
        try:
            with self._blamed("close"):
                self.env.close()
        except UserError as error:
            _warn(str(error))

    def observed(self, obs: Any) -> Float[np.ndarray, "obs"]:
        """An observation of the environment as a vector. Raises `ValueError` or `UserError`."""
        vector = self._spaces.vector(obs)
        if vector.ndim != 1:
            raise ValueError(f"the observation {brief_value(obs)} has more axes than its space")
        if self._strict and not np.abs(vector).max() <= _MOST:
            where = int(np.argmin(np.abs(vector) <= _MOST))
            name, advice = self._limits.obs_names[where], _advice(vector[where])
            kind = f"of {vector[where]:g}" if advice else "that is not finite"
            raise self._mistake(f"an observation {kind} in '{name}'{advice}")
        return vector

    def _number(self, reward: Any) -> float:
        """The reward as one number."""
        weights = self._limits.reward_weights
        if isinstance(reward, float) and weights is None and abs(reward) <= _MOST:  # the usual case
            return float(reward)
        try:
            rewards = real_array(reward)
        except (ValueError, TypeError, OverflowError):
            shown = f"the reward {brief_value(reward)} at step {self._steps}"
            raise self._mistake(f"{shown}, which is not a real number") from None
        if weights is None and rewards.size != 1:
            raise self._mistake(
                f"{rewards.size} rewards at once at step {self._steps}; weight them with "
                f"task.reward_weights=[{', '.join(['1.0'] * rewards.size)}]"
            )
        if weights is not None and rewards.size != len(weights):
            given = f"{len(weights)} weight{'s' * (len(weights) != 1)}"
            raise UserError(
                f"task.reward_weights has {given}, but '{self._limits.name}' returned {rewards.size} "
                f"reward{'s' if rewards.size > 1 else ''}"
            )
        total = float(np.dot(rewards.ravel().astype(np.float64), weights or (1.0,)))
        if self._strict and not abs(total) <= _MOST:
            raise self._mistake(f"the reward {reward} at step {self._steps}{_advice(total)}")
        return total

    def _flag(self, role: str, value: Any) -> bool:
        if isinstance(value, bool | np.bool_):
            return bool(value)
        flag = truth(value)
        if flag is None and self._strict:
            raise self._mistake(f"{role}={brief_value(value)} at step {self._steps}, which is neither true nor false")
        return flag is not False

    def _check_holder(self) -> None:
        """Raises `UserError` if the environment is also behind another border, which has reset it since."""
        holder = _latest.get(id(self.unwrapped))
        if holder is not None and holder() not in (self, None):
            raise UserError(
                f"'{self._limits.name}' was reset elsewhere within an episode, since what makes it returns the same "
                "object each time; let it return a new one, or use one at a time, with train.environments=1 and "
                "train.eval_episodes=0"
            )

    def _check_success(self, info: Mapping[str, Any]) -> None:
        """Warn once of a report of success that cannot be counted. NaN reports nothing."""
        for key in SUCCESS:
            value = info.get(key)
            if value is not None and truth(value) is None and not _is_nan(value):
                name = self._limits.name
                text = f"'{name}' returned info['{key}']={brief_value(value)}, which is neither true nor false"
                _warn(f"{text}; such values do not count for success rates", f"{name} {key}")

    def _mistake(self, what: str) -> UserError:
        return UserError(f"'{self._limits.name}' returned {what}")

    @contextmanager
    def _blamed(self, method: str) -> Iterator[None]:
        """Name the environment and its method in the message of every exception."""
        name = self._limits.name
        try:
            with blamed(f"'{name}' failed in {method}()"):
                yield
        except UserError as error:
            old = _old(method, brief(error.__cause__ or error))
            if old is None:
                raise
            raise UserError(f"'{name}' has the old interface of Gym: {old}") from error.__cause__


def _warn(text: str, topic: str = "") -> None:
    """Print a warning, once for each topic, or each text."""
    if (topic or text) not in _said:
        _said.add(topic or text)
        STDERR.write(f"warning: {one_line(text)}\n")
        STDERR.flush()


_said: set[str] = set()
_latest: "dict[int, ref[Border]]" = {}
"""The border that has reset each environment last, by the id of the environment."""


@contextmanager
def blamed(what: str) -> Iterator[None]:
    """Turn every exception of a user's code, including `SystemExit`, into a `UserError`; but not Ctrl-C."""
    try:
        yield
    except UserError:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # such as those of asyncio
        raise UserError(f"{what}: {located(error)}") from error


def _advice(number: float) -> str:
    """What to do with a number that is finite, but larger than `_MOST`."""
    large = abs(number) <= _FINITE
    return f", but networks can use numbers up to {_MOST:g}; scale it in a wrapper" if large else ""


def _rate(metadata: Mapping[str, Any]) -> float:
    """Frames per second of a video of the environment."""
    try:
        rate = float(metadata.get("render_fps", _RATE))
    except (TypeError, ValueError):
        return _RATE
    return rate if 0 < rate < np.inf else _RATE


def rgb(frame: Any) -> Any:
    """Convert an image to 8-bit RGB. It may be grey or RGBA, with values from 0 to 1, with channels on the first axis.

    From a list of images, the last one is taken. None, and anything else that is not an image, is returned unchanged.
    """
    if isinstance(frame, list | tuple) and len(frame) and np.ndim(frame[-1]) >= 2:
        frame = frame[-1]
    if np.ndim(frame) not in (2, 3):
        return frame
    picture = np.asarray(frame)
    if picture.ndim == 2:
        picture = picture[..., None]
    if picture.shape[-1] not in (1, 3, 4) and picture.shape[0] in (1, 3, 4):
        picture = np.moveaxis(picture, 0, -1)
    if picture.dtype.kind in "bf" and np.nanmax(picture, initial=0) <= 1:
        picture = 255.0 * picture
    picture = np.nan_to_num(picture).clip(0, 255).astype(np.uint8)
    return picture[..., :3].copy() if picture.shape[-1] >= 3 else np.repeat(picture[..., :1], 3, -1)


def fitted(picture: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An image cropped, or padded with black, to a shape: all images of a video have the same one."""
    if picture.shape == shape:
        return picture
    canvas = np.zeros(shape, picture.dtype)
    rows, columns = (min(size) for size in zip(picture.shape[:2], shape[:2], strict=True))
    canvas[:rows, :columns] = picture[:rows, :columns]
    return canvas


def truth(value: Any) -> bool | None:
    """What is true or false in any form: Python's, one number that is 0 or 1, or an array of one; None if it is not."""
    try:
        flags = real_array(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return bool(flags.item()) if flags.size == 1 and flags.item() in (0, 1) else None


def _is_nan(value: Any) -> bool:
    try:
        return bool(np.isnan(real_array(value)).all())
    except (ValueError, TypeError, OverflowError):
        return False


def _both(found: Any) -> tuple[Any, dict[str, Any]]:
    """Check that reset() has returned `(obs, info)`."""
    if not (isinstance(found, tuple | list) and len(found) == 2 and isinstance(found[1], Mapping)):
        raise ValueError(_RESET)
    return found[0], dict(found[1])


def _five(found: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
    """Check that step() has returned `(obs, reward, terminated, truncated, info)`."""
    if not (isinstance(found, tuple | list) and len(found) == 5):
        if iscoroutine(found):
            found.close()  # or Python says that nobody has waited for it
        what = f"{len(found)} values" if isinstance(found, tuple | list) else f"{type(found).__name__}"
        raise ValueError(f"step() must return (obs, reward, terminated, truncated, info), not {what}")
    if not isinstance(found[4], Mapping):
        raise ValueError(f"step() must return a dictionary as info, not {brief_value(found[4])}")
    return found[0], found[1], found[2], found[3], dict(found[4])


_RESET = "reset() must return (obs, info), an observation and a dictionary"


def _old(method: str, text: str) -> str | None:
    """How an environment follows the interface from before Gymnasium, according to an error; None if it does not."""
    if method == "reset" and "unexpected keyword argument" in text and ("'seed'" in text or "'options'" in text):
        return "reset() takes no 'seed' or no 'options'; write reset(self, *, seed=None, options=None)"
    if method == "reset" and "missing 1 required" in text and ("'seed'" in text or "'options'" in text):
        return "reset() cannot do without 'seed' or 'options'; write reset(self, *, seed=None, options=None)"
    if method == "reset" and text.endswith(_RESET):
        return _RESET
    if method == "step" and text.endswith(("not 4 values", "(expected 5, got 4)")):
        return (
            "step() returned 4 values, as (obs, reward, done, info); return 5, as (obs, reward, terminated, truncated, "
            "info)"
        )
    return None
