"""Numbers on the frames of a video: step, return so far and action."""

from typing import Any

import gymnasium
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

_LINES = 28
"""Lines of text that would fill a frame; a letter has at least so many pixels:"""
_LEAST = 9
_SHOWN = 6
"""Dimensions of the action that are shown, at most."""


class Overlay(gymnasium.Wrapper):
    """Writes step, return so far and the latest action on every frame."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self._steps, self._total = 0, 0.0
        self._action: np.ndarray | None = None

    def reset(self, **kwargs: Any) -> tuple[Any, dict]:
        self._steps, self._total, self._action = 0, 0.0, None
        return self.env.reset(**kwargs)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._steps, self._total, self._action = self._steps + 1, self._total + float(reward), np.ravel(action)
        return obs, reward, terminated, truncated, info

    def render(self) -> Any:
        frame: Any = self.env.render()
        return written(np.asarray(frame, np.uint8), overlay_text(self._steps, self._total, self._action))


def overlay_text(steps: int, total: float, action: np.ndarray | None) -> str:
    """What is written on a frame."""
    text = f"step {steps}  return {total:.1f}"
    if action is None:
        return text
    shown = " ".join(f"{value:+.2f}" for value in action[:_SHOWN])
    return f"{text}\naction {shown}{' ...' if len(action) > _SHOWN else ''}"


def written(frame: UInt8[np.ndarray, "height width 3"], text: str) -> UInt8[np.ndarray, "height width 3"]:
    """The frame with a text on a dark ground in its upper left corner."""
    picture = Image.fromarray(frame)
    pen, size = ImageDraw.Draw(picture, "RGBA"), max(_LEAST, frame.shape[0] // _LINES)
    font = ImageFont.load_default(size)
    place = (size // 2, size // 3)
    left, top, right, bottom = pen.multiline_textbbox(place, text, font=font)
    pen.rectangle((0, 0, right + left, bottom + top), fill=(0, 0, 0, 150))
    pen.multiline_text(place, text, font=font, fill=(255, 255, 255, 255))
    return np.asarray(picture)
