"""`foretell show`: the settings of a preset, and the reference of all settings, as the code documents them."""

import textwrap

import pytest
import yaml

from foretell import registry
from foretell.agents import PETSSettings
from foretell.errors import UserError
from foretell.planning import CEM
from foretell.runs.docs import attribute_docs, flow, summary
from foretell.runs.presets import parse_override, part_names, preset_names, resolve, setting_paths, validate
from foretell.runs.reference import reference, reference_names
from foretell.runs.shown import departures, shown
from foretell.settings import Settings


def marked(text):
    """The settings that are marked, with what they are elsewhere."""
    lines = [line for line in text.splitlines()[1:] if "# * " in line]
    return {line.split(":")[0].strip(): line.partition("# * ")[2].partition("  ")[0] for line in lines}


@pytest.mark.parametrize("name", [name for name in preset_names() if "-paper" not in name])
@pytest.mark.long
def test_what_is_shown_of_a_preset_is_a_preset(name):
    tree, settings = yaml.safe_load(shown(name)), resolve(name)
    assert validate(tree) == settings and tree == settings.model_dump(mode="json")


def test_settings_are_shown_with_what_is_written_about_them():
    lines = {line.strip().partition(":")[0]: line for line in shown("pets/cartpole").splitlines()}
    docs = attribute_docs(CEM)
    assert lines["iterations"].endswith(f"# * 5  {summary(docs['iterations'])}")
    assert lines["replan_every"].endswith(f"# {summary(docs['replan_every'])}")
    assert lines["planner"].endswith(f"# {summary(attribute_docs(type(resolve('pets/cartpole')))['planner'])}")
    undocumented = [line for line in shown("steve/default").splitlines() if "#" not in line]
    assert [line.strip() for line in undocumented] == [
        "agent: value-expansion",
        f"description: {resolve('steve/default').description}",
        "kind: adam",  # of a section that is always of this kind
    ]


def test_settings_that_are_not_those_of_the_base_are_marked():
    text = shown("pets/default")
    assert text.startswith("# The settings of pets/default, marked * where they are not those of pets/cartpole\n")
    assert marked(text) == {
        "env": "cartpole",
        "trials": "10",
        "random_steps": "0",
        "capacity": "20000",
        "min_steps": "1000",
        "horizon": "20",
        "population": "40",
        "iterations": "2",
        "noise_exponent": "3.0",
        "elites": "6",
    }


def test_parts_and_overrides_are_marked_where_they_change_the_preset():
    text = shown("pets/cartpole+de", [parse_override("planner.population=50")])
    assert "not those of pets/cartpole\n" in text
    assert marked(text) == {"probabilistic": "true", "population": "40"}
    assert "# *" not in shown("pets/cartpole-paper")


def test_a_base_need_not_be_complete_nor_of_the_same_agent():
    found = marked(shown("mbmf/cheetah-icem-imitation"))
    assert found["iterations"] == "1" and found["pretrained"] == "mbmf/cheetah-mpc"
    found = marked(shown("mbmf/cheetah-imitation"))
    assert found["agent"] == "mbmpc" and found["imitation"] == "not in mbmf/cheetah-mpc"


def test_departures_are_from_the_plain_preset():
    overrides = [parse_override("planner.population=50"), parse_override("train.trials=10")]
    found = departures("pets/cartpole+de", resolve("pets/cartpole+de", overrides))
    assert [tuple(one) for one in found] == [("model.probabilistic", False, True), ("planner.population", 50, 40)]
    assert departures("pets/cartpole", resolve("pets/cartpole")) == []


# The reference.


@pytest.mark.parametrize("name", reference_names())
def test_everything_has_a_reference(name):
    text = reference(name)
    assert len(text.splitlines()) > 1 and all(len(line) < 200 or ": section" in line for line in text.splitlines())


@pytest.mark.long
def test_every_setting_of_every_agent_is_documented():
    for cls in registry.kinds("agent").values():
        for path in setting_paths(cls):
            if path.count(".") == 1 and not path.endswith(".kind"):
                assert len(reference(path).splitlines()) > 2, path


