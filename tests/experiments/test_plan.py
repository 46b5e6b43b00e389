"""What a study is asked to run: presets, studies that Foretell brings, and files of users."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from stubs import plan

from foretell import UserError
from foretell.cli import main
from foretell.experiments.files import StudyFile, assignments, read_study, study_names
from foretell.experiments.plan import make_plan
from foretell.runs.presets import merge, parse_override, preset_names, resolve
from tiny import LINE

KEYS = st.text("abcdefgh", min_size=1, max_size=4)
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(-1e6, 1e6) | st.text(max_size=5) | st.lists(st.integers())
)
TREES = st.dictionaries(KEYS, LEAVES | st.dictionaries(KEYS, LEAVES, min_size=1, max_size=3), max_size=4)


@settings(max_examples=30, deadline=None)
@given(TREES)
def test_assignments_say_what_the_settings_say(tree):
    found: dict = {}
    for text in assignments(tree):
        found = merge(found, parse_override(text))
    assert found == tree


def test_studies_and_presets_have_different_names():
    assert not set(study_names()) & set(preset_names())


@pytest.mark.parametrize("paper", [False, True], ids=["default", "paper"])
@pytest.mark.parametrize("name", study_names())
@pytest.mark.long
def test_every_variant_that_foretell_brings_is_a_run(name, paper):
    study = read_study(name)
    for variant in study.chosen(paper=paper).values():
        resolve(variant.preset, [parse_override(text) for text in assignments(variant.set)])
    assert study.has_paper


def test_the_published_studies_are_there():
    """STEVE's released files (eight robots, two of them also as speedruns), MVE's nine, MB-MF's robots."""
    count = {name: len(read_study(name).variants) for name in study_names()}
    assert count["steve/goodruns"] == 8 * 3 and count["steve/speedruns"] == 2 * 3 and count["steve/ablations"] == 8
    assert count["mve/released"] == 9 and count["pets/curves"] == 4 and count["mbmf/robots"] == 4 * 3
    horizons = read_study("mve/horizons").variants.values()
    assert [variant.set.get("expansion.horizon") for variant in horizons] == [None, 1, 2, 3, 5, 10]


def test_settings_of_a_study_are_left_out_on_paper():
    tree = {"description": "d", "set": {"a": 1, "b": 1}, "paper": {"y": "p/y-paper"}}
    study = StudyFile.model_validate({**tree, "variants": {"x": {"preset": "p/x", "set": {"b": 2}}, "y": "p/y"}})
    assert {label: (one.preset, one.set) for label, one in study.chosen(paper=False).items()} == {
        "x": ("p/x", {"a": 1, "b": 2}),
        "y": ("p/y", {"a": 1, "b": 1}),
    }
    assert [(one.preset, one.set) for one in study.chosen(paper=True).values()] == [
        ("p/x", {"b": 2}),
        ("p/y-paper", {}),
    ]


@pytest.fixture
def mine(tmp_path):
    """A study of the user's, with a preset in a file beside it."""
    (tmp_path / "own.yaml").write_text("base: pets/default\nplanner: {population: 7}\n")
    variants = {"mine": "own.yaml", "sharper": {"preset": "pets/default", "set": {"planner.population": 9}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"description": "d", "seeds": 3, "variants": variants}))
    return tmp_path / "mine.yaml"


def test_a_study_of_the_user_s(mine):
    found = plan(str(mine), seeds=None, sets=["planner.iterations=2"])
    assert [(arm.label, arm.settings.planner.iterations) for arm in found.arms] == [("mine", 2), ("sharper", 2)]
    assert found.seeds == 3 and found.arms[0].preset == str(mine.parent / "own.yaml")
    assert [arm.label for arm in plan(str(mine), only=["m*"]).arms] == ["mine"]


