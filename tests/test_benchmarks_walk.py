"""`benchmarks/walk.py` on a sample of bad input, and whether it sees what it looks for."""

import argparse
import logging
import random
import warnings
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import foretell
from foretell import registry
from foretell.cli import parser
from foretell.errors import UserError
from foretell.runs.presets import read_preset
from foretell.runs.schema import agent_class, section_classes
from foretell.runs.trees import merge
from tiny import LINE, benchmark, written_run

walk, walked, walked_settings, walked_runs = map(benchmark, ("walk", "walked", "walked_settings", "walked_runs"))
CHEAP = ("export-mat", "film", "plot", "presets", "show", "studies")
"""Commands that take no time even if they accept their words."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What cases need, the run being without checkpoints."""
    written_run(tmp_path / "run", "pets/default", "train", [(2000, 1.0)])
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.txt").write_text("mine\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_option_and_argument_of_every_command_is_walked():
    names_of_cases = [case.name for case in walked.commands()]
    for command, sub in parser._parsers()[1].items():
        names = [name for name in names_of_cases if name.startswith(f"foretell '{command}' ")]
        for action in sub._actions:
            if action.option_strings and not isinstance(action, argparse._HelpAction):
                option = action.option_strings[-1]
                assert sum(f"'{option}" in name for name in names) >= (4 if action.nargs == 0 else 30), (
                    command,
                    option,
                )


@pytest.mark.long
def test_a_sample_of_commands_is_refused_or_works(folder):
    cases = [case for case in walked.commands() if any(case.name.startswith(f"foretell '{name}'") for name in CHEAP)]
    found = [walk.attempt(case) for case in random.Random(0).sample(cases, 80)]
    assert [each for each in found if each.fault] == []
    assert {each.outcome for each in found} == {"refused", "accepted"}


def test_computations_end_where_they_would_begin(run_copy, monkeypatch):
    monkeypatch.setattr(walked, "_run", [])
    monkeypatch.chdir(run_copy.parent)
    walked.shorten()
    try:
        run = foretell.load(run_copy, quiet=True)
        for compute in (run.diagnose, run.believe, lambda: foretell.train("pets/default", env=LINE)):
            with pytest.raises(walked.Reached):
                compute()
    finally:
        patch.stopall()


def fields_of(cls):
    """Every setting of a class, and of all its sections, of any kind."""
    for name, field in cls.model_fields.items():
        kinds = section_classes(field)
        yield from [(cls, name)] if not kinds else [pair for inner in kinds.values() for pair in fields_of(inner)]


def test_every_setting_of_every_agent_is_walked():
    trees = [walked_settings.base_tree(*base) for name, base in walked_settings.BASES.items() if name != "imitation"]
    trees.append(read_preset("mbmf/cheetah-imitation"))  # in place of the one that the walk makes
    leaves = [leaf for tree in trees for leaf in walked_settings.leaves(agent_class(tree["agent"]), tree)]
    walked_fields = {(leaf.owner, leaf.path.rpartition(".")[2]) for leaf in leaves}
    there = {pair for cls in registry.kinds("agent").values() for pair in fields_of(cls)}
    assert {(cls.__name__, name) for cls, name in there - walked_fields if name != "kind"} == set()


@pytest.mark.long
def test_a_sample_of_settings_takes_or_refuses_every_kind_of_value():
    tree = merge(read_preset("pets/default"), {"task": {"env": "Pendulum-v1"}})
    sample = random.Random(0).sample([*walked_settings.leaves(agent_class("pets"), tree)], 12)
    assert all(walked_settings._validated(leaf).startswith("refused ") for leaf in sample)


def change(path, value, base="sac"):
    """A setting of a tiny run, with a value."""
    tree = walked_settings.base_tree(*walked_settings.BASES[base])
    leaf = next(leaf for leaf in walked_settings.leaves(agent_class(tree["agent"]), tree) if leaf.path == path)
    return walked_runs.Change(base, leaf, value, False)


@given(st.sets(st.integers(0, 39)), st.integers(1, 12))
def test_halving_finds_the_settings_that_are_at_fault(bad, size):
    def run(groups):
        outcomes = ["wrong" if bad & {*group} else "accepted" for group in groups]
        return [walked.Found("", outcome, outcome == "wrong") for outcome in outcomes]

    groups = [range(40)[i : i + size] for i in range(0, 40, size)]
    found = [one for results in walked_runs.tested(groups, run) for one in results]
    assert {number for one in found if one.found.fault for number in one.group} == bad
    assert sorted(number for one in found for number in one.group) == [*range(40)]
    assert all(len(one.group) == 1 for one in found if one.found.fault)


def test_a_fault_of_a_combination_is_found():
    def run(groups):
        return [walked.Found("", "wrong" if {2, 5} <= {*group} else "accepted", {2, 5} <= {*group}) for group in groups]

    (results,) = walked_runs.tested([range(8)], run)
    assert [(*one.group,) for one in results if one.found.fault] == [(*range(8),)]


def test_settings_go_together_if_none_undoes_another():
    first, second = change("learner.hidden", [3]), change("train.eval_every", 7)
    other, worker = change("learner.hidden", [2]), change("train.workers", 2)
    assert [len(group) for group in walked_runs.packed([first, second, other])] == [2, 1]
    tree = walked_runs.together([first, second])
    assert tree["learner"]["hidden"] == [3] and tree["train"]["eval_every"] == 7
    assert walked_runs.together([worker]) is None  # without a second environment
    assert len(walked_runs.packed([first, second._replace(alone=True)])) == 2


def test_a_setting_is_tried_with_numbers_and_with_each_other_kind_of_value():
    values = [*walked_runs.chosen(change("train.eval_every", 7).leaf)]
    assert values == [(1, False), (7, False), (2**31 - 1, True), (None, False)]
    switches = [value for value, _ in walked_runs.chosen(change("train.keep_best", True).leaf)]
    assert switches == [True, False]


@pytest.mark.parametrize(
    ("speak", "text"),
    [
        (lambda: np.float64(1.0) / np.zeros(1), "RuntimeWarning: divide by zero"),
        (lambda: warnings.warn("lost", UserWarning, stacklevel=1), "UserWarning: lost"),
        (lambda: logging.getLogger("jax").warning("slow"), "slow"),
    ],
)
def test_warnings_of_libraries_are_seen(speak, text):
    with pytest.raises(walked.Fault, match=f"^a warning: {text}"), walked_runs.silent():
        speak()


def says(text):
    def call():
        raise UserError(text)

    return call


def writes_first():
    Path("new").write_text("begun")
    raise UserError("no")


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
        (says(""), "no sentence: ''"),
        (says("'NoneType' object has no attribute 'x'"), "no sentence for a user: "),
        (writes_first, "'no', but only after it had written new"),
    ],
)
def test_faults_are_seen(call, text, folder):
    found = walk.attempt(walked.Case("bad", lambda: walked.outcome(call)))
    assert found.fault and found.outcome.startswith(text)


def test_what_is_no_fault(folder):
    outcomes = [walk.attempt(walked.Case("good", lambda call=call: walked.outcome(call))) for call in (says("no"), int)]
    assert outcomes == [("good", "refused", False), ("good", "accepted", False)]
