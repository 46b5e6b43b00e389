"""Presets and overrides: how they merge, and the sentence for each mistake."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from foretell.errors import UserError, brief, nearest
from foretell.training.config import (
    leaf_paths,
    merge,
    parse_override,
    preset_names,
    read_preset,
    resolve,
    setting_paths,
    validate,
)

names = st.sampled_from("abc")
trees = st.recursive(st.integers(), lambda inner: st.dictionaries(names, inner, max_size=3), max_leaves=8)
mappings = st.dictionaries(names, trees, max_size=3)


def dotted(path, value):
    return f"{path}={yaml.safe_dump(value, default_flow_style=True).removesuffix('...' + chr(10)).strip()}"


@given(mappings, mappings)
def test_merging_changes_neither_and_the_second_wins(base, over):
    before = repr(base), repr(over)
    merged = merge(base, over)
    assert (repr(base), repr(over)) == before
    assert merge(merged, over) == merged and merge(base, {}) == base and merge({}, over) == over
    assert base.keys() | over.keys() == merged.keys()


@given(
    st.lists(st.text("xyz_", min_size=1), min_size=1, max_size=4), st.one_of(st.integers(), st.booleans(), st.none())
)
def test_an_override_is_a_path_and_a_yaml_value(path, value):
    tree = parse_override(dotted(".".join(path), value))
    assert leaf_paths(tree) == [".".join(path)]
    for key in path:
        tree = tree[key]
    assert tree == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.0e-3", 1e-3),
        ("[8, 8]", [8, 8]),
        ("null", None),
        ("", None),
        ("a=b", "a=b"),
        ("{k: 1}", {"k": 1}),
        ("yes", True),
    ],
)
def test_values_are_read_as_yaml(text, value):
    assert parse_override(f"a.b={text}") == {"a": {"b": value}}


@pytest.mark.parametrize("text", ["", "a", "=", "=1", ".a=1", "a.=1", "a..b=1", "a=[", "a={", "a=2020-13-45", "a=\x07"])
def test_what_is_no_override_is_told(text):
    with pytest.raises(UserError, match=r"^--set "):
        parse_override(text)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_resolves_and_survives_being_written(name):
    settings = resolve(name)
    assert settings.description and settings.agent == name.split("/")[0]
    assert "base" not in read_preset(name)
    assert validate(yaml.safe_load(yaml.safe_dump(settings.model_dump(mode="json")))) == settings


def test_later_overrides_win():
    settings = resolve("pets/cartpole", [{"train": {"trials": 3}}, {"train": {"trials": 4}, "fit": {"epochs": 2}}])
    assert (settings.train.trials, settings.fit.epochs) == (4, 2)
    assert settings.planner == resolve("pets/cartpole").planner


def test_numbers_may_be_written_as_yaml_would_not_read_them():
    assert resolve("pets/cartpole", [parse_override("fit.learning_rate=1e-3")]).fit.learning_rate == 1e-3


def test_every_setting_has_a_path():
    paths = setting_paths(type(resolve("pets/cartpole")))
    assert {"agent", "task.env", "train.trials", "model.hidden", "fit.max_steps", "planner.horizon"} <= set(paths)
    assert sorted(paths) == sorted(set(leaf_paths(resolve("pets/cartpole").model_dump())))


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("train.trail=3", "no setting 'train.trail'; did you mean 'train.trials'?"),
        ("trials=3", "no setting 'trials'; did you mean 'train.trials'?"),
        ("modle={}", "no setting 'modle'; did you mean 'model'?"),
        ("horizon=3", "no setting 'horizon'; did you mean 'task.horizon' or 'planner.horizon'?"),
        ("planner.horizn=3", "no setting 'planner.horizn'; did you mean 'planner.horizon'?"),
        ("planner.members=3", "no setting 'planner.members'; did you mean 'model.members'?"),
        ("task.zzz=3", "no setting 'task.zzz'; choose one of: env, horizon, reward, terminated"),
        ("fit=[]", "'fit' is a section and cannot be []; set one of fit.KEY=VALUE"),
        ("model.hidden=x", "model.hidden='x': input should be a valid list"),
        ("agent=null", "no agent 'None'; choose one of: pets"),
    ],
)
def test_a_mistake_in_a_setting(override, sentence):
    with pytest.raises(UserError) as mistake:
        resolve("pets/cartpole", [parse_override(override)])
    assert str(mistake.value) == sentence


@pytest.mark.parametrize("key", ["agent", "description", "task", "train", "model", "fit", "imagination", "planner"])
def test_nothing_may_be_missing(key):
    tree = resolve("pets/cartpole").model_dump()
    del tree[key]
    with pytest.raises(UserError, match=f"the setting '{key}' is missing|no agent 'None'"):
        validate(tree)


def test_a_preset_that_is_not_there():
    with pytest.raises(UserError, match=r"no preset 'pets/cartpol'; did you mean 'pets/cartpole'\?"):
        read_preset("pets/cartpol")
    with pytest.raises(UserError, match=r"no preset 'x'; (choose one of: pets/cartpole, |see `foretell presets`)"):
        read_preset("x")


@given(st.text(), st.lists(st.text(min_size=1), max_size=40))
def test_the_nearest_choice_is_a_choice(value, choices):
    said = nearest(value, choices)
    assert said == "" or any(choice in said for choice in choices)
    assert said == "" or said.startswith("; ")


def test_a_long_list_of_choices_is_not_told():
    assert nearest("zzz", map(str, range(17))) == "" and nearest("zzz", []) == ""
    assert nearest("zzz", ["b", "a"]) == "; choose one of: a, b"
    assert nearest("16", map(str, range(10, 99))) == "; did you mean '16'?"


@given(st.text())
def test_a_foreign_error_becomes_one_short_line(text):
    said = brief(ValueError(text))
    assert said.startswith("ValueError") and len(said) <= 220 and len(said.splitlines()) == 1
