"""What MB-MPC does with data: frozen statistics, mixed batches, and noise on the inputs and targets."""

from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import ValidationError

from foretell.nn import Normalizer
from foretell.regression.batches import mixed_minibatch
from foretell.regression.ensemble import Ensemble
from foretell.regression.fit import Carried, Fit, fit
from foretell.regression.prediction import Rows
from foretell.regression.statistics import noisy
from foretell.values.cloning import Cloning
from tiny import on_host

NETWORK = Ensemble(
    members=1,
    probabilistic=False,
    hidden=(16,),
    activation="relu",
    initializer="glorot",
    weight_decay=0.0,
    scale_targets=True,
    center_targets=True,
    min_std=1e-6,
)
FROZEN = Fit(batch_size=8, epochs=2, bootstrap=False, statistics="first")


compiled = on_host(fit, 1, 2)
compiled_noisy = on_host(
    lambda key, how, rows, valid: noisy(key, rows, valid, slice(1, 2), how.noise, how.noise_scale), 1
)


def mixed(i, keys, how, size, first):
    new, batches = how.new_rows(size, first), how.batches(size, first)
    return mixed_minibatch(i, keys, new, batches, size, first, how.batch_size)


compiled_mixed = on_host(mixed, 2)


@cache
def fresh(inputs=2):
    def begin():
        state = NETWORK.init(jax.random.key(0), inputs, 1, 0)
        return state, FROZEN.start(state)

    return on_host(begin)()


def linear(count=200):
    """Inputs and targets far from standardised, the second input constant."""
    rng = np.random.default_rng(0)
    x = np.stack([rng.normal(5.0, 2.0, count), np.full(count, 3.0)], -1)
    y = 4.0 * x[:, :1] - 7.0
    return Rows(np.float32(x), np.float32(y), np.zeros((count, 0), bool))


def train(rows, size, how=FROZEN, *, after=None, key=1):
    state, carried, *_ = fresh() if after is None else after
    return compiled(jax.random.key(key), NETWORK, how, state, carried, rows, np.int32(size))


@pytest.mark.long
def test_statistics_are_those_of_the_first_data_for_good():
    rows = linear()
    rows.x[40:] += 100.0
    first = train(rows, 40)
    second = train(rows, 60, after=first)
    assert second.carried.first == 40
    for name in ("inputs", "targets"):
        jax.tree.map(np.testing.assert_array_equal, getattr(first.state, name), getattr(second.state, name))
    np.testing.assert_allclose(first.state.inputs.mean[0], rows.x[:40, 0].mean(), rtol=1e-6)
    assert first.state.inputs.std[1] == 1.0, "a constant input counts as having standard deviation 1"


@pytest.mark.long
def test_targets_are_centred_and_scaled():
    rows = linear()
    state = train(rows, 50).state
    np.testing.assert_allclose(state.targets.mean, rows.y[:50].mean(0), rtol=1e-5)
    np.testing.assert_allclose(state.targets.std, rows.y[:50].std(0), rtol=1e-5)


def test_a_network_of_zeros_expects_the_mean_target():
    state, _ = fresh()
    zeros = jax.tree.map(np.zeros_like, state.params)
    predict = on_host(lambda state, x: NETWORK.predictor(NETWORK.ready(state))(x))
    targets = Normalizer(np.float32([2.5]), np.ones(1, np.float32))
    ready = eqx.tree_at(lambda s: (s.params, s.targets), state, (zeros, targets))
    np.testing.assert_allclose(predict(ready, np.ones((1, 3, 2), np.float32)).mean, 2.5)


@pytest.mark.long
def test_a_linear_system_is_learned():
    """In 30 calls of two epochs, each of which starts from the weights and moments of the one before."""
    rows, fitted, losses = linear(), None, []
    for call in range(30):
        fitted = train(rows, 200, after=fitted, key=call)
        losses.append(fitted.metrics["first_loss"])
    assert fitted.metrics["train_mse"] < 5e-3 * rows.y.var()
    assert fitted.carried.opt_state[0].count == 30 * 50
    assert max(losses[5:]) < 0.3 * losses[0]  # no call begins again


