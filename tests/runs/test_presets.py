"""Presets and overrides: how they merge, and the sentence for each mistake."""

from itertools import product

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from foretell.errors import UserError, brief, nearest
from foretell.tasks import make_task
from foretell.runs.presets import (
    leaf_paths,
    merge,
    parse_override,
    part_names,
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


AGENTS_OF = {family: [family] for family in ("pets", "mbmpc", "trpo")} | {"mbmf": ["mbmpc", "imitation", "trpo"]}


@pytest.mark.parametrize("name", preset_names())
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
    assert {"planner.elites", "planner.temperature"} <= set(paths)  # of all kinds
    tree = settings.model_dump()
    sections = {name: section for name, section in tree.items() if isinstance(section, dict)}
    chosen = setting_paths(type(settings), {name: section.get("kind", "") for name, section in sections.items()})
    for name, section in sections.items():
        assert {path for path in chosen if path.startswith(f"{name}.")} == {f"{name}.{key}" for key in section}


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
        ("agent=null", "no agent 'None'; choose one of: imitation, mbmpc, oracle, pets, trpo, value-expansion"),
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


def test_parts_are_merged_over_a_preset_in_order():
    first, second = resolve("pets/cartpole+ts1+tsinf"), resolve("pets/cartpole+tsinf+ts1")
    assert (first.imagination.propagation, second.imagination.propagation) == ("TSinf", "TS1")
    plain, mixed = resolve("pets/cartpole"), resolve("pets/cartpole+de+ts1+random")
    assert (mixed.model.name, mixed.imagination.propagation, mixed.planner.kind) == ("DE", "TS1", "random")
    assert mixed.model == plain.model.model_copy(update={"probabilistic": False})
    assert (mixed.fit, mixed.train, mixed.task) == (plain.fit, plain.train, plain.task)
    parts = [read_preset(f"pets/cartpole+{part}")["description"].partition("; ")[2] for part in ("de", "ts1", "random")]
    assert mixed.description == "; ".join([plain.description, *parts])


@pytest.mark.parametrize("part", part_names())
def test_every_part_goes_with_every_preset_as_far_as_the_model_allows(part):
    """Nothing else of a part can be wrong: its sections and settings are there."""
    for name in preset_names():
        try:
            resolve(f"{name}+{part}")
        except UserError as mistake:
            foreign = ("the part", "the setting 'planner' is missing", "no setting 'learner.", "no setting 'planner.")
            assert str(mistake).startswith(
                ("imagination.", "imitation.warm_labels needs", "model: GP", "planner: elites", *foreign)
            ), mistake


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("steve/default+de", "the part 'de' changes 'model', which the agent 'value-expansion' does not have"),
        ("pets/cartpole+cov", "the part 'cov' changes 'expansion', which the agent 'pets' does not have"),
    ],
)
def test_a_part_of_another_family_is_refused(name, sentence):
    with pytest.raises(UserError) as mistake:
        resolve(name)
    assert str(mistake.value) == sentence


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("pets/cartpole+mmpi", "no part 'mmpi' for a preset; did you mean 'mppi'?"),
        ("pets/cartpole+de+Random", "no part 'Random' for a preset; did you mean 'random'?"),
        ("pets/cartpole+pets/default", "no part 'pets/default' for a preset"),
        ("pets/cartpole+", "no part '' for a preset"),
        ("pets/cartpol+de", "no preset 'pets/cartpol'; did you mean 'pets/cartpole'?"),
        ("de+ts1", "no preset 'de'"),
    ],
)
def test_a_mistake_in_a_name_with_parts(name, sentence):
    with pytest.raises(UserError) as mistake:
        read_preset(name)
    said = str(mistake.value)
    assert said == sentence if sentence.endswith("?") else said.startswith(sentence)


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
        ("pets/cartpole", "planner.kind=null", "no planner.kind 'None'; choose one of: cem, mppi, random"),
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
        ("pets/cartpole", "planner.elites=41", "planner: elites (41) must not exceed population (40)"),
        ("pets/cartpole+random", "planner.replan_every=21", "planner: replan_every (21) must not exceed horizon (20)"),
    ],
)
def test_a_mistake_in_a_section_of_several_kinds(preset, override, sentence):
    with pytest.raises(UserError) as mistake:
        resolve(preset, [parse_override(override)])
    said = str(mistake.value)
    assert said.startswith(sentence) if sentence.endswith(" ") else said == sentence


MODELS = {"pe": "PE", "p": "P", "de": "DE", "d": "D"}
PROPAGATIONS = {"e": "E", "ds": "DS", "ts1": "TS1", "tsinf": "TSinf", "mm": "MM"}
PLANNERS = {"cem": "cem", "random": "random", "icem": "cem", "mppi": "mppi"}


def mistake_of(model, propagation):
    """What is wrong with a type of model and a propagation, if anything."""
    if propagation.startswith("TS") and model in ("P", "D"):
        also = "E" if model == "D" else "E, DS, MM"
        needs = "a model of several networks"
        return f"imagination.propagation={propagation} needs {needs}, not {model}; choose one of: {also}"
    if model == "D" and propagation != "E":
        return f"imagination.propagation={propagation} needs an uncertain model, which D is not; choose E"
    return None


@pytest.mark.parametrize("task", ["cartpole", "reacher", "pusher", "halfcheetah"])
@pytest.mark.parametrize("model", MODELS)
def test_every_combination_of_model_propagation_and_planner_resolves_or_tells_what_is_wrong(task, model):
    for propagation, planner in product(PROPAGATIONS, PLANNERS):
        name = f"pets/{task}+{model}+{propagation}+{planner}"
        expected = mistake_of(MODELS[model], PROPAGATIONS[propagation])
        if expected:
            with pytest.raises(UserError) as mistake:
                resolve(name)
            assert str(mistake.value) == expected, name
            continue
        found = resolve(name)
        assert found.task.env == task
        assert (found.model.name, found.imagination.propagation) == (MODELS[model], PROPAGATIONS[propagation])
        assert found.planner.kind == PLANNERS[planner]
        assert (found.imagination.count(found.model) == 1) == (propagation == "e")


@pytest.mark.parametrize("model", ["p", "d"])
def test_a_single_network_has_a_propagation_that_goes_with_it_even_if_none_is_asked_for(model):
    assert resolve(f"pets/cartpole-paper+{model}").model.members == 1


def test_icem_is_the_published_one_and_cem_undoes_it():
    icem = resolve("pets/cartpole-paper+icem").planner
    assert (icem.noise, icem.execute, icem.mean_candidate, icem.population_decay) == ("coloured", "best", True, 1.25)
    undone, paper = resolve("pets/cartpole-paper+icem+cem").planner, resolve("pets/cartpole-paper").planner
    apart = {key for key in type(paper).model_fields if getattr(undone, key) != getattr(paper, key)}
    assert apart <= {"epsilon", "fill"}


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
