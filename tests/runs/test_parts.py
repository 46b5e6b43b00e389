"""Parts: one of each axis, applied in one order, and no composition that says what is not so."""

from itertools import combinations, product

import pytest

from foretell.errors import UserError
from foretell.runs.parts import AXES, part_names, parts_by_axis, read_part
from foretell.runs.presets import leaf_paths, parse_override, preset_names, read_preset, resolve
from foretell.runs.trees import value_at
from foretell.tasks import make_task
from tiny import by_hand

PENDULUM = {"task": {"env": "Pendulum-v1"}}


def mistake(name, *overrides):
    with pytest.raises(UserError) as error:
        resolve(name, list(map(parse_override, overrides)))
    return str(error.value)


def test_every_part_is_of_an_axis():
    found = parts_by_axis()
    assert list(found) == list(AXES) and all(found.values())
    assert sorted(part.name for parts in found.values() for part in parts) == part_names()
    assert all(part.description and part.settings for parts in found.values() for part in parts)


def test_the_ladders_of_sizes_are_settings():
    assert not [name for name in part_names() if name[-1].isdigit() and name[0] in "khl"]
    changes = ["planner.population=100", "planner.horizon=4", "model.hidden=[500]"]
    settings = resolve("mbmpc/cheetah-hw4", list(map(parse_override, changes)))
    assert (settings.planner.population, settings.planner.horizon, settings.model.hidden) == (100, 4, (500,))
    assert resolve("steve/humanoid", [parse_override("expansion.horizon=1")]).expansion.horizon == 1


def test_the_presets_that_used_a_ladder_are_as_they_were():
    for name in ("mbmf/cheetah-icem-mpc", "mbmf/cheetah-icem-imitation"):
        planner = resolve(name).planner
        assert (planner.population, planner.iterations, planner.elites, planner.noise_exponent) == (100, 4, 10, 1.0)
        assert (planner.noise, planner.execute, planner.kept_elites, planner.horizon) == ("coloured", "best", 3, 20)


# Order.


def test_parts_are_merged_over_a_preset():
    plain, mixed = resolve("pets/cartpole"), resolve("pets/cartpole+de+ts1+random")
    assert (mixed.model.name, mixed.imagination.propagation, mixed.planner.kind) == ("DE", "TS1", "random")
    assert mixed.model == plain.model.model_copy(update={"probabilistic": False})
    assert (mixed.fit, mixed.train, mixed.task) == (plain.fit, plain.train, plain.task)
    parts = [read_part(part).description for part in ("de", "ts1", "random")]
    assert mixed.description == "; ".join([plain.description, *parts])


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("pets/cartpole+de+ts1+random", "pets/cartpole+random+ts1+de"),
        ("pets/cartpole+p+mm", "pets/cartpole+mm+p"),
        ("steve/default+ddpg+td3+released", "steve/default+released+td3+ddpg"),
        ("steve/default+mve+no-tdk", "steve/default+no-tdk+mve"),
        ("steve/default+mean-mve+single", "steve/default+single+mean-mve"),
        ("pets/default+precise+mppi", "pets/default+mppi+precise"),
        ("pets/cartpole+p+ts1", "pets/cartpole+ts1+p"),
        ("pets/cartpole+gp+no-aggregation", "pets/cartpole+no-aggregation+gp"),
    ],
)
def test_the_order_in_which_parts_are_written_makes_no_difference(name, other):
    try:
        settings = resolve(name)
    except UserError as error:
        assert mistake(other) == str(error)
    else:
        assert resolve(other) == settings


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("pets/cartpole+random+cem", "the parts 'random' and 'cem' both choose the planner; keep one"),
        ("pets/cartpole+ts1+tsinf", "the parts 'ts1' and 'tsinf' both choose the propagation; keep one"),
        ("pets/cartpole+tsinf+de+ts1", "the parts 'tsinf' and 'ts1' both choose the propagation; keep one"),
        ("pets/cartpole+true-model+pe", "the parts 'true-model' and 'pe' both choose the model; keep one"),
        ("steve/default+mve+cov", "the parts 'mve' and 'cov' both choose the target; keep one"),
        ("steve/default+td3+sac", "the parts 'td3' and 'sac' both choose the learner; keep one"),
        ("pets/cartpole+de+de", "the part 'de' is given twice; keep one"),
    ],
)
def test_there_is_one_part_of_each_axis(name, sentence):
    assert mistake(name) == sentence


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "td3/default+sac",
            "'td3/default' already chooses the learner, by the part 'td3'; start with 'steve/default+ddpg+sac'",
        ),
        (
            "ddpg/default+mve",
            "'ddpg/default' already chooses the target, by the part 'ddpg'; start with 'steve/default+mve'",
        ),
        (
            "mbmf/cheetah-icem-mpc+random",
            "'mbmf/cheetah-icem-mpc' already chooses the planner, by the part 'icem'; start with "
            "'mbmf/cheetah-mpc+random'",
        ),
        ("mve/default+mve", "'mve/default' already has the part 'mve'"),
    ],
)
def test_what_a_base_has_chosen_stays_chosen(name, sentence):
    assert mistake(name) == sentence


