"""The page on callbacks: its example works as it says, and its tables are those of the code."""

import dataclasses
import re
from importlib import import_module
from inspect import get_annotations
from pathlib import Path

import pytest

import foretell
from foretell import callbacks
from foretell.training import events
from tiny import LINE, TINY, interrupted_at

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "your-own-callback.md"
TRIALS = {"train": {"trials": 6}}


def table(first):
    """The rows of the table whose first column is headed so, without backquotes."""
    lines = PAGE.read_text().partition(f"\n| {first} |")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines]


def fields(record):
    return [field.name for field in dataclasses.fields(record)]


@pytest.fixture
def enough(tmp_path, monkeypatch):
    """The class on the page, imported as the page says."""
    code = re.search(r"```python\n(# enough.py\n.*?)```", PAGE.read_text(), re.S).group(1)
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    (tmp_path / "enough.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return import_module("enough").Enough


def train(callback):
    return foretell.train("pets/default", out="run", env=LINE, overrides=[TINY, TRIALS], quiet=True, callbacks=callback)


@pytest.mark.long
def test_the_example_ends_a_run_that_is_good_enough(enough):
    run = train([enough(-1000.0)])
    assert len(run.returns) == 3
    note = (run.directory / "note.txt").read_text()
    assert note == f"trials 1 to 3 had a mean return of {sum(run.returns) / 3:.1f}"


@pytest.mark.long
def test_the_example_leaves_other_runs_alone(enough):
    run = train([enough(1000.0)])
    assert len(run.returns) == 6 and not (run.directory / "note.txt").exists()


@pytest.mark.long
def test_the_example_may_be_interrupted(enough):
    with interrupted_at("episode_end", 3):
        train([enough(-1000.0)])
    assert len(foretell.resume("run", quiet=True, callbacks=[enough(-1000.0)]).returns) == 3


def test_the_page_passes_it_as_train_takes_it(enough, monkeypatch):
    made = []
    monkeypatch.setattr(
        foretell, "train", lambda preset, *, callbacks: made.extend([preset, *callbacks]), raising=False
    )
    exec(re.search(r"```python\n(import foretell\n.*?)```", PAGE.read_text(), re.S).group(1), {})
    assert made[0] == "pets/cartpole" and made[1].threshold == 150


def test_all_hooks_are_on_the_page_with_their_records():
    hooks = {name: hook for name, hook in vars(events.Callback).items() if name.startswith("on_")}
    expected = [
        [name, get_annotations(hook)["event"].__name__, hook.__doc__.rstrip(".").replace("`", "")]
        for name, hook in hooks.items()
    ]
    assert [[hook, record, text[0].upper() + text[1:]] for hook, record, text in table("hook")] == expected


def test_all_fields_of_all_records_are_on_the_page():
    found = {name: text.split(", ") for name, text in table("record")}
    assert found.pop("every record") == fields(events.Event)
    own = {record.__name__: fields(record)[len(fields(events.Event)) :] for record in events.Event.__subclasses__()}
    assert found == {name: names for name, names in own.items() if names}


def test_the_page_says_what_a_run_holds():
    text = PAGE.read_text().partition("`event.run` holds")[2].partition(". What")[0]
    assert re.findall(r"`(\w+)`", text) == fields(events.RunInfo)


@pytest.mark.long
def test_all_callbacks_are_on_the_page():
    exported = [getattr(callbacks, name) for name in callbacks.__all__]
    shipped = {one.__name__ for one in exported if isinstance(one, type) and issubclass(one, callbacks.Callback)}
    assert {name for name, *_ in table("callback")} == shipped - {"Callback"}
