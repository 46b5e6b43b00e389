"""The tutorial: its environment, its training and its Python code work as they stand, but for smaller settings."""

import re
import shlex
from pathlib import Path

import pytest

import foretell
from foretell.cli import main
from tiny import TINY, TINY_SET

PAGE = (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```\n", PAGE, re.S | re.M)
FILE, CODE = (text for language, text in BLOCKS if language == "python")
COMMANDS = [line for language, text in BLOCKS if not language for line in text.splitlines()]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "tank.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("line", [line for line in COMMANDS if " train " in line])
@pytest.mark.long
def test_its_training_commands_are_accepted(line, folder, capsys):
    assert main([*shlex.split(line, comments=True)[1:], "--dry-run"]) == 0
    assert capsys.readouterr().out


@pytest.mark.long
def test_its_environment_is_learned_from_the_command_line_and_from_python(folder, monkeypatch):
    (line,) = [line for line in COMMANDS if "train" in line and "tank:Tank" in line]
    assert main([*shlex.split(line)[1:], *TINY_SET, "task.horizon=5", "train.random_steps=0", "--quiet"]) == 0
    train, names = foretell.train, {"obs": [0.3, 0.0]}

    def smaller(preset, *, overrides, **options):
        sizes = [TINY, {"task": {"horizon": 5}}, {"train": {"random_steps": 0}}]
        return train(preset, overrides=[*overrides, *sizes], quiet=True, out="other", **options)

    monkeypatch.setattr(foretell, "train", smaller)
    exec(f"{FILE}\n{CODE}", names)
    assert len(names["run"].returns) == 2 and names["action"].shape == (1,)
