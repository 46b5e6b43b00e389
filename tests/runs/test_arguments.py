"""Arguments of the Python interface: every form a person writes is taken, and every mistake is one sentence.

The functions are called without the type checks of the tests, which users do not have.
"""

from inspect import unwrap
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import foretell
from environments import Line
from foretell.diagnostics.examination import Sizes, check_sizes
from foretell.errors import UserError
from foretell.run import Run
from foretell.runs import arguments
from foretell.runs.trust import opens_runs
from tiny import LINE, TINY, snapshot


@pytest.mark.parametrize(
    "given",
    [
        {"planner": {"population": 60, "elites": 5}, "train": {"trials": 3}},
        {"planner.population": 60, "planner.elites": 5, "train.trials": 3},
        {"planner.population": np.int64(60), "planner": {"elites": np.int32(5)}, "train": {"trials": np.uint8(3)}},
        ["planner.population=60", "planner.elites=5", "train.trials=3"],
        ("planner.population=60", {"planner.elites": 5}, {"train": {"trials": 3}}),
        [("planner.population", 60), ("planner.elites", 5), ["train.trials", np.int8(3)]],
        {"planner.population": 60, "planner.elites": 5, "train.trials": 3}.items(),
        {
            "planner.population": np.array(60),
            "planner": {"elites": jnp.array(5)},
            "train": {"trials": np.float64(3).astype(int)},
        },
        ("  planner.population = 60", "planner.elites= 5", "train.trials =3"),
        [{"planner.population": 7}, {"planner.population": 60, "planner.elites": 5}, "train.trials=3"],
    ],
)
def test_overrides_in_every_form(given):
    trees = arguments.overrides(given)
    joined = arguments._joined(trees)
    assert joined == {"planner": {"population": 60, "elites": 5}, "train": {"trials": 3}}
    assert all(type(value) is int for section in joined.values() for value in section.values())


@pytest.mark.parametrize(
    ("given", "tree"),
    [
        ("model.hidden=[8, 8]", {"model": {"hidden": [8, 8]}}),
        ({"model.hidden": range(8, 10)}, {"model": {"hidden": [8, 9]}}),
        ({"model.hidden": jnp.array([8, 8])}, {"model": {"hidden": [8, 8]}}),
        ({"model.hidden": (8, 8)}, {"model": {"hidden": [8, 8]}}),
        ({"model": {"hidden": np.array([8, 8])}}, {"model": {"hidden": [8, 8]}}),
        ({"train.pretrained": Path("runs") / "a"}, {"train": {"pretrained": "runs/a"}}),
        ({"task.options": {"a.b": np.float64(0.5)}}, {"task": {"options": {"a.b": 0.5}}}),
    ],
)
def test_values_become_those_of_a_settings_file(given, tree):
    assert arguments.overrides(given) == [tree]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (3, "overrides must be like {'planner': {'population': 200}}, not 3"),
        ([3], "overrides must be dictionaries or 'key.path=value', not 3"),
        ([["a=1"]], "overrides must be dictionaries or 'key.path=value', not ['a=1']"),
        (b"train.trials=3", "overrides must be like {'planner': {'population': 200}}, not b'train.trials=3'"),
        ([("train.trials", 3, 4)], "overrides must be dictionaries or 'key.path=value', not ('train.trials', 3, 4)"),
        ([(3, "train.trials")], "overrides must be dictionaries or 'key.path=value', not (3, 'train.trials')"),
        ({3: 1}, "the names of settings must be like 'planner.population', not 3"),
        ({"planner.": 1}, "the names of settings must be like 'planner.population', not 'planner.'"),
        ("planner", "--set takes key.path=value, not 'planner'"),
    ],
)
def test_overrides_that_are_none(given, sentence):
    with pytest.raises(UserError) as mistake:
        arguments.overrides(given)
    assert str(mistake.value) == sentence


@pytest.mark.parametrize("seed", [3, np.int64(3), np.uint8(3), np.array(3)])
def test_integers_of_every_kind_are_seeds(seed):
    assert arguments.seed_number(seed) == 3 and type(arguments.seed_number(seed)) is int


@pytest.mark.parametrize("seed", [1.0, np.float64(1), "1", True, np.True_, -1, 2**31, [1], np.array([1, 2])])
def test_what_is_no_seed(seed):
    with pytest.raises(UserError, match="seed must be a whole number from 0 to 2147483647, not"):
        arguments.seed_number(seed)


