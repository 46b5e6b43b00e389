"""Presets and overrides: how they merge, and the sentence for each mistake."""

import importlib
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from foretell import registry
from foretell.errors import UserError, brief, nearest
from foretell.runs.presets import (
    default_directory,
    families,
    leaf_paths,
    merge,
    parse_override,
    preset_names,
    read_preset,
    resolve,
    setting_paths,
    title,
    validate,
)
from foretell.tasks import make_task

names = st.sampled_from("abc")
trees = st.recursive(st.integers(), lambda inner: st.dictionaries(names, inner, max_size=3), max_leaves=8)
mappings = st.dictionaries(names, trees, max_size=3)


def dotted(path, value):
    return f"{path}={yaml.safe_dump(value, default_flow_style=True).removesuffix('...' + chr(10)).strip()}"


@given(mappings, mappings)
@pytest.mark.long
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


AGENTS_OF = {family: [family] for family in ("pets", "mbmpc", "trpo", "imitation")} | {
    "mbmf": ["mbmpc", "imitation", "trpo"]
}
AGENTS_OF |= {family: ["policy-optimization"] for family in ("mbpo", "dhmbpo", "svg")}


@pytest.mark.parametrize("name", preset_names())
@pytest.mark.long
def test_every_preset_resolves_and_survives_being_written(name):
    settings = resolve(name)
    assert settings.description and settings.agent in AGENTS_OF.get(name.partition("/")[0], ["value-expansion"])
    assert "base" not in read_preset(name)
    assert validate(yaml.safe_load(yaml.safe_dump(settings.model_dump(mode="json")))) == settings


def test_later_overrides_win():
    settings = resolve("pets/cartpole", [{"train": {"trials": 3}}, {"train": {"trials": 4}, "fit": {"epochs": 2}}])
    assert (settings.train.trials, settings.fit.epochs) == (4, 2)
    assert settings.planner == resolve("pets/cartpole").planner


def test_numbers_may_be_written_as_yaml_would_not_read_them():
    assert resolve("pets/cartpole", [parse_override("fit.learning_rate=1e-3")]).fit.learning_rate == 1e-3


def test_every_setting_has_a_path():
    settings = resolve("pets/cartpole")
    paths = setting_paths(type(settings))
    assert {"agent", "task.env", "train.trials", "model.hidden", "fit.max_steps", "planner.horizon"} <= set(paths)
    assert {"planner.elites", "planner.temperature", "model.aux_hidden"} <= set(paths)  # of all kinds
    tree = settings.model_dump()
    chosen = setting_paths(type(settings), tree)
    for name, section in tree.items():
        keys = {f"{name}.{key}" for key in section} if isinstance(section, dict) else {name}
        assert {path for path in chosen if path.partition(".")[0] == name} == keys


def test_a_section_within_a_section_has_paths_too():
    tree = resolve("mbmpc/default", [{"guide": {"hidden": [8]}}]).model_dump()
    assert "guide.fit.epochs" in setting_paths(type(resolve("mbmpc/default")), tree)
    assert resolve("mbmpc/default", [parse_override("guide.fit.epochs=3")]).guide.fit.epochs == 3


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("train.trail=3", "no setting 'train.trail'; did you mean 'train.trials'?"),
        ("trials=3", "no setting 'trials'; did you mean 'train.trials'?"),
        ("modle={}", "no setting 'modle'; did you mean 'model'?"),
        ("horizon=3", "no setting 'horizon'; did you mean 'task.horizon' or 'planner.horizon'?"),
        ("planner.horizn=3", "no setting 'planner.horizn' with planner.kind=cem; did you mean 'planner.horizon'?"),
        (
            "planner.particles=3",
            "no setting 'planner.particles' with planner.kind=cem; did you mean 'imagination.particles'?",
        ),
        (
            "imagination.zzz=3",
            "no setting 'imagination.zzz'; choose one of: "
            "ignore_variance, moment_matching, optimism, particles, propagation, shared_noise",
        ),
        ("fit=[]", "'fit' is a section and cannot be []; set one of fit.KEY=VALUE"),
        ("model.hidden=x", "model.hidden='x': input should be a valid list"),
        ("model.weight_decay=x", "model.weight_decay='x': input should be a valid number or a valid list"),
        ("model.weight_decay=[-1]", "model.weight_decay.0=-1: input should be greater than or equal to 0"),
        ("model.hidden=[0]", "model.hidden.0=0: input should be greater than 0"),
        ("reward_model=3", "'reward_model' is a section and cannot be 3; set one of reward_model.KEY=VALUE"),
        (
            "reward_model.kind=gp",
            "no setting 'reward_model.kind'; did you mean 'model.kind' or 'fit.kind' or 'reward_fit.kind' or "
            "'planner.kind'?",
        ),
        ("imagination.propagation=TS2", "no imagination.propagation 'TS2'; did you mean 'TS1'?"),
        ("imagination.propagation=3", "imagination.propagation=3: input should be a valid string"),
        (
            "agent=null",
            "no agent 'None'; choose one of: imitation, mbmpc, pets, policy-optimization, trpo, value-expansion",
        ),
        ("agent=pet", "no agent 'pet'; did you mean 'pets'?"),
    ],
)
def test_a_mistake_in_a_setting(override, sentence):
    with pytest.raises(UserError) as mistake:
        resolve("pets/cartpole", [parse_override(override)])
    assert str(mistake.value) == sentence