def test_the_reference_of_a_kind():
    lines = reference("planner.cem").splitlines()
    assert lines[0] == f"planner.kind=cem: {summary(CEM.__doc__)}"
    at = lines.index("  elites: whole number > 0 = 40")
    about = textwrap.wrap(attribute_docs(CEM)["elites"], 110)
    assert [line.strip() for line in lines[at + 1 : at + 1 + len(about)]] == about
    assert "  alpha: number >= 0 and < 1 = 0.1" in lines
    assert "  noise: truncated or coloured = truncated" in lines
    assert not [line for line in lines if line.startswith("  kind:")]


def test_the_reference_of_a_section_of_several_kinds_tells_what_they_share():
    text = reference("planner")
    shared, own = text.partition("planner.kind=cem or mppi or random:")[2].split("planner.kind=cem:")
    assert "  population: " in shared and "  elites: " not in shared and "  elites: " in own
    assert "  population: " not in own and "planner.kind=random:" not in text


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("train", "  trials: whole number > 0 = 10"),
        ("train", "  steps_per_learning: whole number > 0 or null = null"),
        ("task", "  options: mapping = {}"),
        ("model.ensemble", "  weight_decay: number >= 0 or list of number >= 0 = [0.0001, 0.00025, 0.00025, 0.0005]"),
        ("model.ensemble", "  logvar_init: list of 2, each number = [-10.0, 0.5]"),
        ("imagination", "  propagation: DS or E or MM or TS1 or TS1-independent or TSinf = TSinf"),
        ("imagination", "  particles: whole number > 0 or null = 20, or null with value-expansion"),
        ("reward_model", "  null by default: policy-optimization, value-expansion"),
        ("planner.population", "planner.kind=cem or mppi or random:"),
        ("planner.temperature", "planner.kind=mppi:"),
        ("train.trials", "  trials: whole number > 0 = 10"),
        ("propagation", f"  TSinf            {summary(registry.find('propagation', 'TSinf').__doc__)}"),
        ("agent", f"  pets                 {summary(PETSSettings.__doc__)}"),
        ("pets", f"  planner        {summary(attribute_docs(PETSSettings)['planner'])}"),
        ("de", "  axis: model, the model of the dynamics"),
        ("de", "  model: {kind: ensemble, members: 5, probabilistic: false}"),
    ],
)
def test_a_line_of_the_reference(name, line):
    assert line in reference(name).splitlines()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("plannr", "planner"),
        ("planner.cme", "planner.cem"),
        ("planner.cem.elites", "planner.elites"),
        ("cartpole", "pets/cartpole"),
        ("learnr.sac", "learner.sac"),
        ("tre-model", "true-model"),
        ("train.trails", "train.trials"),
    ],
)
def test_a_typo_gives_the_nearest(name, meant):
    with pytest.raises(UserError) as error:
        reference(name)
    assert str(error.value) == (f"there is no preset, section, setting or part '{name}'; did you mean '{meant}'?")


def test_no_two_things_have_one_name():
    names = reference_names()
    assert len(names) == len(set(names))
    agents, parts = set(registry.kinds("agent")), set(part_names())
    assert not agents & parts and not parts & {name for name in names if name not in parts}


class Above(Settings):
    """A section."""

    one: int = 1
    """The first
    of two."""
    two: int = 2
    """The second."""


class Below(Above):
    """Another."""

    two: int = 3
    three: int = 4
    """The third."""
    four: int = 5


def test_docstrings_of_a_class_are_its_bases_too():
    assert attribute_docs(Above) == {"one": "The first of two.", "two": "The second."}
    assert attribute_docs(Below) == {**attribute_docs(Above), "three": "The third."}


def test_without_its_source_a_class_has_no_docstrings():
    made = type("Made", (Above,), {"__module__": "nowhere"})
    assert attribute_docs(made) == attribute_docs(Above)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("One. Two.", "One"),
        ("One; two.", "One"),
        ("As in Pinneri et al. 2021, so. More.", "As in Pinneri et al. 2021, so"),
        ("One\n    line. More", "One line"),
        ("", ""),
        (None, ""),
    ],
)
def test_the_first_sentence(text, first):
    assert summary(text) == first


def test_values_are_written_as_yaml():
    values = [1, 1e-5, None, True, "a", (1, 2), {"a": [1]}, "a: b"]
    assert [yaml.safe_load(flow(value)) for value in values] == [1, 1e-5, None, True, "a", [1, 2], {"a": [1]}, "a: b"]
    assert all("\n" not in flow(value) for value in [*values, "word " * 100])