def test_td3_alone_is_a_base_and_two_parts():
    td3, made = resolve("td3/default"), resolve("steve/default+ddpg+td3")
    assert td3.learner == made.learner.model_copy(update={"target_tau": 0.02})
    assert td3.model_copy(update={"learner": made.learner, "description": made.description}) == made


# Names.


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("pets/cartpole+mmpi", "no part 'mmpi' for a preset; did you mean 'mppi'?"),
        ("pets/cartpole+de+Random", "no part 'Random' for a preset; did you mean 'random'?"),
        ("pets/cartpole+pets/default", "no part 'pets/default' for a preset"),
        ("pets/cartpole+", "no part '' for a preset"),
        ("pets/cartpole+k100", "no part 'k100' for a preset"),
        ("pets/cartpol+de", "no preset 'pets/cartpol'; did you mean 'pets/cartpole'?"),
        ("de+ts1", "no preset 'de'"),
    ],
)
def test_a_mistake_in_a_name_with_parts(name, sentence):
    with pytest.raises(UserError) as error:
        read_preset(name)
    said = str(error.value)
    assert said == sentence if sentence.endswith("?") else said.startswith(sentence)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "steve/default+random",
            "the part 'random' changes 'planner', which the agent 'value-expansion' does not have",
        ),
        ("pets/cartpole+cov", "the part 'cov' changes 'expansion', which the agent 'pets' does not have"),
        ("trpo/default+de", "the part 'de' changes 'model', which the agent 'trpo' does not have"),
    ],
)
def test_a_part_of_another_family_is_refused(name, sentence):
    assert mistake(name) == sentence


# Compositions that would say what is not so.

NO_MODEL = "of at least 1, not 0: without imagined steps there is no model"
NOT_FIT = "the part '{}' does not fit: no setting '{}' with {}, only {}".format
NONSENSE = [
    ("mbmpc/default+cem", "the part 'cem' needs planner.iterations of at least 2, not 1: it refines its search from"),
    ("mbmpc/default+icem", "the part 'icem' needs planner.iterations of at least 2, not 1: it refines its search from"),
    ("ddpg/default+de", f"the part 'de' needs expansion.horizon {NO_MODEL}"),
    ("ddpg/default+gp", f"the part 'gp' needs expansion.horizon {NO_MODEL}"),
    ("ddpg/default+tsinf", f"the part 'tsinf' needs expansion.horizon {NO_MODEL}"),
    ("steve/default+ddpg+single", f"the part 'single' needs expansion.horizon {NO_MODEL}"),
    (
        "steve/default+single",
        "the part 'single' cannot be combined with expansion.reduction=inverse-variance: single networks have no",
    ),
    (
        "steve/default+cov+single",
        "the part 'single' cannot be combined with expansion.reduction=inverse-covariance: single networks have no",
    ),
    ("steve/default+no-tdk", "the part 'no-tdk' has no effect without expansion.tdk=true; add ensemble-mve or mve"),
    ("steve/default+cov+no-tdk", "the part 'no-tdk' has no effect without expansion.tdk=true; add ensemble-mve or mve"),
    ("steve/default+gp", "model.kind=gp cannot be trained by single gradient steps, as 'value-expansion' does"),
    ("steve/default+ts1", "imagination.propagation must be TSinf with model.kind=steve, not TS1"),
    ("steve/default+mve+de", NOT_FIT("mve", "model.reward_members", "model.kind=ensemble", "steve")),
    ("steve/default+td3+released", NOT_FIT("released", "learner.explore_probability", "learner.kind=td3", "ddpg")),
    ("steve/default+de+released", NOT_FIT("released", "model.assignment", "model.kind=ensemble", "steve")),
    ("pets/default+random+precise", NOT_FIT("precise", "planner.initial_std", "planner.kind=random", "cem or mppi")),
    ("pets/default+gp+precise", NOT_FIT("precise", "model.logvar_init", "model.kind=gp", "ensemble")),
    ("pets/default+gp+no-aggregation", NOT_FIT("no-aggregation", "fit.new_share", "fit.kind=lbfgs", "adam")),
    (
        "pets/default+true-model+no-aggregation",
        "the part 'no-aggregation' cannot be combined with model.kind=true-model: it does not distinguish",
    ),
    (
        "steve/default+no-aggregation",
        "the part 'no-aggregation' cannot be combined with the agent 'value-expansion': its model learns from",
    ),
    (
        "mbmf/cheetah-imitation+no-aggregation",
        "the part 'no-aggregation' cannot be combined with the agent 'imitation': it takes over the model of the run",
    ),
    (
        "steve/default+true-model",
        "the part 'true-model' cannot be combined with the agent 'value-expansion': its critics still need random data",
    ),
    (
        "mbmf/cheetah-imitation+de",
        "'model' must be the same as in 'mbmf/cheetah-mpc', the preset in train.pretrained; add --set "
        "train.pretrained=mbmf/cheetah-mpc+de",
    ),
    *(
        (
            f"pets/default+true-model+{part}",
            f"the part '{part}' cannot be combined with model.kind=true-model: it has nothing to propagate",
        )
        for part in ("ds", "e", "mm", "ts1", "tsinf")
    ),
]


