"""Stepwise training until the held-out loss no longer falls, and what the models of a replay keep out of training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import toy

from foretell.models import (
    EnsembleModel,
    Imagination,
    LearnedModel,
    Unknown,
    WithRewardModel,
    train_until_stale,
)
from foretell.regression.ensemble import Ensemble
from foretell.regression.fit import Fit
from foretell.replay import Transitions, add, held_out, init_replay
from tiny import by_hand, on_host, quick_jit

LENGTH, SHARE = 6, 0.5
KEY = jax.random.key(0)


class Scripted:
    """Learns nothing; its state counts updates, and its loss is given."""

    def __init__(self, losses, steps):
        self.losses, self.steps = losses, steps

    def update(self, state, replay, key):
        del replay, key
        return state + 1, {"model_loss": 1.0 * state}

    def validation_loss(self, state, replay, key):
        del replay, key
        return self.losses[state // self.steps]


@on_host
def scripted(losses, steps):
    replay = init_replay(2, 1, 1)
    return train_until_stale(Scripted(losses, steps), jnp.int32(0), replay, KEY, steps, max_epochs=LENGTH)


def epochs_by_hand(losses):
    """The released MVE's rule; `losses[0]` is that before training."""
    last, done = np.inf, 0
    while done == 0 or (losses[done] < last and done < LENGTH):
        last, done = losses[done], done + 1
    return done


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, np.nan]), min_size=LENGTH + 1, max_size=LENGTH + 1)
    | st.permutations(range(LENGTH + 1)).map(lambda order: [float(i) for i in sorted(order, reverse=True)]),
    st.integers(1, 4),
)
@pytest.mark.long
def test_epochs_go_on_while_the_estimate_falls_and_there_is_at_least_one(losses, steps):
    state, metrics = scripted(np.float32(losses), np.int32(steps))
    epochs = epochs_by_hand(losses)
    assert (state, metrics["epochs"]) == (epochs * steps, epochs)
    np.testing.assert_array_equal(metrics["holdout_loss"], np.float32(losses[epochs]))
    assert metrics["model_loss"] == pytest.approx((epochs * steps - 1) / 2)


def experience(count=60, capacity=64):
    rng = np.random.default_rng(0)
    obs, action = (np.float32(rng.uniform(-1, 1, (count, n))) for n in (2, 1))
    next_obs = obs + 0.3 * action * np.float32([1, -1])
    data = Transitions(obs, action, next_obs[:, 0], next_obs, next_obs[:, 0] > 0.8)
    return jax.device_get(add(init_replay(capacity, 2, 1), jax.tree.map(jnp.asarray, data)))


TASK = toy(learns_termination=True)
HOW = Fit(batch_size=8, epochs=30, learning_rate=1e-2, bootstrap=False, holdout=SHARE, early_stopping=True)
NETWORKS = EnsembleModel(members=2, hidden=(8,), weight_decay=0.0, hidden_norm="batch", dropout=0.1)
IMAGINATION = Imagination(particles=2)
LEARNED = LearnedModel(TASK, NETWORKS, HOW, IMAGINATION, Unknown(True, True))
REWARDS = Ensemble(members=2, hidden=(8,), weight_decay=0.0, probabilistic=False, hidden_norm="layer")
APART = WithRewardModel(
    TASK,
    LearnedModel(TASK, NETWORKS, HOW, IMAGINATION, Unknown(False, False)),
    REWARDS,
    HOW,
    Unknown(True, True),
)
MODELS = {"with the dynamics": LEARNED, "apart": APART}


def spoilt(replay):
    """The same, but held-out transitions lead to where nothing leads."""
    held = np.asarray(held_out(replay, jnp.arange(replay.capacity), SHARE))
    data = replay.data
    return replay._replace(
        data=data._replace(
            next_obs=np.where(held[:, None], 9.0, data.next_obs).astype(np.float32),
            reward=np.where(held, -9.0, data.reward).astype(np.float32),
            terminated=data.terminated ^ held,
        )
    )


@pytest.mark.parametrize("kind", ["with the dynamics", *by_hand("apart")])
@pytest.mark.long
def test_no_gradient_comes_from_held_out_transitions(kind):
    """In single steps."""
    model = MODELS[kind]
    replay = experience()

    @on_host
    def learned(replay, steps):
        state = model.init(KEY)
        one = lambda i, s: model.update(s, replay, jax.random.key(i))[0]  # noqa: E731
        return jax.lax.fori_loop(0, steps, one, state)

    jax.tree.map(np.testing.assert_array_equal, learned(replay, 5), learned(spoilt(replay), 5))
    none, some = (learned(replay, steps) for steps in (0, 5))
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(none), jax.tree.leaves(some), strict=True))


@pytest.mark.long
def test_a_long_call_keeps_out_the_same_transitions():
    """Nor do they count in the statistics by which inputs are standardised."""
    how = HOW.model_copy(update={"epochs": 3, "patience": 3, "keep_best": False})  # so that calls are equally long
    model = LearnedModel(TASK, NETWORKS, how, IMAGINATION, Unknown(True, True))
    learned = on_host(lambda replay: model.fit(model.init(KEY), replay, KEY))
    replay = experience()
    (state, metrics), (other, other_metrics) = learned(replay), learned(spoilt(replay))
    jax.tree.map(np.testing.assert_array_equal, state, other)
    assert metrics["epochs"] == other_metrics["epochs"] == 3
    assert other_metrics["holdout_loss"] > 2 * metrics["holdout_loss"]


@pytest.mark.parametrize("kind", ["with the dynamics", *by_hand("apart")])
@pytest.mark.long
def test_training_until_stale_improves_the_held_out_loss(kind):
    model, replay = MODELS[kind], experience()

    @on_host
    def trained(replay):
        state = model.prepare(model.init(KEY), replay)
        before = model.validation_loss(state, replay, KEY)
        state, metrics = train_until_stale(model, state, replay, KEY, 20, max_epochs=20)
        return before, model.validation_loss(state, replay, KEY), metrics

    before, after, metrics = trained(replay)
    assert after < before and 1 <= metrics["epochs"] <= 20
    assert metrics["model_skipped"] == 0


@pytest.mark.long
def test_the_validation_loss_is_the_error_of_held_out_rows():
    model, replay = LEARNED, jax.tree.map(jnp.asarray, experience())
    state = quick_jit(lambda: model.prepare(model.init(KEY), replay))()
    held = np.asarray(held_out(replay, jnp.arange(replay.capacity), SHARE)) & np.asarray(replay.valid)
    rows = jax.tree.map(lambda a: a[held], model.rows(replay.data))
    exact = on_host(NETWORKS.error)(state.regressor, rows, np.ones(held.sum(), np.float32))
    found = on_host(lambda: jnp.stack([model.validation_loss(state, replay, jax.random.key(i)) for i in range(4)]))()
    assert np.ptp(found) > 0
    np.testing.assert_allclose(found.mean(), exact, rtol=0.15)
    other = jax.tree.map(jnp.asarray, spoilt(replay))
    changed = on_host(lambda: model.validation_loss(state, other, jax.random.key(0)))()
    assert changed > 2 * found[0]