@pytest.mark.parametrize("key", ["agent", "description", "task", "train", "model", "planner"])
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


@pytest.mark.parametrize("kind", ["random", "mppi"])
def test_a_change_of_kind_keeps_the_settings_that_the_new_kind_has_and_drops_the_others(kind):
    before = resolve("pets/cartpole").planner
    after = resolve("pets/cartpole", [parse_override(f"planner.kind={kind}")]).planner
    both = type(after).model_fields.keys() & type(before).model_fields.keys() - {"kind"}
    assert after.kind == kind
    assert {key: getattr(after, key) for key in both} == {key: getattr(before, key) for key in both}
    assert not hasattr(after, "elites")
    assert resolve(f"pets/cartpole+{kind}").planner == after


def test_a_kind_may_be_changed_together_with_its_own_settings():
    overrides = [parse_override("planner.kind=mppi"), parse_override("planner.temperature=0.5")]
    assert resolve("pets/cartpole", overrides).planner.temperature == 0.5
    assert resolve("pets/cartpole", [merge(*overrides)]).planner.temperature == 0.5


def test_the_kind_that_a_section_is_of_already_drops_nothing():
    assert resolve("pets/cartpole", [parse_override("planner.kind=cem")]) == resolve("pets/cartpole")


@pytest.mark.parametrize(
    ("preset", "override", "sentence"),
    [
        ("pets/cartpole", "planner.kind=nonsense", "no planner.kind 'nonsense'; choose one of: cem, mppi, random"),
        ("pets/cartpole", "planner.kind=null", "planner.kind must be a name, not None"),
        ("pets/cartpole", "planner.kind=CEM", "no planner.kind 'CEM'; choose one of: cem, mppi, random"),
        ("pets/cartpole", "planner.temperature=1", "no setting 'planner.temperature' with planner.kind=cem, only mppi"),
        ("pets/cartpole+mppi", "planner.elites=5", "no setting 'planner.elites' with planner.kind=mppi, only cem"),
        (
            "pets/cartpole+random",
            "planner.noise=coloured",
            "no setting 'planner.noise' with planner.kind=random, only cem or mppi",
        ),
        ("pets/cartpole+random", "planner.horizn=3", "no setting 'planner.horizn' with planner.kind=random; did you "),
        ("pets/cartpole", "planner=3", "'planner' is a section and cannot be 3; set one of planner.KEY=VALUE"),
        ("pets/cartpole", "model.kind=lstm", "no model.kind 'lstm'; choose one of: ensemble, gp, steve, true-model"),
        ("pets/cartpole", "model.inducing=9", "no setting 'model.inducing' with model.kind=ensemble, only gp"),
        ("pets/cartpole", "model.kind=gp", "model.kind=gp is trained with fit.kind=lbfgs, not adam"),
        ("steve/default", "learner.kind=ddgp", "no learner.kind 'ddgp'; did you mean 'ddpg'?"),
        ("steve/default", "expansion.reduction=lst", "no expansion.reduction 'lst'; did you mean 'last'?"),
        ("pets/cartpole", "planner.elites=41", "planner: elites (41) must not exceed population (40)"),
        ("pets/cartpole+random", "planner.replan_every=21", "planner: replan_every (21) must not exceed horizon (20)"),
    ],
)
def test_a_mistake_in_a_section_of_several_kinds(preset, override, sentence):
    with pytest.raises(UserError) as mistake:
        resolve(preset, [parse_override(override)])
    said = str(mistake.value)
    assert said.startswith(sentence) if sentence.endswith(" ") else said == sentence


