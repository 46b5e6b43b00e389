"""`auto`: the rule, what is seen of an environment, and how the choice is used and reported."""

import re
from pathlib import Path

import pytest

import foretell
from foretell.cli import main
from foretell.errors import UserError
from foretell.runs.auto import decide, look
from foretell.runs.choosing import FEW_STEPS, RULES, Seen, rule_for
from foretell.runs.presets import preset_names
from foretell.tasks import TaskSettings, make_task
from tiny import LINE, TINY

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "which-agent.md"


@pytest.mark.parametrize(
    ("seen", "preset"),
    [
        (Seen(3, 1, 200, False, None), "pets/default"),
        (Seen(20, 7, 150, False, None), "pets/default"),
        (Seen(21, 7, 150, False, None), "dhmbpo/default"),
        (Seen(20, 8, 150, False, None), "dhmbpo/default"),
        (Seen(3, 1, 201, False, None), "dhmbpo/default"),
        (Seen(4, 1, 1000, True, None), "steve/default"),
        (Seen(9, 1, 1000, True, None), "dhmbpo/default"),
        (Seen(4, 3, 1000, True, None), "dhmbpo/default"),
        (Seen(17, 6, 1000, False, 25_000), "dhmbpo/default"),
        (Seen(17, 6, 1000, False, FEW_STEPS), "dhmbpo/default"),
        (Seen(17, 6, 1000, False, FEW_STEPS - 1), "pets/default"),
        (Seen(11, 3, 1000, True, 5000), "dhmbpo/default"),
        (Seen(348, 17, 1000, True, None), "dhmbpo/default"),
    ],
    ids=str,
)
def test_the_first_rule_that_fits_decides(seen, preset):
    assert rule_for(seen).preset == preset


def test_all_rules_are_of_presets_and_on_the_page():
    text = " ".join(PAGE.read_text().split())
    for rule in RULES:
        assert rule.preset in preset_names()
        assert rule.reason in text, rule.reason


@pytest.mark.parametrize(
    ("env", "options", "terminates"),
    [
        ("Pendulum-v1", {}, False),
        ("InvertedPendulum-v5", {}, True),
        ("InvertedPendulum-v5", {"terminated": "none"}, False),
        ("Pendulum-v1", {"check": False}, True),
        ("cartpole", {}, False),
        ("mve-hopper", {}, True),
    ],
    ids=str,
)
def test_ends_are_known_or_seen_or_possible(env, options, terminates):
    """A robot that must not move yet (`task.check=false`) is not played with."""
    settings = TaskSettings(env=env, **options)
    assert look(make_task(settings), settings, None).terminates == terminates


@pytest.mark.parametrize(
    ("env", "options", "horizon"),
    [
        ("environments:Truncates", {}, 30),
        ("environments:Truncates", {"check": False}, 1000),
        ("InvertedPendulum-v5", {"terminated": "none"}, 1000),
    ],
)
def test_the_length_of_episodes_is_seen_where_no_limit_is_said(env, options, horizon):
    settings = TaskSettings(env=env, **options)
    assert look(make_task(settings), settings, None).horizon == horizon


def test_a_named_preset_stays_as_it_is():
    assert decide("pets/cartpole+de", [{"train": {"trials": 2}}]) == (
        "pets/cartpole+de",
        [{"train": {"trials": 2}}],
        "",
    )


def test_trials_become_steps_where_the_preset_counts_steps():
    task = {"task": {"env": "InvertedPendulum-v5"}}
    assert decide("auto", [task, {"train": {"trials": 3}}]).overrides[-1] == {"train": {"steps": 3000}}
    assert decide("auto", [task]).overrides == [task]
    pendulum = decide("auto", [{"task": {"env": "Pendulum-v1"}}, {"train": {"trials": 3}}])
    assert pendulum.overrides[-1] == {"train": {"trials": 3}}


@pytest.mark.parametrize(
    ("preset", "overrides", "message"),
    [
        ("auto", [], "name the environment: --env ID"),
        ("auto+de", [], r"auto takes no parts such as 'de'; name a preset instead, as pets/default\+de"),
        ("auto", [{"task": {"env": "Pendulum-v1"}}, {"train": {"steps": 0}}], "train.steps must be at least 1, not 0"),
        ("auto", [{"task": {"environ": "Pendulum-v1"}}], "no setting 'task.environ'"),
        ("auto", [{"task": {"env": "Pendulum-v9"}}], "Pendulum-v9"),
    ],
)
def test_mistakes_are_one_sentence(preset, overrides, message):
    with pytest.raises(UserError, match=message):
        decide(preset, overrides)


def test_elsewhere_a_preset_is_to_be_named(refused):
    assert "auto stands for a preset only in" in refused("random", "auto")


def test_a_dry_run_says_what_was_chosen_and_why(capsys):
    assert main(["train", "auto", "--env", "Pendulum-v1", "--dry-run"]) == 0
    first, second, *rest = capsys.readouterr().out.splitlines()
    assert first == "auto chose pets/default: observations [3], actions [1], 200 steps per episode"
    assert second.strip().startswith("(for short episodes") and "Pendulum-v1" in second
    assert any(re.fullmatch(r"directory +runs/pets-default/Pendulum-v1/0", line) for line in rest)


def test_its_settings_are_shown_as_a_preset(capsys):
    assert main(["show", "auto", "--env", "Pendulum-v1", "--set", "train.trials=3"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# auto chose pets/default") and "env: Pendulum-v1" in out and "trials: 3" in out


def test_only_presets_have_an_environment(refused):
    assert "--env chooses the environment of a preset, and 'planner' is none" in refused(
        "show", "planner", "--env", "X"
    )


@pytest.mark.long
def test_the_run_is_that_of_the_chosen_preset(tmp_path, monkeypatch, capsys):
    """It is named by it, in its directory and its files."""
    monkeypatch.chdir(tmp_path)
    run = foretell.train("auto", env=LINE, overrides=[TINY])
    assert run.directory.parts[:2] == ("runs", "pets-default") and len(run.episodes) == 3
    assert "auto chose pets/default" in capsys.readouterr().out
    assert "preset: pets/default" in (run.directory / "config.yaml").read_text()