TRAIN = [
    ({"preset": 3}, "preset must be the name of a preset or the path of a file, not 3"),
    ({"preset": None}, "preset must be the name of a preset or the path of a file, not None"),
    ({"seed": "zero"}, "seed must be a whole number from 0 to 2147483647, not 'zero'"),
    ({"seed": True}, "seed must be a whole number from 0 to 2147483647, not True"),
    ({"out": 3}, "out must be a path, not 3"),
    ({"out": ""}, "out must be a path, not ''"),
    ({"env": 3}, "env must be a name, a class, a function that makes an environment, or an environment, not '3' of"),
    ({"env": Line, "env_options": {"lenght": 3}}, "cannot make the environment 'environments:Line': TypeError"),
    ({"env_options": ["g"]}, "env_options must be a dictionary of arguments, such as {'g': 9.81}, not ['g']"),
    ({"env_options": {3: 4}}, "env_options must be a dictionary of arguments, such as {'g': 9.81}, not {3: 4}"),
    ({"reward": 3}, "reward and terminated must be functions or 'module:function', not 3"),
    ({"terminated": [1]}, "reward and terminated must be functions or 'module:function', not [1]"),
    ({"overrides": 3}, "overrides must be like"),
    ({"overrides": ["train.trails=3"]}, "no setting 'train.trails'; did you mean 'train.trials'?"),
    ({"overrides": {"planner.popluation": 3}}, "no setting 'planner.popluation' with planner.kind=cem; did you mean"),
    ({"callbacks": 3}, "callbacks must be a list of foretell.Callback, not 3"),
    ({"callbacks": [3]}, "a callback must be a foretell.Callback, not 3"),
    ({"quiet": "yes"}, "quiet must be True or False, not 'yes'"),
    ({"overwrite": 1}, "overwrite must be True or False, not 1"),
]


@pytest.mark.parametrize(("wrong", "sentence"), TRAIN, ids=lambda value: str(value)[:40])
def test_wrong_arguments_of_train(wrong, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as mistake:
        unwrap(foretell.train)(**{"preset": "pets/default", "env": LINE, "quiet": True, **wrong})
    assert sentence in str(mistake.value) and not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("call", "wrong", "sentence"),
    [
        (foretell.resume, {"run_dir": 3}, "run_dir must be a path, not 3"),
        (foretell.resume, {"quiet": None}, "quiet must be True or False, not None"),
        (
            foretell.resume,
            {"reward": "environments:reward"},
            "reward must be the function itself, or be left out if it",
        ),
        (
            foretell.resume,
            {"overrides": "planner.population=3"},
            "a resumed run keeps its settings: 'planner.population'",
        ),
        (foretell.resume, {"env": Line}, "the environment of the settings is 'environments:tiny/Line-v0', but env= is"),
        (foretell.load, {"run_dir": None}, "run_dir must be a path, not None"),
        (foretell.load, {"trial": 1.5}, "trial must be a whole number of at least 1, not 1.5"),
        (foretell.load, {"trial": 0}, "trial must be at least 1, not 0"),
        (foretell.load, {"best": "yes"}, "best must be True or False, not 'yes'"),
        (foretell.load, {"env": 3}, "env must be a name, a class"),
        (foretell.film, {"episodes": "0"}, "episodes must be a whole number, not '0'"),
        (foretell.film, {"episodes": [0, -1]}, "the run has finished no episode -1; the nearest is 0"),
        (foretell.film, {"episodes": 99}, "the run has finished no episode 99"),
    ],
)
@pytest.mark.long
def test_wrong_arguments_of_other_functions(call, wrong, sentence, trained):
    before = snapshot(trained)
    with pytest.raises(UserError) as mistake:
        unwrap(call)(**{"run_dir": trained, **wrong})
    assert sentence in str(mistake.value) and snapshot(trained) == before


