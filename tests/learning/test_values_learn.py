"""Agents with policies and critics learn small tasks; how soon is in `docs/results/steve.md`."""

import numpy as np
import pytest

import foretell


def late_return(run):
    """Mean of the last round of evaluation."""
    evals = [row for row in run.episodes if row["kind"] == "eval"]
    return np.mean([row["return"] for row in evals if row["env_steps"] == evals[-1]["env_steps"]])


@pytest.mark.slow
def test_ddpg_learns_the_pendulum_in_three_thousand_steps(tmp_path):
    """Random actions earn about -1,200."""
    less = {"train": {"steps": 3000, "eval_every": 2000}}
    run = foretell.train("ddpg/default", env="Pendulum-v1", out=tmp_path / "run", overrides=[less], quiet=True)
    assert late_return(run) > -400


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["td3", "sac", "mve", "steve"])
def test_each_agent_learns_the_pendulum(tmp_path, agent):
    """Minutes each."""
    run = foretell.train(f"{agent}/default", env="Pendulum-v1", out=tmp_path / "run", quiet=True)
    assert late_return(run) > -400


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["ddpg", "sac", "mve", "steve"])
def test_each_agent_but_td3_balances(tmp_path, agent):
    run = foretell.train(f"{agent}/default", env="InvertedPendulum-v5", out=tmp_path / "run", quiet=True)
    assert late_return(run) > 900


@pytest.mark.slow
def test_pets_balances_when_it_knows_what_is_good(tmp_path):
    known = {"reward": "benchmarks.balance:centred", "terminated": "benchmarks.balance:fallen"}
    settings = {"task": {"env": "InvertedPendulum-v5", **known}, "planner": {"horizon": 20}, "train": {"trials": 12}}
    run = foretell.train("pets/default+precise", out=tmp_path / "run", overrides=[settings], quiet=True)
    assert np.mean(run.returns[-3:]) > 900