@pytest.mark.parametrize(("name", "sentence"), NONSENSE, ids=lambda value: value if "/" in value else "")
def test_a_composition_that_would_say_what_is_not_so_is_refused(name, sentence):
    assert mistake(name).startswith(sentence)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("mbmpc/default+cem", ["planner.iterations=3"]),
        ("mbmf/cheetah-mpc+icem", ["planner.iterations=4"]),
        ("steve/default+ddpg+single", ["expansion.horizon=2", "expansion.reduction=last"]),
        ("steve/default", ["model.kind=true-model"]),
        ("mbmf/cheetah-imitation+de", ["train.pretrained=mbmf/cheetah-mpc+de"]),
        ("mbmf/cheetah-imitation+de", ["train.pretrained=runs/mine/0"]),
        ("steve/default+cov+single", ["learner.critics=4", "expansion.reduction=mean"]),
    ],
)
def test_what_is_refused_is_right_with_the_settings_that_make_it_so(name, overrides):
    resolve(name, list(map(parse_override, overrides)))


@pytest.mark.parametrize(
    ("name", "overrides", "sentence"),
    [
        (
            "pets/cartpole+mm",
            ["imagination.particles=1"],
            "imagination.propagation=MM needs several particles to match, not 1",
        ),
        (
            "pets/cartpole+icem",
            ["planner.iterations=1"],
            "the part 'icem' needs planner.iterations of at least 2, not 1",
        ),
        ("steve/default+cov", ["expansion.horizon=0"], "the part 'cov' needs expansion.horizon of at least 1, not 0"),
        (
            "mbmf/cheetah-imitation",
            ["model.hidden=[32]"],
            "'model' must be the same as in 'mbmf/cheetah-mpc', the preset in",
        ),
        ("mbmf/cheetah-icem-mpc", ["planner.elites=101"], "planner: elites (101) must not exceed population (100)"),
    ],
)
def test_settings_that_make_a_composition_nonsense_are_refused(name, overrides, sentence):
    assert mistake(name, *overrides).startswith(sentence)


def test_one_network_that_is_looked_through_has_as_many_particles_as_the_propagation_needs():
    """A base of one particle, as propagation E has, must not stay at one with the others."""
    for parts, particles in (("", 1), ("+p", 20), ("+pe+ts1", 20), ("+pe+mm", 20), ("+gp", 20), ("+de+e", 1)):
        settings = resolve(f"mbmpc/default{parts}", [PENDULUM])
        if "gp" not in parts:
            assert settings.build(make_task(settings.task)).model.particles == particles


def test_the_true_model_acts_in_one_environment_and_needs_no_data():
    """Its state may be known of one alone."""
    for preset in ("pets/default", "mbmpc/default", "mbmf/cheetah-mpc", "pets/halfcheetah"):
        train = resolve(f"{preset}+true-model").train
        assert (train.environments, train.random_episodes, train.random_steps, train.warmup_episodes) == (1, 0, 0, 0)


