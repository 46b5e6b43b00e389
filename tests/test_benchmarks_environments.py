"""What `benchmarks/environments.py` makes of the commands that it runs."""

import csv
import json
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest

from foretell.cli.parser import parse
from tiny import LINE, benchmark

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def script():
    """By its path: the tests have a module of this name."""
    path = Path(__file__).parents[1] / "benchmarks" / "environments.py"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(path.parent)
        spec = spec_from_file_location("benchmarks_environments", path)
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def case():
    return benchmark("environments_case")


@pytest.mark.parametrize(
    ("name", "code", "output", "ending"),
    [
        ("train", -9, "step 3", ("killed", "")),
        ("train", 0, "step 3\nthe end\n", ("fault", "train ended with 0: the end")),
        ("train", -24, "step 3", ("time is up", "train took more than 300 seconds of the processor")),
        ("eval", -9999, "", ("time is up", "eval took more than 7200 seconds")),
        ("train", -11, "", ("fault", "train ended with -11: it printed nothing")),
        ("eval", 2, "noise\nforetell: no env 'x'\n", ("refused", "no env 'x'")),
        ("eval", 2, "usage: foretell\n", ("fault", "eval ended with 2: usage: foretell")),
        ("resume", 0, "resumed at step 12", ("exactly", "")),
        ("resume", 0, "episode 2 is dropped, and the run continues with a new episode", ("new episode", "")),
        ("resume", 0, "it continues from the physical state in the checkpoint", ("physical state", "")),
        ("film", 0, "video  a.mp4", ("yes", "")),
    ],
)
def test_how_a_command_ended(case, name, code, output, ending):
    assert case.ending(name, code, output) == ending


@pytest.mark.parametrize(
    ("ends", "outcome"),
    [
        ("killed exactly yes yes", "ok"),
        ("killed new-episode yes refused", "ok"),
        ("killed exactly refused", "refused"),
        ("refused", "refused"),
        ("killed fault", "fault"),
        ("killed exactly yes time-is-up", "fault"),
    ],
)
def test_only_filming_may_be_refused(case, ends, outcome):
    found = [end.replace("-", " ") for end in ends.split()]
    assert case.outcome(dict(zip(case.COMMANDS, [*found, "", "", ""][:4], strict=True))) == outcome


def test_the_settings_of_a_case_are_words_of_the_command_line(case):
    for preset in case.SETTINGS:
        args = parse(["train", preset, "--env", LINE, "--set", *case.settings(preset)])
        assert "train.checkpoint_seconds=0.001" in args.set


def test_the_first_environment_of_each_package_comes_first_and_none_twice(script):
    tried = [row for _, rows in script.rounds("", ["a", "b"], set()) for row in rows]
    firsts = tried[: 2 * len(script.PACKAGES)]
    assert len({row["package"] for row in firsts}) == len(script.PACKAGES)
    assert len({*map(script.key, tried)}) == len(tried) >= 100
    assert all(" " not in option for package in script.PACKAGES for entry in package.environments for option in entry)


def test_what_is_done_is_not_tried_again(script):
    tried = [row for _, rows in script.rounds("highway", ["a"], set()) for row in rows]
    left = [row for _, rows in script.rounds("highway", ["a"], {script.key(tried[0])}) for row in rows]
    assert left == tried[1:]


def test_an_environment_counts_if_it_works_with_all_presets(script):
    row = dict.fromkeys(script.COLUMNS, "") | {"package": "p==1", "outcome": "ok"}
    rows = [row | {"env": env, "preset": preset} for env in ("x", "y") for preset in script.SETTINGS]
    rows[3] |= {"outcome": "fault", "note": "it ended"}
    assert script.summary(rows).startswith("1 of 2 environments work with ")
    assert script.summary(rows[1:]).startswith("0 of 2 environments work with ")
    assert "- `y`: it ended" in script.table(rows).splitlines()


def test_the_page_shows_the_table_of_the_results(script):
    rows = script.read(DOCS / "results" / "environments.csv")
    assert rows and {*rows[0]} == {*script.COLUMNS}
    text = (DOCS / "environments.md").read_text()
    assert script.into_page(text, rows) == text and script.table(rows).split("\n\n")[0] in text
    assert not re.search(r"/(?:home|root|tmp)/", text)


def test_a_table_is_written_between_the_marks_of_a_page_and_nowhere_else(script):
    rows = [dict.fromkeys(script.COLUMNS, "") | {"package": "p==1", "env": "x", "observations": "3", "actions": "1"}]
    page = f"above\n{script.BEGIN}\nold\n{script.END}\nbelow\n"
    written = script.into_page(page, rows)
    assert written.startswith("above\n") and written.endswith("\nbelow\n") and "old" not in written
    assert "| p==1 | `x` | 3, 1 |" in written and "1 of the " in written
    assert script.into_page(written, rows) == written


def test_sizes_are_those_of_the_first_episode(case, tmp_path):
    assert case.sizes(tmp_path) == {}
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data" / "episode_0000.npz", observations=np.zeros((6, 28)), actions=np.zeros((5, 3)))
    assert case.sizes(tmp_path) == {"observations": "28", "actions": "3"}


@pytest.mark.slow
def test_an_environment_is_trained_killed_resumed_evaluated_and_filmed(tmp_path, case):
    cases = [{"env": "Pendulum-v1", "preset": preset, "options": []} for preset in case.SETTINGS]
    words = [sys.executable, case.__file__, str(tmp_path), json.dumps(cases)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    for row in map(json.loads, done.stdout.splitlines()):
        assert (row["train"], row["resume"], row["eval"], row["outcome"]) == ("killed", "exactly", "yes", "ok")


@pytest.mark.parametrize(
    ("env", "found"),
    [
        (LINE, ("accepted", 2, 1, "")),
        ("CartPole-v1", ("refused", None, None)),
        ("environments:tiny/Unmakeable-v0", ("cannot be made", None, None)),
    ],
)
def test_what_becomes_of_an_id(env, found):
    outcome = benchmark("environments_accept").accepted(env)
    assert outcome[: len(found)] == found and bool(outcome[3]) == (found[0] != "accepted")


def test_the_counts_of_the_page_are_those_of_the_ids():
    with (DOCS / "results" / "accepted.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    counts = [sum(row["outcome"] == what for row in rows) for what in ("accepted", "refused", "cannot be made")]
    assert f"| together | {' | '.join(map(str, counts))} |" in (DOCS / "environments.md").read_text()