@pytest.mark.long
def test_the_first_loss_on_standardised_targets_is_about_half_their_variance():
    """Unit variance, and that of the untrained network beside it; the metric is half the squared error."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(3.0, 2.0, (512, 26)), rng.normal(-1.0, 5.0, (512, 20))
    rows = Rows(np.float32(x), np.float32(y), np.zeros((512, 0), bool))
    ensemble = NETWORK.model_copy(update={"hidden": (500, 500)})
    how = FROZEN.model_copy(update={"batch_size": 512, "epochs": 1})

    @on_host
    def first_fit(rows):
        state = ensemble.init(jax.random.key(0), 26, 20, 0)
        return fit(jax.random.key(1), ensemble, how, state, how.start(state), rows, jnp.int32(512)).metrics

    loss = first_fit(rows)
    assert 0.9 < 2 * loss["first_loss"] < 2.0
    assert loss["first_loss"] == loss["train_loss"], "there was one step"


@pytest.mark.parametrize(
    ("rows", "steps"), [(10_000, 1200), (20_000, 2400), (150_000, 17_580), (512, 60), (10_240, 1200), (1, 60)]
)
def test_steps_of_the_homework(rows, steps):
    """60 epochs of batches of 512, the last of them short but never empty."""
    how = Fit(batch_size=512, epochs=60, bootstrap=False)
    assert how.steps(jnp.array(rows), jnp.array(min(rows, 10_000))) == steps


def test_steps_with_mixed_batches():
    """An epoch is a pass over the old data in chunks of what the new leave free: 10,000 / 52."""
    how = Fit(batch_size=512, epochs=1, bootstrap=False, new_share=0.9)
    old = jnp.array(10_000)
    assert how.new_rows(jnp.array(20_000), old) == 460
    assert how.batches(jnp.array(20_000), old) == 192
    assert how.batches(old, old) == 19, "without new data plain epochs"
    assert how.new_rows(jnp.array(10_100), old) == 100, "no more than there are"
    none = how.model_copy(update={"new_share": 0.0})
    assert none.batches(jnp.array(90_000), old) == 19
    every = how.model_copy(update={"new_share": 1.0})
    assert every.batches(jnp.array(20_000), old) == 19 and every.new_rows(jnp.array(20_000), old) == 512


def batches_of(how, size, first, count, members=1):
    keys = jax.random.split(jax.random.key(5), members)
    found = (compiled_mixed(np.int32(i), keys, how, np.int32(size), np.int32(first)) for i in range(count))
    return [np.asarray(index) for index, _ in found]


@pytest.mark.long
def test_mixed_batches_walk_the_old_data_and_draw_from_the_new():
    how = Fit(batch_size=10, epochs=1, bootstrap=False, new_share=0.8)
    found = np.concatenate(batches_of(how, 100, 20, 10), -1)[0].reshape(10, 10)
    assert sorted(found[:, :2].ravel()) == list(range(20)), "an epoch visits every old row once"
    new = found[:, 2:].ravel()
    assert new.min() >= 20 and new.max() < 100 and len(set(new)) > 40


@pytest.mark.long
def test_without_aggregation_new_data_are_never_seen():
    how = Fit(batch_size=10, epochs=1, bootstrap=False, new_share=0.0)
    found = np.concatenate(batches_of(how, 100, 30, 6), -1)
    assert sorted(found[0][:30]) == list(range(30)) and found.max() < 30


@pytest.mark.long
def test_nothing_new_means_plain_epochs():
    how = Fit(batch_size=10, epochs=1, bootstrap=False, new_share=0.9)
    found = np.concatenate(batches_of(how, 30, 30, 3), -1)
    assert sorted(found[0]) == list(range(30))


@pytest.mark.long
def test_mixed_batches_train():
    rows, how = linear(), FROZEN.model_copy(update={"new_share": 0.5, "epochs": 30})
    first = train(rows, 40, how)
    second = train(rows, 100, how, after=first)
    assert second.metrics["train_mse"] < first.metrics["train_mse"]
    assert second.metrics["gradient_steps"] == 30 * (40 // 4)


def test_mixed_batches_go_with_neither_bootstrap_nor_holdout():
    with pytest.raises(ValidationError, match="new_share needs bootstrap=false and holdout=0"):
        Fit(new_share=0.5)
    with pytest.raises(ValidationError, match="new_share needs bootstrap=false and holdout=0"):
        Fit(new_share=0.5, bootstrap=False, holdout=0.1)


@pytest.mark.parametrize("scale", ["std", "mean"])
@pytest.mark.long
def test_noise_is_a_share_of_each_column(scale):
    rng = np.random.default_rng(0)
    x = np.float32(rng.normal([10.0, 10.0, -10.0], [2.0, 2.0, 2.0], (20_000, 3)))
    y = np.float32(rng.normal(0.0, 3.0, (20_000, 1)))
    rows = Rows(x, y, np.zeros((20_000, 0), bool))
    how = Fit(noise=0.1, noise_scale=scale)
    out = compiled_noisy(jax.random.key(0), how, rows, np.ones(20_000, bool))
    stds = (np.asarray(out.x) - x).std(0)
    np.testing.assert_allclose(stds, [0.2, 0.0, 0.2] if scale == "std" else [1.0, 0.0, 0.0], rtol=0.03, atol=1e-6)
    expected = 0.3 if scale == "std" else 0.1 * max(y.mean(), 0.0)
    np.testing.assert_allclose((np.asarray(out.y) - y).std(), expected, rtol=0.03, atol=1e-5)


@pytest.mark.long
def test_what_is_imitated_gets_noise_too():
    features = np.float32(np.random.default_rng(0).normal(0.0, 2.0, (2000, 2)))
    stds = []
    for noise in (0.0, 0.75):
        cloning = Cloning(hidden=(4,), fit=Fit(noise=noise, epochs=1, max_steps=1, bootstrap=False))
        learn = on_host(
            lambda x, cloning=cloning: cloning.learn(
                jax.random.key(0), cloning.init(jax.random.key(1), 2, 2), x, x, jnp.int32(2000)
            )
        )
        stds.append(learn(features)[0].state.inputs.std)
    np.testing.assert_allclose(stds[1] / stds[0], 1.25, rtol=0.05)


@pytest.mark.long
def test_what_is_carried_starts_with_no_rows():
    carried = FROZEN.start(fresh()[0])
    assert isinstance(carried, Carried) and carried.first == 0
