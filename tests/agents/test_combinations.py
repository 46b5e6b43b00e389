"""Models and agents go together in any way: PETS with STEVE's networks, value expansion with the ensembles of PETS."""

import csv
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import foretell
from foretell.errors import UserError
from foretell.models import SteveModel, WithRewardModel
from foretell.replay import Transitions, add, init_replay
from foretell.runs.presets import resolve
from foretell.tasks import make_task
from tiny import LINE, TINY, interrupted_at, quick_jit

STEVES_NETWORKS = {
    "model": {"kind": "steve", "members": 2, "reward_members": 2, "hidden": [8], "aux_hidden": [8]},
    "fit": {"batch_size": 8},
    "reward_model": None,
}
ENSEMBLES = {
    "model": {"kind": "ensemble", "members": 2, "hidden": [8], "weight_decay": 0.0},
    "reward_model": {"hidden": [8], "weight_decay": 0.0},
    "reward_fit": {"batch_size": 8},
    "fit": {"batch_size": 8},
    "learner": {"hidden": [8], "batch_size": 8},
    "updates": {"per_step": 0.5, "pretraining": 5},
    "train": {"steps": 40, "steps_per_learning": 5, "random_steps": 20, "eval_episodes": 0, "log_every": 5},
}
RUNS = {"pets/default": [TINY, STEVES_NETWORKS], "steve/default": [ENSEMBLES]}


def metrics_of(run):
    with (run.directory / "metrics.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.mark.slow
@pytest.mark.parametrize("preset", RUNS)
def test_a_run_with_the_models_of_the_other_learns_is_resumed_and_inspected(preset, tmp_path):
    train = partial(foretell.train, preset, env=LINE, overrides=RUNS[preset], quiet=True)
    whole = train(out=tmp_path / "whole")
    with interrupted_at("learn_end", 2):
        train(out=tmp_path / "run")
    resumed = foretell.resume(tmp_path / "run", quiet=True)
    assert [row["return"] for row in resumed.episodes] == [row["return"] for row in whole.episodes]
    rows = metrics_of(whole)
    assert all(np.isfinite(value) for row in rows for value in row.values())
    assert all(row["gradient_steps"] > 0 and row["skipped_steps"] == 0 for row in rows)
    found = whole.inspect(2)
    if preset == "pets/default":
        assert {"transition_loss", "reward_loss", "termination_loss", "new_mse"} <= rows[0].keys()
        assert found.errors[1] > 0
    else:
        assert {"reward_model_loss", "critic_loss", "model_loss"} <= rows[0].keys()
        np.testing.assert_allclose(found.histogram.sum(0), 1)


@pytest.mark.long
def test_pets_plans_with_steves_networks_which_learn_in_one_long_call():
    """On the cartpole, whose reward is known: only transitions are learned."""
    longer = {"fit": {"min_steps": 300, "learning_rate": 1e-2}}
    settings = resolve("pets/cartpole", [TINY, STEVES_NETWORKS, longer])
    agent = settings.build(make_task(settings.task))
    assert isinstance(agent.model, SteveModel) and agent.model.unknown == (False, False)
    rng = np.random.default_rng(0)
    obs, action = (jnp.float32(rng.normal(size=(30, size))) for size in (4, 1))
    rows = Transitions(obs, action, jnp.zeros(30), obs + 0.1 * action, jnp.zeros(30, bool))
    replay = add(init_replay(50, 4, 1), rows)
    state = quick_jit(agent.init)(jax.random.key(0))
    learn = quick_jit(agent.learn)
    state, first = learn(state, replay, jax.random.key(1))
    state, second = learn(state, replay, jax.random.key(2))
    assert first["gradient_steps"] == second["gradient_steps"] == 300 and second["skipped_steps"] == 0
    assert second["transition_loss"] < 0.5 * first["transition_loss"] and second["new_mse"] < first["new_mse"]
    params = agent.policy(state)
    assert params.networks.reward is None and params.networks.termination is None
    key = jax.random.key(0)
    act = quick_jit(partial(agent.act, explore=True))
    actions, _, extras = act(params, agent.begin(params, obs[:2], key), obs[:2], key)
    assert (jnp.abs(actions) <= 3).all() and np.isfinite(extras["value"]).all()


@pytest.mark.long
def test_value_expansion_learns_reward_and_termination_beside_ensembles():
    settings = resolve("steve/default", [{"task": {"env": LINE}}, ENSEMBLES])
    agent = settings.build(make_task(settings.task))
    assert isinstance(agent.model, WithRewardModel) and agent.model.unknown == (True, True)
    assert agent.model.particles % 2 == 0


@pytest.mark.parametrize(
    ("preset", "override", "sentence"),
    [
        (
            "pets/default",
            {"imagination": {"propagation": "TS1"}},
            "imagination.propagation must be TSinf with model.ki",
        ),
        ("pets/default", {"imagination": {"particles": 3}}, "imagination.particles (3) must be a multiple of model.me"),
        ("pets/default", {"fit": {"batch_size": 7}}, "fit.batch_size (7) must be a multiple of model.members (2)"),
        ("steve/default", {"imagination": {"particles": 3}}, "imagination.particles (3) must be a multiple of"),
    ],
)
@pytest.mark.long
def test_what_does_not_go_together_is_refused(preset, override, sentence):
    with pytest.raises(UserError) as mistake:
        resolve(preset, [*RUNS[preset], override])
    assert str(mistake.value).startswith(sentence)