@pytest.mark.parametrize(
    ("method", "wrong", "sentence"),
    [
        ("evaluate", {"episodes": 0}, "episodes must be at least 1, not 0"),
        ("evaluate", {"episodes": 1.5}, "episodes must be a whole number of at least 1, not 1.5"),
        ("evaluate", {"seed": None}, "seed must be a whole number from 0 to 2147483647, not None"),
        ("evaluate", {"video": "yes"}, "video must be True or False, not 'yes'"),
        ("inspect", {"episodes": "3"}, "episodes must be a whole number of at least 1, not '3'"),
        ("diagnose", {"sizes": 3}, "sizes must be foretell.diagnostics.examination.Sizes, not 3"),
        ("diagnose", {"seed": -1}, "seed must be a whole number"),
        ("believe", {"render": "no"}, "render must be True or False, not 'no'"),
        ("believe", {"seconds": "60"}, "seconds must be a finite number, not '60'"),
        ("believe", {"seconds": -1}, "seconds must be at least 0, not -1"),
        ("export", {"platforms": 3}, "platforms must be a list of texts, not 3"),
        ("export", {"platforms": []}, "platforms must name at least one of: cpu, cuda, rocm, tpu"),
        ("export", {"platforms": ["CPU"]}, "platforms cannot be 'CPU'; choose of: cpu, cuda, rocm, tpu"),
    ],
)
@pytest.mark.long
def test_wrong_arguments_of_a_run(method, wrong, sentence, trained):
    run = Run.__new__(Run)  # nothing of it is needed to see that an argument is wrong
    with pytest.raises(UserError) as mistake:
        unwrap(getattr(Run, method))(run, **wrong)
    assert sentence in str(mistake.value)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("names", 3, "names must be a list of texts, not 3"),
        ("names", ["pets/default", None], "names must be a list of texts, not None"),
        ("out", 3, "out must be a path, not 3"),
        ("env", ["Pendulum-v1"], "env must be a text, not ['Pendulum-v1']"),
        ("seeds", "2", "seeds must be a whole number, not '2'"),
        ("jobs", 1.5, "jobs must be a whole number, not 1.5"),
        ("overrides", {"a": 1}, "overrides must be a list of texts, not {'a': 1}"),
        ("only", b"x", "only must be a list of texts, not b'x'"),
        ("paper", "yes", "paper must be True or False, not 'yes'"),
        ("goal", float("nan"), "goal must be a finite number, not nan"),
        ("executor", "local", "executor must be the function itself"),
    ],
)
def test_arguments_of_a_study(name, value, sentence, tmp_path):
    with pytest.raises(UserError) as mistake:
        unwrap(foretell.study)(**{"names": "pets/default", "out": tmp_path / "study", name: value})
    assert str(mistake.value).startswith(sentence)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("paths", 3, "paths must be a path or a list of paths, not 3"),
        ("paths", [], "paths must be a path or a list of paths, not []"),
        ("paths", ["run", None], "paths must be a path, not None"),
        ("paths", "x" * 300, "no run directory 'xxx"),
        ("out", ".", "the ending of the report must be one of html, png, pdf, not ''"),
        ("format", 3, "format must be a text, not 3"),
        ("smooth", 1.5, "smooth must be a whole number of at least 1, not 1.5"),
        ("model_seconds", float("nan"), "model_seconds must be a finite number, not nan"),
        ("model_seconds", -0.5, "model_seconds must be at least 0, not -0.5"),
        ("say", "loud", "say must be a function of a text, not 'loud'"),
    ],
)
def test_arguments_of_a_report(name, value, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as mistake:
        unwrap(foretell.write_report)(**{"paths": ["run"], name: value})
    assert str(mistake.value).startswith(sentence) and not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "reason"),
    [("x" * 300, "File name too long"), ("y/" * 2500, "File name too long"), ("a\0b", "a path cannot")],
)
def test_a_study_whose_path_no_system_takes(name, reason, tmp_path):
    with pytest.raises(UserError, match=f"^cannot write .*{reason}"):
        foretell.study("pets/default", out=tmp_path / name, env=LINE)


def test_an_array_is_no_switch(trained):
    """Whether it is true is checked early, for `trust`."""
    for function in (foretell.load, foretell.resume, foretell.film):
        with pytest.raises(UserError, match="trust must be True or False"):
            opens_runs(unwrap(function))(trained, trust=np.zeros(3))


def test_numbers_of_more_than_32_bits():
    with pytest.raises(UserError, match=f"^trial must be at most {2**31 - 1}, not {2**31}"):
        arguments.whole_number("trial", 2**31, 1)


@pytest.mark.parametrize("section", ["plannr", None, [], 3])
def test_what_cannot_be_registered(section):
    with pytest.raises(UserError, match="no section"):
        unwrap(foretell.register)(section, "mine")
    with pytest.raises(UserError, match="kind must be a name, not"):
        unwrap(foretell.register)("planner", section if section != "plannr" else " ")


@pytest.mark.parametrize("changed", [{"tail": "x"}, {"tail": [1]}, {"oracle": 1.5}, {"oracle": "1"}, {"policy": []}])
def test_sizes_of_a_diagnosis(changed):
    with pytest.raises(UserError, match="must be"):
        check_sizes(Sizes(**changed))


@pytest.mark.long
def test_strings_of_numpy_are_names(tmp_path):
    """They would fail where the settings are written."""
    text = np.str_
    options = {"env": text(LINE), "reward": text("environments:reward"), "overrides": [TINY, text("train.trials=1")]}
    run = foretell.train(text("pets/default"), out=tmp_path / "run", quiet=True, **options)
    assert foretell.load(run.directory, quiet=True).settings == run.settings