@pytest.mark.long
@pytest.mark.parametrize("family", ["pets/default", *by_hand("mbmpc/default", "steve/default", "mve/default")])
def test_every_pair_of_parts_is_what_both_say_or_is_refused(family):
    """But for what a part says of the propagation unless another is chosen."""
    chosen, kinds = 0, {"propagation", "pairs"}
    for pair in combinations(part_names(), 2):
        try:
            settings = resolve(f"{family}+{'+'.join(pair)}").model_dump(mode="json")
        except UserError:
            continue
        chosen += 1
        free = {"imagination.propagation", "expansion.tdk"} if {read_part(p).axis for p in pair} & kinds else set()
        for part in map(read_part, pair):
            for path in set(leaf_paths(part.settings)) - free:
                assert value_at(settings, path) == value_at(part.settings, path), (pair, path)
    assert chosen > 20


@pytest.mark.parametrize("part", part_names())
@pytest.mark.long
def test_every_part_goes_with_a_family_and_is_then_built(part):
    families = ("pets/default", "mbmpc/default", "steve/default", "steve/default+mve", "steve/default+mean-mve")
    if read_part(part).axis == "branches":
        families = ("mbpo/default", "dhmbpo/default")
    found = []
    for name in families:
        try:
            settings = resolve(f"{name}+{part}", [PENDULUM])
        except UserError:
            continue
        found.append(settings.build(make_task(settings.task)))
    assert found


# Descriptions.


@pytest.mark.parametrize(
    ("name", "overrides", "ends"),
    [
        ("steve/default+ddpg", [], "; no model and one critic, the learner alone"),
        ("steve/default+ddpg", ["expansion.horizon=0"], "; no model and one critic, the learner alone"),
        ("steve/default+ddpg", ["expansion.horizon=5"], "; ddpg; but expansion.horizon=5"),
        ("ddpg/default", ["expansion.horizon=5"], "; but expansion.horizon=5"),
        (
            "steve/default+ddpg+td3",
            ["learner.policy_delay=1"],
            "; no model and one critic, the learner alone; td3; but learner.policy_delay=1",
        ),
        ("pets/cartpole+random", ["planner.kind=cem"], "; random; but planner.kind=cem"),
        ("pets/cartpole+de", ["model.hidden=[8]"], "; DE, an ensemble of deterministic networks"),
        ("steve/default+ddpg", ["expansion.horizon=5", "description=mine"], "mine"),
    ],
)
def test_a_description_does_not_claim_what_overrides_have_changed(name, overrides, ends):
    description = resolve(name, list(map(parse_override, overrides))).description
    plain = resolve(name.partition("+")[0]).description
    assert description == (f"{plain}{ends}" if ends[0] == ";" else ends)


# The ablation of PETS.

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
        return f"imagination.propagation={propagation} needs a model with uncertainty, which D does not have; choose E"
    return None


@pytest.mark.parametrize("task", ["cartpole", "reacher", "pusher", "halfcheetah"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.long
def test_every_combination_of_model_propagation_and_planner_resolves_or_tells_what_is_wrong(task, model):
    for propagation, planner in product(PROPAGATIONS, PLANNERS):
        name = f"pets/{task}+{model}+{propagation}+{planner}"
        expected = mistake_of(MODELS[model], PROPAGATIONS[propagation])
        if expected:
            assert mistake(name) == expected, name
            continue
        found = resolve(name)
        assert found.task.env == task
        assert (found.model.name, found.imagination.propagation) == (MODELS[model], PROPAGATIONS[propagation])
        assert found.planner.kind == PLANNERS[planner]
        assert found.imagination.particles is None or propagation != "e"


@pytest.mark.parametrize("model", ["p", "d"])
def test_a_single_network_has_a_propagation_that_goes_with_it_even_if_none_is_asked_for(model):
    assert resolve(f"pets/cartpole-paper+{model}").model.members == 1


def test_icem_is_the_published_one_and_cem_that_of_pets():
    icem = resolve("pets/cartpole-paper+icem").planner
    assert (icem.noise, icem.execute, icem.mean_candidate, icem.population_decay) == ("coloured", "best", "last", 1.25)
    assert (icem.noise_scale, icem.fill, icem.kept_fill, icem.smooth_variance) == ("released", "last", "drawn", "std")
    paper = resolve("pets/cartpole-paper").planner
    assert resolve("pets/cartpole-paper+cem").planner == paper
    plain = resolve("pets/cartpole+cem").planner
    same = ("noise", "kept_elites", "mean_candidate", "execute", "population_decay", "alpha")
    assert {key: getattr(plain, key) for key in same} == {key: getattr(paper, key) for key in same}


@pytest.mark.long
def test_no_preset_changes_what_it_says_of_its_parts():
    for name in preset_names():
        settings = resolve(name)
        assert "; but " not in settings.description
