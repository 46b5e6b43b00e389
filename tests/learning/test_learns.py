"""Small tasks that must be learned within seconds: what unit tests cannot see goes wrong here."""

import numpy as np
import pytest

import foretell


@pytest.mark.usefixtures("optimized")
@pytest.mark.long
def test_pets_swings_up_the_cartpole_in_five_trials(tmp_path):
    run = foretell.train(
        "pets/cartpole", seed=0, out=tmp_path / "run", overrides=[{"train": {"trials": 5}}], quiet=True
    )
    assert max(run.returns) > 165
    assert np.mean([result.total for result in run.evaluate(2, seed=1)]) > 150


@pytest.mark.slow
def test_pets_learns_the_pendulum_with_its_reward(tmp_path):
    """Random actions earn about -1,200; a swing-up and balance earns about -150."""
    small = {"planner": {"horizon": 20, "population": 30, "iterations": 2, "elites": 5}, "train": {"trials": 5}}
    run = foretell.train("pets/default", env="Pendulum-v1", out=tmp_path / "run", overrides=[small], quiet=True)
    assert max(run.returns) > -300


@pytest.mark.slow
def test_random_shooting_on_a_deterministic_network_gets_the_pole_up(tmp_path):
    """The weakest model and planner still leave the -4 of random actions far behind."""
    run = foretell.train(
        "pets/cartpole+d+random", out=tmp_path / "run", overrides=[{"train": {"trials": 5}}], quiet=True
    )
    assert max(run.returns) > 40


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "trials", "least"),
    [("pets/reacher", 20, -60), ("pets/pusher", 17, -110), ("pets/cartpole+gp", 8, 165)],
)
def test_the_paper_s_other_tasks_and_model_are_learned(tmp_path, preset, trials, least):
    """Random actions earn -1,500 on the reacher and -300 on the pusher. Minutes each."""
    run = foretell.train(preset, out=tmp_path / "run", overrides=[{"train": {"trials": trials}}], quiet=True)
    assert max(run.returns) >= least
