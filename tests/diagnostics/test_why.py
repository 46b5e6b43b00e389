"""`foretell why` and `run.why`: what one action was chosen for."""

import re

import numpy as np
import pytest
from test_belief import Drifting

import foretell
from foretell.cli import main
from foretell.diagnostics.belief import Belief
from foretell.diagnostics.episode import Chosen, live
from foretell.diagnostics.why import lines
from foretell.tasks import TaskSettings, make_task
from tiny import LINE

VALUES = {
    "learner": {"hidden": [8], "batch_size": 8},
    "updates": {"per_step": 0.5, "pretraining": 5},
    "train": {"steps": 20, "steps_per_learning": 5, "random_steps": 10, "eval_episodes": 0, "capacity": 50},
}
MODEL = {"model": {"hidden": [8], "aux_hidden": [8]}, "fit": {"batch_size": 8}}


def test_a_plan_is_explained_by_what_it_was_compared_with(trained, capsys):
    run = foretell.load(trained)
    whole, found = run.believe(moments=5), run.why(3)
    (moment,) = found.lived.moments
    assert moment.time == 3 and len(found.neighbours) == 1
    np.testing.assert_array_equal(found.lived.track.obs[:4], whole.lived.track.obs[:4])  # the same episode
    np.testing.assert_array_equal(moment.plan, whole.lived.moments[3].plan)
    assert (
        moment.searched.values.tolist() == sorted(moment.searched.values, reverse=True) and moment.searched.tried == 6
    )
    assert found.rejected.value.shape == (6, 2)
    assert main(["why", str(trained), "--step", "3"]) == 0
    out = capsys.readouterr().out
    assert out == "\n".join(lines(found, run.task.spec, 3)) + "\n"
    assert f"executed     {found.lived.track.actions[3, 0]:.4g}\n" in out and "the plan was made at this step" in out
    value = np.asarray(found.planned.value)[0]
    assert f"imagined return {value.mean():.4g}, {value.min():.4g} to {value.max():.4g} over 2 particles" in out
    assert f"by member: {value[0]:.4g} {value[1]:.4g}" in out and "it compared 6 candidates, in 1 iteration\n" in out
    near = found.neighbours[0][0]
    assert re.search(rf"^ +{near.episode} +{near.time} +{near.distance:.3g} +{near.reward:.4g}$", out, re.M)


def test_only_the_plan_of_the_step_is_looked_at_and_the_episode_is_left_after_it():
    task = make_task(TaskSettings(env=LINE, horizon=20))
    lived = live(Drifting(), task, 0.0, seed=0, seconds=60.0, moments=1, render=False, chosen=Chosen(4, 3, 6))
    assert [moment.time for moment in lived.moments] == [4] and len(lived.track.actions) == 8


@pytest.mark.long
def test_a_policy_with_a_model_is_explained_by_its_targets(tmp_path, capsys):
    run = foretell.train("steve/default", out=tmp_path, env=LINE, overrides=[VALUES, MODEL], quiet=True)
    assert isinstance(run.why(2), Belief)
    assert main(["why", str(tmp_path), "--step", "2", "--seed", "4"]) == 0
    out = capsys.readouterr().out
    assert "its policy chose it" in out and "it compared" not in out
    weights = re.search(r"weights of the horizons in the target of this step  (.*)", out)[1].split(", ")
    assert sum(float(weight.split(": ")[1]) for weight in weights) == pytest.approx(1.0, abs=0.03)


@pytest.mark.long
def test_without_a_model_there_is_one_sentence(tmp_path, capsys):
    run = foretell.train("sac/default", out=tmp_path, env=LINE, overrides=VALUES, quiet=True)
    assert run.why(0) is None
    assert main(["why", str(tmp_path), "--step", "0"]) == 0
    assert "the agent has no learned model" in capsys.readouterr().out


def test_steps_that_there_are_not(trained, refused):
    assert "step must be below 5, the steps of an episode, not 5" in refused("why", trained, "--step", "5")
    assert "step must be" in refused("why", trained, "--step", "-1")
    assert "was left after 0 seconds, at step 1; choose" in refused("why", trained, "--step", "3", "--seconds", "0")
