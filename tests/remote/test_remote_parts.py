"""Parts of a run on Ray that need no Ray: which process has what, what is passed on, mistakes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import foretell
from foretell import Ray, UserError
from foretell.cli import main
from foretell.envs import empty_episodes
from foretell.remote.failures import OutOfStep, lost, mistake
from foretell.remote.free_actors import shares
from foretell.remote.interactor_process import enter, newest
from foretell.remote.places import share_of_cores
from foretell.runs.presets import resolve
from foretell.tasks import make_task

SPEC = make_task(resolve("pets/default", [{"task": {"env": "Pendulum-v1"}}]).task).spec


@given(st.integers(1, 20), st.integers(1, 20))
def test_every_environment_has_one_process(count, processes):
    found = shares(count, processes)
    assert sum(found) == count and min(found) >= 1 and max(found) - min(found) <= 1
    assert len(found) == min(count, processes)


@given(st.lists(st.integers(0, 8).map(float), min_size=1, max_size=4), st.integers(1, 40))
def test_all_processes_fit_on_the_nodes(nodes, processes):
    share = share_of_cores(nodes, processes)
    assert share <= 1.0
    if share:
        assert sum(int(cores / share) for cores in nodes) >= processes
    else:
        assert not any(nodes)


@given(st.integers(1, 5), st.integers(0, 2), st.integers(0, 2**32 - 1))
def test_the_newest_entries_of_an_episode_are_all_that_a_step_changes(steps, row, seed):
    rng = np.random.default_rng(seed)
    there, here = empty_episodes(SPEC, 3), empty_episodes(SPEC, 3)
    for t in range(steps):
        there.obs[row, t + 1], there.actions[row, t], there.rewards[row, t] = rng.normal(size=3), 0.5, rng.normal()
        there.length[row], there.number[row] = t + 1, 7
        there.over[row] = t == steps - 1
        enter(here, row, newest(there, row))
    for ours, theirs in zip(here, there, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_missed_call_is_mended_and_a_mistake_is_not():
    assert lost(OutOfStep("call 3 after 1")) and not lost(ValueError("x")) and not lost(UserError("no"))
    assert str(mistake(UserError("no"))) == "no"
    assert "ValueError: x" in str(mistake(ValueError("x")))


@pytest.mark.parametrize(
    "preset, runtime, changes, said",
    [
        ("pets/default", Ray(), {}, "steve, mve, ddpg, td3 and sac, not that of 'pets/default'"),
        ("trpo/default", Ray(), {}, "not that of 'trpo/default'"),
        ("dhmbpo/default", Ray(), {}, "not that of 'dhmbpo/default'"),
        ("steve/default", Ray(actors=2), {}, "actors must be at most 1, the number of train.environments, not 2"),
        ("steve/default", Ray(actors=0), {}, "actors must be at least 1, not 0"),
        ("steve/default", Ray(evaluators=2), {}, "evaluators must be at most 1, the number of train.eval_environments"),
        ("steve/default", Ray(address=""), {}, "address must be"),
        ("steve/default", Ray(), {"train.environments": 2, "train.workers": 2}, "train.workers must be 1 on Ray"),
        ("pets/default", None, {"train.free_running": True}, "free_running must be false without steps_per_learning"),
        ("pets/default", None, {"train.lag": 1}, "lag must be 0 without steps_per_learning"),
    ],
)
def test_what_cannot_be_spread_is_said_and_nothing_is_written(tmp_path, preset, runtime, changes, said):
    with pytest.raises(UserError, match=said.replace("(", r"\(").replace(")", r"\)")):
        foretell.train(preset, env="Pendulum-v1", out=tmp_path / "run", runtime=runtime, overrides=changes, quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "words, said",
    [
        (["--runtime", "rya"], "--runtime must be here or ray, not 'rya'"),
        (["--actors", "2"], "--actors is for processes of Ray; add --runtime ray"),
        (["--evaluators", "2"], "--evaluators is for processes of Ray; add --runtime ray"),
        (["--address", "auto"], "--address is for processes of Ray; add --runtime ray"),
        (["--runtime", "ray", "--seeds", "2"], "--seeds trains in one process"),
    ],
)
def test_options_of_ray_that_do_not_go_together(words, said, capsys, tmp_path):
    run = ["train", "steve/default", "--env", "Pendulum-v1", "--out", str(tmp_path / "run"), *words]
    assert main(run) == 2 and said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_without_ray_it_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setattr("foretell.remote.connection.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"--runtime ray needs Ray: pip install 'foretell\[ray\]'"):
        foretell.train("td3/default", env="Pendulum-v1", out=tmp_path / "run", runtime=Ray(), quiet=True)
    assert not (tmp_path / "run").exists()
