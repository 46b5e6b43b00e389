"""`benchmarks/walk.py` on a sample of bad input, and whether it sees what it looks for."""

import argparse
import random
from pathlib import Path

import pytest

from foretell import registry
from foretell.cli import parser
from foretell.errors import UserError
from foretell.runs.presets import read_preset
from foretell.runs.schema import agent_class, section_classes
from foretell.runs.trees import merge
from tiny import benchmark, written_run

walk, walked, walked_settings = (benchmark(name) for name in ("walk", "walked", "walked_settings"))
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


def test_a_sample_of_commands_is_refused_or_works(folder):
    cases = [case for case in walked.commands() if any(case.name.startswith(f"foretell '{name}'") for name in CHEAP)]
    found = [walk.attempt(case) for case in random.Random(0).sample(cases, 80)]
    assert [each for each in found if each.fault] == []
    assert {each.outcome for each in found} == {"refused", "accepted"}


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


def test_a_sample_of_settings_takes_or_refuses_every_kind_of_value():
    tree = merge(read_preset("pets/default"), {"task": {"env": "Pendulum-v1"}})
    sample = random.Random(0).sample([*walked_settings.leaves(agent_class("pets"), tree)], 12)
    assert all(walked_settings._validated(leaf).startswith("refused ") for leaf in sample)


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