def test_mistakes_in_a_file(mine):
    def sentence(**changes):
        mine.write_text(yaml.safe_dump({"description": "d", "variants": {"a": "pets/default"}, **changes}))
        with pytest.raises(UserError) as error:
            plan(str(mine))
        return str(error.value).removeprefix(f"'{mine}': ")

    assert sentence(variant=3) == "variant=3: extra inputs are not permitted; did you mean 'variants'?"
    assert sentence(seeds=0) == "seeds=0: input should be greater than 0"
    assert sentence(variants={}).startswith("variants={}: dictionary should have at least 1 item")
    assert sentence(paper={"b": "pets/default"}) == "paper names no variant 'b'; choose one of: a"
    assert sentence(variants={"a": "pets/defualt"}).startswith("variant 'a': no preset 'pets/defualt'; did you mean")
    assert sentence(variants={"a b": "pets/default", "a-b": "pets/default"}) == (
        "the variants 'a b' and 'a-b' would share a folder; rename one"
    )
    assert sentence(variants={"logs": "pets/default"}) == "a variant cannot be called 'logs'"


MISTAKES = [
    ([], "required: PRESET_OR_STUDY; see `foretell study --help`"),
    (["pets/defaul"], "no preset or study 'pets/defaul'; did you mean 'pets/default'?"),
    (["pets/ablatoin"], "no preset or study 'pets/ablatoin'; did you mean 'pets/ablation'?"),
    (["pets/default", "pets/default"], "the preset 'pets/default' is given twice; keep one"),
    (["pets/ablation", "pets/default"], "'pets/ablation' is a study and cannot be combined with"),
    (["pets/default", "pets/ablation"], "'pets/ablation' is a study and cannot be combined with presets"),
    (["pets/default", "--seeds", "0"], "seeds must be from 1 to 10000, not 0"),
    (["pets/default", "--seeds", "10001"], "seeds must be from 1 to 10000, not 10001"),
    (["pets/default", "--seeds", "2147483647"], "seeds must be from 1 to 10000, not 2147483647"),
    (["pets/default", "--seeds", "9" * 30], "seeds must be at most 2147483647, not 9999"),
    (["pets/default", "--seeds", "two"], "argument --seeds: invalid int value: 'two'"),
    (["pets/default", "--jobs", "0"], "jobs must be auto or at least 1, not 0"),
    (["pets/default", "--jobs", "many"], "argument --jobs: invalid jobs value: 'many'"),
    (["pets/default", "--paper"], "--paper needs a study, but 'pets/default' is a preset"),
    (["pets/default", "--goal", "nan"], "goal must be a finite number, not nan"),
    (["pets/default", "--set", "planner.populatoin=3"], "no setting 'planner.populatoin'"),
    (["pets/default", "--only", "sac*"], "no variant matches 'sac*'; choose one of: pets/default"),
    (["pets/default", "--onyl", "x"], "foretell study does not take '--onyl'; did you mean '--only'?"),
]


@pytest.mark.parametrize(
    ("argv", "sentence"), MISTAKES, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_mistakes(argv, sentence, refused, tmp_path):
    assert sentence in refused("study", *argv, "--env", LINE, "--out", str(tmp_path / "study"))
    assert not list(tmp_path.iterdir())


def test_a_study_needs_names():
    with pytest.raises(UserError, match=r"^name presets, or a study: foretell study pets/cartpole"):
        make_plan([])


def test_a_study_of_presets_needs_a_directory(refused):
    assert refused("study", "pets/default", "--env", LINE) == "a study of presets needs a directory: --out DIR"


def test_a_dry_run_prints_and_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = ["study", "pets/ablation", "--only", "PE-TS*", "--seeds", "3", "--set", "train.trials=2", "--dry-run"]
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert "PE-TS1                     pets/cartpole+pe+ts1 on cartpole, 2 trials  train.trials=2\n" in out
    assert out.endswith("3 variants, 3 seeds each, in runs/studies/pets-ablation: 9 of 9 runs to do\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_the_list_of_studies(capsys, refused):
    assert main(["studies", "mve"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and lines[1].split()[:4] == ["mve/horizons", "6", "variants", "MVE"]
    assert refused("studies", "mvee") == "no family 'mvee'; did you mean 'mve'?"