def test_a_kind_that_cannot_take_a_value_begins_with_its_own():
    """STEVE's networks have one decay, not one for each layer."""
    steve = resolve("pets/cartpole", [{"model": {"kind": "steve"}, "fit": {"batch_size": 40}}]).model
    assert (steve.kind, steve.weight_decay, steve.hidden) == ("steve", 1e-4, (64, 64, 64))
    assert resolve("steve/default", [parse_override("model.kind=ensemble")]).model.weight_decay == 1e-6


def test_what_a_preset_does_not_say_of_a_section_is_as_the_agent_has_it():
    """Not as the class of the section has it: one setting more must not change the others."""
    plain, changed = (
        resolve("pets/cartpole", o).reward_model for o in ([], [parse_override("reward_model.members=3")])
    )
    assert changed == plain.model_copy(update={"members": 3})
    plain, changed = (
        resolve("steve/default", o).imagination for o in ([], [parse_override("imagination.shared_noise=true")])
    )
    assert plain.particles is None and changed == plain.model_copy(update={"shared_noise": True})


FAMILY_DEFAULTS = [name for name in preset_names() if name.endswith("/default")]


@pytest.mark.parametrize("name", FAMILY_DEFAULTS)
def test_the_defaults_leave_the_environment_open(name):
    assert families() == sorted(AGENTS_OF.keys() | {"ddpg", "mve", "sac", "steve", "td3"})
    settings = resolve(name)
    assert settings.task.env is None
    with pytest.raises(UserError, match=r"^name the environment: --env ID, for example --env Pendulum-v1$"):
        make_task(settings.task)


@pytest.mark.parametrize("name", [name for name in preset_names() if "imitation" not in name])
@pytest.mark.long
def test_any_number_of_layers_goes_with_any_preset(name):
    model = getattr(resolve(name), "model", None)
    if not hasattr(model, "hidden"):
        return
    for hidden in ((32,), (32, 32), (8,) * 9):
        settings = resolve(name, [{"model": {"hidden": list(hidden)}}])
        assert settings.model.hidden == hidden
        if settings.model.kind == "ensemble":
            assert len(settings.model.layer_decay) == len(hidden) + 1


# Classes of the user's.

OWN = """
from foretell.agents import PETSSettings
from foretell.models import EnsembleModel
from foretell.planning import CEM


class Wide(CEM):
    kind: str = "own_kinds:Wide"
    width: float = 2.0


class Deep(EnsembleModel):
    kind: str = "own_kinds:Deep"


class Patient(PETSSettings):
    agent: str = "own_kinds:Patient"
    patience: int = 3
"""


