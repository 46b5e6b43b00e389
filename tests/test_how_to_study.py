"""The page on studies: its commands work, and the files, columns and options that it names are there."""

import csv
import re
import shlex
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

import foretell
from foretell import seeds
from foretell.cli import main
from foretell.experiments import study as module
from foretell.experiments.executor import run_locally
from foretell.runs.directory import RunDirectory
from foretell.runs.presets import resolve
from tiny import finished_run

PAGE = (Path(__file__).parent.parent / "docs" / "how-to" / "study.md").read_text()


def blocks(language):
    found = re.findall(r"^```(\w*)\n(.*?)^```\n", PAGE, re.S | re.M)
    return [text for its_language, text in found if its_language == language]


def written_together(preset, seed, path, env, overrides, callbacks, **_):
    """In place of a run in this process: one that has finished two trials."""
    settings = resolve(preset, [{"task": {"env": env}}, *overrides])
    finished_run(SimpleNamespace(path=path, arm=SimpleNamespace(settings=settings, preset=preset), seed=seed), (), None)
    return SimpleNamespace(directory=path, settings=settings, episodes=RunDirectory(path).read_episodes())


@pytest.fixture
def in_place(tmp_path, monkeypatch):
    """The page's file, where runs are written instead of trained."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "run_locally", partial(run_locally, run=finished_run, tick=0.01))
    monkeypatch.setattr(seeds, "_train", written_together)
    text = blocks("yaml")[0]
    path = Path(text.partition("\n")[0].removeprefix("# "))
    path.parent.mkdir()
    path.write_text(text)


@pytest.mark.long
def test_its_commands_work_and_write_what_it_says(in_place, capsys):
    commands = "".join(blocks("")).splitlines()
    for words in (shlex.split(line, comments=True)[1:] for line in commands):
        trains = words[0] == "eval" or (words[0] == "study" and "--paper" in words)
        assert trains or main(words) == 0, words
    folder = Path("runs/planners")
    names = {f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir() if path.name != ".lock"}
    table = PAGE.partition("## What is written")[2].partition("\n\n")[2].partition("\n\n")[0]
    found = set(re.findall(r"^\| `([^`]+)`", table, re.M))
    assert names == (found - {"pets-default/0/"}) | {"pets-default/", "pets-default+random/"}
    columns: set[str] = set()
    for name in ("runs.csv", "summary.csv"):
        with (folder / name).open() as file:
            columns |= set(next(csv.reader(file)))
    assert set(re.findall(r"`(final_?\w*|best\w*|passed\w*|returns_of)`", PAGE)) <= columns
    assert "many" in Path("runs/particles/summary.md").read_text()


@pytest.mark.long
def test_its_python_works(in_place, capsys):
    exec(blocks("python")[0], {"foretell": foretell})
    assert capsys.readouterr().out.splitlines()[-1] == "4 -200.0"
