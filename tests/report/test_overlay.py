"""Step, return and action on the frames of a video."""

import gymnasium
import numpy as np
import pytest

from environments import Line
from foretell.cli import main
from foretell.report import video
from foretell.report.overlay import Overlay, overlay_text, written


def test_the_text_has_step_return_and_action():
    assert overlay_text(0, 0.0, None) == "step 0  return 0.0"
    assert overlay_text(12, -3.26, np.array([0.5, -1.0])) == "step 12  return -3.3\naction +0.50 -1.00"
    assert overlay_text(1, 1.0, np.zeros(9)).endswith(" ".join(["+0.00"] * 6) + " ...")


def test_a_frame_changes_in_its_upper_left_corner_alone():
    frame = np.full((200, 400, 3), 128, np.uint8)
    found = written(frame, "step 1")
    changed = np.argwhere((found != frame).any(2))
    assert found.shape == frame.shape and found.max() > 200 and len(changed) > 100
    assert changed.min(0).tolist() == [0, 0] and changed.max(0)[0] < 40 and changed.max(0)[1] < 100


def test_what_is_written_follows_the_episode(monkeypatch):
    texts = []
    monkeypatch.setattr("foretell.report.overlay.written", lambda frame, text: texts.append(text))
    env = Overlay(Line(render_mode="rgb_array"))
    for _ in range(2):
        env.reset(seed=0)
        env.render()
        total = env.step(np.array([0.5], np.float32))[1] + env.step(np.array([1.0], np.float32))[1]
        env.render()
    assert texts == ["step 0  return 0.0", f"step 2  return {total:.1f}\naction +1.00"] * 2


@pytest.mark.long
def test_the_command_films_with_it(run_copy, monkeypatch):
    wrapped = []
    usual = video.Overlay
    monkeypatch.setattr(video, "Overlay", lambda env: wrapped.append(env) or usual(env))
    assert main(["film", str(run_copy), "--episodes", "1", "--overlay"]) == 0
    assert isinstance(wrapped[0], gymnasium.Env) and (run_copy / "videos" / "run-episode-1.mp4").is_file()