@pytest.fixture
def own_kinds(tmp_path, monkeypatch):
    (tmp_path / "own_kinds.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("own_kinds", None)


def test_a_class_of_the_users_is_a_kind(own_kinds):
    settings = resolve("pets/cartpole", [parse_override("planner.kind=own_kinds:Wide")])
    assert (settings.planner.kind, settings.planner.width, settings.planner.elites) == ("own_kinds:Wide", 2.0, 6)
    wider = [parse_override("planner.kind=own_kinds:Wide"), parse_override("planner.width=3")]
    assert resolve("pets/cartpole", wider).planner.width == 3.0
    assert validate(yaml.safe_load(yaml.safe_dump(settings.model_dump(mode="json")))) == settings
    assert resolve("pets/cartpole", [parse_override("model.kind=own_kinds:Deep")]).model.hidden == (64, 64, 64)
    own = resolve("pets/cartpole", [parse_override("agent=own_kinds:Patient"), parse_override("patience=4")])
    assert (own.agent, own.patience, own.planner) == ("own_kinds:Patient", 4, resolve("pets/cartpole").planner)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (
            "planner.kind=own_kinds:Wyde",
            "planner.kind 'own_kinds:Wyde': 'own_kinds' has no Planner 'Wyde'; did you mean",
        ),
        ("planner.kind=own_kinds:Deep", "planner.kind 'own_kinds:Deep': 'own_kinds' has no Planner 'Deep'"),
        ("planner.kind=nowhere:Wide", "planner.kind 'nowhere:Wide': cannot import 'nowhere' (ModuleNotFoundError"),
        ("agent=own_kinds:Wide", "agent 'own_kinds:Wide': 'own_kinds' has no RunSettings 'Wide'"),
        ("agent=nowhere:A", "agent 'nowhere:A': cannot import 'nowhere' (ModuleNotFoundError"),
    ],
)
def test_a_mistake_in_a_class_of_the_users(override, sentence, own_kinds):
    with pytest.raises(UserError) as mistake:
        resolve("pets/cartpole", [parse_override(override)])
    assert str(mistake.value).startswith(sentence)


def test_a_mistake_in_the_settings_of_a_class_of_the_users(own_kinds):
    overrides = [parse_override("planner.kind=own_kinds:Wide"), parse_override("planner.witdh=3")]
    with pytest.raises(UserError) as mistake:
        resolve("pets/cartpole", overrides)
    assert str(mistake.value) == (
        "no setting 'planner.witdh' with planner.kind=own_kinds:Wide; did you mean 'planner.width'?"
    )


def test_what_a_plugin_registers_is_a_choice_like_any_other(own_kinds, monkeypatch):
    monkeypatch.setitem(registry._registered["planner"], "wide", importlib.import_module("own_kinds").Wide)
    assert resolve("pets/cartpole", [parse_override("planner.kind=wide")]).planner.width == 2.0
    with pytest.raises(UserError, match=r"no setting 'planner.width' with planner.kind=cem, only wide"):
        resolve("pets/cartpole", [parse_override("planner.width=3")])


# What a run is called.


@pytest.mark.parametrize(
    ("preset", "env", "directory", "called"),
    [
        ("pets/cartpole", None, "runs/pets-cartpole/3", "pets/cartpole, seed 3"),
        ("pets/cartpole", "cartpole", "runs/pets-cartpole/3", "pets/cartpole, seed 3"),
        ("pets/cartpole+de+ts1", None, "runs/pets-cartpole+de+ts1/3", "pets/cartpole+de+ts1, seed 3"),
        ("pets/default", "Pendulum-v1", "runs/pets-default/Pendulum-v1/3", "pets/default on Pendulum-v1, seed 3"),
        (
            "pets/default+de",
            "environments:tiny/Line-v0",
            "runs/pets-default+de/environments-tiny-Line-v0/3",
            "pets/default+de on environments:tiny/Line-v0, seed 3",
        ),
        ("pets/cartpole", "reacher", "runs/pets-cartpole/reacher/3", "pets/cartpole on reacher, seed 3"),
    ],
)
def test_a_run_has_a_place_and_a_title_of_its_own(preset, env, directory, called):
    settings = resolve(preset, [{"task": {"env": env}}] if env else [])
    assert default_directory(preset, settings, 3) == Path(directory)
    assert title(preset, settings, 3) == called


