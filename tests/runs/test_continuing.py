"""A run goes on with the settings that its checkpoint was made with, whatever has become of its `config.yaml`."""

import pytest
import yaml

import foretell
from foretell.errors import UserError
from foretell.runs import continuing
from foretell.runs.checkpoint import latest_notes
from foretell.runs.continuing import check_continues, notes_of, read_notes
from foretell.runs.directory import RunDirectory
from foretell.runs.presets import resolve

SETTINGS = resolve("pets/cartpole")


@pytest.fixture
def continued(tmp_path):
    """Edit the settings of a run as they are in its config.yaml, and continue: what is used, and what is said."""
    run = RunDirectory.create(tmp_path / "run", overwrite=False)
    run.write_config(SETTINGS, "pets/cartpole", 3)
    notes = read_notes(notes_of(SETTINGS, 3))

    def edited(edit, notes=notes):
        tree = yaml.safe_load(run.config.read_text())
        edit(tree)
        run.config.write_text(yaml.safe_dump(tree, sort_keys=False))
        settings, _, seed = run.read_config(lacking=notes.settings if notes else {})
        return settings, check_continues(settings, seed, run, notes)

    return edited


def test_nothing_is_said_of_a_run_that_is_as_it_was(continued):
    assert continued(lambda tree: None) == (SETTINGS, [])


@pytest.mark.parametrize(
    ("path", "value", "was"),
    [
        ("seed", 4, "seed=3"),
        ("fit.learning_rate", 0.5, "fit.learning_rate=0.002"),
        ("planner.horizon", 3, f"planner.horizon={SETTINGS.planner.horizon}"),
        ("task.env", "Pendulum-v1", "task.env=cartpole"),
        ("train.environments", 2, "train.environments=1"),
    ],
)
def test_what_would_change_the_results_is_refused(path, value, was, continued):
    def edit(tree):
        *sections, key = path.split(".")
        for section in sections:
            tree = tree[section]
        tree[key] = value

    with pytest.raises(UserError, match=f"has {path}={value}, but the run was trained with {was}; undo the change"):
        continued(edit)


def test_what_is_lacking_has_the_values_of_the_checkpoint_and_not_those_of_today(continued):
    notes = read_notes(notes_of(SETTINGS, 3))
    notes.settings["fit"]["learning_rate"] = 0.25

    def edit(tree):
        del tree["fit"]["learning_rate"], tree["planner"]["population"], tree["imagination"]

    settings, said = continued(edit, notes)
    assert settings.fit.learning_rate == 0.25 and settings.planner.population == SETTINGS.planner.population
    assert len(said) == 1 and "does not have" in said[0]
    assert said[0].endswith(" more; using the values of the checkpoint")


def test_what_may_change_is_said(continued):
    settings, said = continued(lambda tree: tree["train"].update(trials=70))
    assert settings.train.trials == 70
    assert said == [f"continuing with train.trials=70, which was {SETTINGS.train.trials} at the last checkpoint"]


@pytest.mark.parametrize("name", ["jax", "foretell", "device", "jax_default_matmul_precision"])
@pytest.mark.long
def test_other_versions_are_said(name, continued, monkeypatch):
    now = continuing.computing()
    monkeypatch.setattr(continuing, "computing", lambda: {**now, name: "other"})
    said = continued(lambda tree: None)[1]
    assert len(said) == 1 and said[0].startswith(f"continuing with {name} other (before {now[name]}); results may")


@pytest.mark.long
def test_a_whole_run_notes_its_settings_and_refuses_others(run_copy):
    notes = read_notes(latest_notes(run_copy / "checkpoints"))
    tree = yaml.safe_load((run_copy / "config.yaml").read_text())
    assert notes.seed == 0 and notes.settings["planner"] == tree["planner"]
    tree["planner"]["population"] = 8
    (run_copy / "config.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    with pytest.raises(UserError, match=r"planner.population=8, but the run was trained with planner.population=6"):
        foretell.resume(run_copy)
