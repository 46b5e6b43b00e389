"""`imitation/default`: a policy imitates the planner of any run or preset, with that planner's task and settings."""

import pytest

import foretell
from foretell.cli import main
from foretell.errors import UserError
from foretell.runs.directory import RunDirectory
from foretell.runs.presets import resolve
from tiny import LINE

TAKEN = ("task", "model", "fit", "imagination", "reward_model", "reward_fit", "planner")
QUICK = ["train.trials=4", "imitation.demonstrations=2", "policy.hidden=[4]", "policy_fit.epochs=2"]


def imitating(stage, *overrides):
    return resolve("imitation/default", [{"train": {"pretrained": str(stage)}}, *overrides])


def test_by_default_it_imitates_pets_on_the_chosen_environment():
    settings = resolve("imitation/default", [{"task": {"env": LINE}}])
    assert settings.agent == "imitation" and settings.train.pretrained == "pets/default"
    assert settings.planner == resolve("pets/default").planner


def test_task_and_planner_are_those_of_the_run(trained):
    theirs = RunDirectory.open(trained).read_config()[0]
    mine = imitating(trained)
    assert {name: getattr(mine, name) for name in TAKEN} == {name: getattr(theirs, name) for name in TAKEN}
    assert mine.imitation.demonstrations == 5 and mine.train.trials == 15, "the rest is the preset's own"


@pytest.mark.parametrize("stage", ["pets/cartpole", "mbmpc/cheetah-hw4", "pets/reacher+mppi"])
def test_or_those_of_a_preset(stage):
    theirs, mine = resolve(stage), imitating(stage)
    assert {name: getattr(mine, name) for name in TAKEN} == {name: getattr(theirs, name) for name in TAKEN}


def test_what_the_user_sets_comes_last(trained):
    changed = {"planner": {"population": 7}, "train": {"trials": 6}}
    settings = imitating(trained, changed)
    assert settings.planner.population == 7 and settings.train.trials == 6


def test_parts_are_applied_to_the_planner_of_the_run(trained):
    settings = resolve("imitation/default+random", [{"train": {"pretrained": str(trained)}}])
    assert settings.planner.kind == "random"
    assert settings.model == RunDirectory.open(trained).read_config()[0].model


@pytest.mark.parametrize(("stage", "agent"), [("sac/default", "value-expansion"), ("trpo/default", "trpo")])
def test_an_agent_without_a_planner_is_refused(stage, agent):
    with pytest.raises(
        UserError, match=rf"^train\.pretrained must be a run or a preset of a planner: '{stage}' is of '{agent}'$"
    ):
        imitating(stage)


def test_a_policy_that_imitates_is_not_imitated():
    with pytest.raises(UserError, match=r"'mbmf/cheetah-imitation' is of 'imitation'$"):
        imitating("mbmf/cheetah-imitation")


def test_a_run_that_is_not_there_is_named(tmp_path, refused):
    missing = tmp_path / "nothing"
    assert str(missing) in refused("train", "imitation/default", "--set", f"train.pretrained={missing}")


def test_other_presets_of_imitation_keep_their_task(trained):
    settings = resolve("mbmf/cheetah-imitation", [{"train": {"pretrained": str(trained)}}])
    assert settings.task == resolve("mbmf/cheetah-imitation").task


@pytest.mark.long
def test_a_policy_learns_from_a_run_of_ones_own(trained, tmp_path, capsys):
    """From the command line: two demonstrations, then two episodes of the policy, which is deployed alone."""
    out = tmp_path / "imitation"
    argv = ["train", "imitation/default", "--out", str(out), "--quiet"]
    assert main([*argv, "--set", f"train.pretrained={trained}", *QUICK]) == 0
    run = foretell.load(out)
    assert run.settings.task.env == LINE and len(run.returns) == 4
    assert type(run._controller._programs._agent).__name__ == "Imitated"
    assert main(["resume", str(out), "--quiet", "--set", "train.trials=5"]) == 0
    assert len(foretell.load(out).returns) == 5