CONSTANTS = {
    "cartpole": {
        "hidden": (500, 500, 500),
        "weight_decay": (1e-4, 2.5e-4, 2.5e-4, 5e-4),
        "learning_rate": 1e-3,
        "trials": 50,
        "horizon": 25,
        "population": 400,
        "elites": 40,
        "random": 2000,
        "steps": 200,
        "sizes": (6, 4),
    },
    "reacher": {
        "hidden": (200, 200, 200, 200),
        "weight_decay": (2.5e-4, 5e-4, 5e-4, 5e-4, 7.5e-4),
        "learning_rate": 7.5e-4,
        "trials": 100,
        "horizon": 25,
        "population": 400,
        "elites": 40,
        "random": 2000,
        "steps": 150,
        "sizes": (24, 17),
    },
    "pusher": {
        "hidden": (200, 200, 200),
        "weight_decay": (2.5e-4, 5e-4, 5e-4, 7.5e-4),
        "learning_rate": 1e-3,
        "trials": 100,
        "horizon": 25,
        "population": 500,
        "elites": 50,
        "random": 2500,
        "steps": 150,
        "sizes": (27, 20),
    },
    "halfcheetah": {
        "hidden": (200, 200, 200, 200),
        "weight_decay": (2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4),
        "learning_rate": 1e-3,
        "trials": 300,
        "horizon": 30,
        "population": 500,
        "elites": 50,
        "random": 2500,
        "steps": 1000,
        "sizes": (24, 18),
    },
}


@pytest.mark.parametrize("task", CONSTANTS)
def test_the_paper_presets_have_the_papers_constants_of_each_task(task):
    settings, world = resolve(f"pets/{task}-paper"), make_task(resolve(f"pets/{task}-paper").task)
    shooting = resolve(f"pets/{task}-paper+random").planner
    assert CONSTANTS[task] == {
        "hidden": settings.model.hidden,
        "weight_decay": settings.model.weight_decay,
        "learning_rate": settings.fit.learning_rate,
        "trials": settings.train.trials,
        "horizon": settings.planner.horizon,
        "population": settings.planner.population,
        "elites": settings.planner.elites,
        "random": shooting.population * shooting.iterations,
        "steps": world.spec.horizon,
        "sizes": (world.feature_size + world.spec.action_size, world.target_size),
    }
    assert settings.train.capacity >= (1 + settings.train.trials) * world.spec.horizon


@pytest.mark.parametrize("task", CONSTANTS)
def test_the_paper_presets_share_the_papers_other_constants(task):
    settings = resolve(f"pets/{task}-paper")
    model, fit, imagination, planner, train = (
        settings.model,
        settings.fit,
        settings.imagination,
        settings.planner,
        settings.train,
    )
    assert (model.name, model.members, model.activation) == ("PE", 5, "silu")
    assert (model.logvar_init, model.logvar_penalty, model.scale_targets) == ((-10.0, 0.5), 0.01, False)
    assert (fit.epochs, fit.batch_size, fit.bootstrap, fit.holdout, fit.anneal) == (5, 32, True, 0.0, False)
    assert (fit.min_steps, fit.max_steps) == (0, None)
    assert (imagination.propagation, imagination.particles) == ("TSinf", 20)
    assert not (imagination.shared_noise or imagination.ignore_variance)
    assert (planner.kind, planner.iterations, planner.alpha, planner.epsilon) == ("cem", 5, 0.1, 0.001)
    assert (planner.initial_std, planner.noise, planner.execute, planner.fill) == (0.25, "truncated", "mean", "zero")
    assert (planner.replan_every, planner.kept_elites, planner.mean_candidate) == (1, 0, False)
    assert (planner.population_decay, planner.smooth_variance) == (1.0, True)
    assert (train.random_episodes, train.random_steps, train.warmup_episodes) == (1, 0, 0)
    assert train.random_horizon is None


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


def test_the_paper_presets_reacher_has_the_original_goal_and_kinematics():
    paper, ours = (make_task(resolve(f"pets/reacher{name}").task) for name in ("-paper", ""))
    assert (paper.original_kinematics, paper.predicts_goal, paper.env_options["original_kinematics"]) == (
        True,
        False,
        True,
    )
    assert (ours.original_kinematics, ours.predicts_goal, ours.env_options["original_kinematics"]) == (
        False,
        True,
        False,
    )


def test_what_a_part_has_with_one_preset_others_do_not_take_over():
    assert resolve("pets/halfcheetah-paper+gp").model.inducing == 300
    assert resolve("pets/halfcheetah+gp").model.inducing == resolve("pets/cartpole-paper+gp").model.inducing == 200
    assert resolve("pets/halfcheetah+gp").fit.max_rows == 1000
