"""The Gaussian process: its bound and its predictions against dense NumPy, and its training."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell import registry
from foretell.errors import UserError
from foretell.models.learned import GPModel
from foretell.models.propagation import Noise
from foretell.models.settings import Imagination
from foretell.regression import gp, sgpr
from foretell.regression.gp import GP, GPFit
from foretell.regression.prediction import Rows
from foretell.runs.presets import resolve
from tiny import quick_jit

IN, OUT, SIZE, CAPACITY, INDUCING = 2, 3, 12, 16, 5
MODEL = GP(inducing=INDUCING)
FIT = GPFit(iterations=30)


def problem(size=SIZE, capacity=CAPACITY, seed=0, noise=0.05):
    """Smooth functions of other sizes, with noise; beyond `size` the rows are rubbish."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2, 2, (capacity, IN))
    y = np.stack([np.sin(x[:, 0]), x[:, 1], 0.5 * np.cos(x.sum(-1))], -1) + noise * rng.normal(size=(capacity, OUT))
    y[size:] = 1e3
    return Rows(jnp.float32(x), jnp.float32(y), jnp.zeros((capacity, 0), bool))


def kernel(a, b, variance, lengthscales):
    return variance * np.exp(-0.5 * np.square((a[:, None] - b) / lengthscales).sum(-1))


def some_parameters(inducing):
    numbers = (1.7, [0.8, 1.9], 0.03, inducing)
    return sgpr.Parameters(*(np.array(number, np.float64) for number in numbers))


def dense_bound(parameters, x, y, jitter):
    """Titsias 2009, equation 9, from matrices of the size of the data."""
    variance, lengthscales, noise, inducing = parameters
    cross = kernel(x, inducing, variance, lengthscales)
    among = kernel(inducing, inducing, variance, lengthscales) + jitter * np.eye(len(inducing))
    low_rank = cross @ np.linalg.solve(among, cross.T)
    covariance = low_rank + noise * np.eye(len(x))
    density = -0.5 * y.T @ np.linalg.solve(covariance, y)
    constant = 0.5 * (np.linalg.slogdet(covariance)[1] + len(x) * np.log(2 * np.pi))
    return np.trace(density) - y.shape[1] * (constant + 0.5 * (len(x) * variance - np.trace(low_rank)) / noise)


def dense_posterior(parameters, x, y, at):
    """Mean and variance of the exact Gaussian process, without the observation noise."""
    variance, lengthscales, noise, _ = parameters
    k = partial(kernel, variance=variance, lengthscales=lengthscales)
    covariance = k(x, x) + noise * np.eye(len(x))
    mean = k(at, x) @ np.linalg.solve(covariance, y)
    return mean, variance - np.einsum("ij,ji->i", k(at, x), np.linalg.solve(covariance, k(x, at)))


def in_float64(function, parameters, rows, size, jitter):
    """`sgpr`'s function of parameters and data."""
    with jax.enable_x64(True):
        data = sgpr.Data(jnp.float64(rows.x), jnp.float64(rows.y), jnp.arange(len(rows.x)) < size)
        return quick_jit(partial(function, jitter=jitter))(jax.tree.map(jnp.asarray, parameters), data=data)


class Published(NamedTuple):
    """A regression problem, and what GPJax 1.0 computes for it."""

    present: list[int]
    start: tuple
    """Variance, lengthscales and noise."""
    bound: float
    slope: float
    """Of the bound, along the noise."""
    weights: list[list[float]]
    explained: list[float]
    """Diagonal of the square of the reduction."""
    optimum: float
    """The bound where the search converges."""
    trained: tuple
    """Variance, lengthscales and noise there."""

    @property
    def data(self):
        place = np.arange(9)
        x = np.round(2 * np.sin(1.3 * place[:, None] + np.array([0.0, 2.0])), 2)
        y = np.stack([np.sin(x[:, 0]), np.cos(x.sum(-1)), x[:, 1]], -1) + 0.1 * np.cos(7.0 * place)[:, None]
        return sgpr.Data(x, np.round(y, 2), np.array(self.present, bool))

    @property
    def parameters(self):
        return sgpr.Parameters(*map(np.float64, (*self.start, self.data.x[:3] + 0.25)))


# Of the published bound (Titsias 2009, equation 9) as GPJax 1.0 computes it in float64, summed over outputs.
PUBLISHED = [
    Published(
        present=[1, 1, 1, 1, 1, 1, 1, 1, 1],
        start=(1.7, [0.8, 1.9], 0.03),
        bound=-458.2290539759168,
        slope=14935.971629644071,
        weights=[
            [0.04301132635576191, -0.23611040042328552, 1.174927472593646],
            [0.31016891539185193, -0.09867017369500665, 0.5882308795559275],
            [0.4657628056082419, 0.3377419762039832, -1.5801804656545113],
        ],
        explained=[0.5844230628714497, 0.66555358440845, 0.6684945124813895],
        optimum=-28.966587730537903,
        trained=(2.9109519189522746, [6.985025462537879, 4.445592968405391], 0.15432852496514393),
    ),
    Published(
        present=[1, 0, 1, 1, 0, 1, 1, 0, 1],
        start=(0.6, [1.5, 1.1], 0.2),
        bound=-33.8853087807077,
        slope=74.99352584127664,
        weights=[
            [0.1899173471115477, -0.5176889446668654, 2.542089345449269],
            [0.6438269769484535, -0.06214589689004819, 0.28534043028586614],
            [0.8796264087106708, 0.6663592986505203, -2.7038478959639902],
        ],
        explained=[1.396184167341909, 1.023688392874994, 1.2894363383240812],
        optimum=-19.34327268154935,
        trained=(1.648897879941256, [4.681062728206605, 3.0978776048050434], 0.08284359756252214),
    ),
]


wide_bound = quick_jit(partial(sgpr.bound, jitter=1e-6))
"""To be called in float64."""


def first(rows, size):
    return np.float64(rows.x[:size]), np.float64(rows.y[:size])


@quick_jit
def trained(key, state, rows, size):
    return FIT.fit(key, MODEL, state, (), rows, size)


def fresh(model=MODEL):
    return model.init(jax.random.key(0), IN, OUT, 0)


@pytest.fixture(scope="module")
def fitted():
    return trained(jax.random.key(1), fresh(), problem(), jnp.array(SIZE))


@pytest.mark.parametrize(("size", "inducing"), [(SIZE, 4), (CAPACITY, 4), (3, 6)])
@pytest.mark.long
def test_the_bound_equals_the_dense_one_summed_over_outputs(size, inducing):
    rows, parameters = problem(size), some_parameters(np.random.default_rng(1).normal(size=(inducing, IN)))
    found = in_float64(sgpr.bound, parameters, rows, size, 1e-6)
    assert float(found) == pytest.approx(dense_bound(parameters, *first(rows, size), 1e-6), rel=1e-10)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    present=st.lists(st.booleans(), min_size=CAPACITY, max_size=CAPACITY),
    variance=st.floats(0.1, 10),
    lengthscale=st.floats(0.2, 5),
    noise=st.floats(1e-3, 10),
)
@pytest.mark.long
def test_the_bound_equals_the_dense_one_whatever_rows_are_present(seed, present, variance, lengthscale, noise):
    rng, rows, there = np.random.default_rng(seed), problem(CAPACITY, seed=seed), np.array(present)
    numbers = (variance, lengthscale * np.array([1.0, 1.5]), noise, rng.uniform(-2, 2, (INDUCING, IN)))
    parameters = sgpr.Parameters(*map(np.float64, numbers))
    x, y = (np.float64(a) for a in rows[:2])
    with jax.enable_x64(True):
        found = wide_bound(parameters, sgpr.Data(x, np.where(there[:, None], y, 1e3), there))
    assert float(found) == pytest.approx(dense_bound(parameters, x[there], y[there], 1e-6), rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("published", PUBLISHED, ids=["all rows", "some rows"])
@pytest.mark.long
def test_bound_and_posterior_equal_the_published_ones(published):
    with jax.enable_x64(True):
        value_and_grad = quick_jit(jax.value_and_grad(partial(sgpr.bound, jitter=1e-6)))
        bound, slope = value_and_grad(published.parameters, published.data)
        weights, reduction = quick_jit(partial(sgpr.posterior, jitter=1e-6))(published.parameters, published.data)
    assert bound.dtype == weights.dtype == reduction.dtype == np.float64
    assert float(bound) == pytest.approx(published.bound, rel=1e-10)
    assert float(slope.noise) == pytest.approx(published.slope, rel=1e-10)
    np.testing.assert_allclose(weights, published.weights, rtol=1e-9)
    np.testing.assert_allclose(np.square(reduction).sum(-1), published.explained, rtol=1e-9)


@pytest.mark.long
@pytest.mark.parametrize("published", PUBLISHED, ids=["all rows", "some rows"])
def test_training_converges_to_the_published_optimum(published):
    with jax.enable_x64(True):
        run = quick_jit(partial(sgpr.maximize, jitter=1e-6, iterations=200, tolerance=1e-13))
        parameters, bound, steps = run(published.parameters, published.data)
    assert steps < 200
    assert float(bound) == pytest.approx(published.optimum, rel=1e-8)
    for found, expected in zip(parameters, published.trained, strict=False):
        np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_with_all_rows_as_inducing_inputs_the_bound_is_the_marginal_likelihood():
    rows = problem()
    x, y = first(rows, SIZE)
    parameters = some_parameters(x)
    found = in_float64(sgpr.bound, parameters, rows, SIZE, 1e-12)
    covariance = kernel(x, x, *parameters[:2]) + parameters.noise * np.eye(SIZE)
    exact = -0.5 * np.trace(y.T @ np.linalg.solve(covariance, y))
    exact -= 0.5 * OUT * (np.linalg.slogdet(covariance)[1] + SIZE * np.log(2 * np.pi))
    assert float(found) == pytest.approx(exact, rel=1e-8)


@pytest.mark.long
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_with_all_rows_as_inducing_inputs_the_predictions_are_the_exact_ones(scale):
    """The latent function's: the noise is not in the variance."""
    rows, at = problem(), np.random.default_rng(2).uniform(-3, 3, (7, IN))
    x, y = first(rows, SIZE)
    parameters = some_parameters(x)
    weights, reduction = in_float64(sgpr.posterior, parameters, rows, SIZE, 1e-12)
    state = gp.GPState(*map(jnp.float32, (*parameters, weights, reduction, np.full(OUT, scale))))
    mean, variance, logits = MODEL.predictor(state)(jnp.float32(at)[None])
    exact_mean, exact_variance = dense_posterior(parameters, x, y, at)
    np.testing.assert_allclose(mean[0], scale * exact_mean, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(variance[0], np.tile(scale**2 * exact_variance[:, None], OUT), rtol=1e-3)
    assert logits.shape == (1, 7, 0)
    assert mean.dtype == variance.dtype == jnp.float32
    near = MODEL.predictor(state)(jnp.float32(x)[None]).variance
    assert near.max() < scale**2 * parameters.noise


@pytest.mark.long
def test_it_is_computed_in_float64():
    """Equal inducing inputs: in float32 the jitter would be lost among rounding errors."""
    rows = problem()
    inducing = np.concatenate([np.zeros((3, IN)), first(rows, 4)[0]])
    parameters = some_parameters(inducing)._replace(variance=np.array(50.0))
    start = jax.tree.map(jnp.float32, parameters)
    data = sgpr.Data(rows.x, rows.y, jnp.arange(CAPACITY) < SIZE)
    run = quick_jit(partial(sgpr.fit, jitter=1e-6, iterations=1, tolerance=1e9))
    found = run(data, start)
    rounded = jax.tree.map(np.float64, found.parameters)
    expected = dense_bound(rounded, *first(rows, SIZE), 1e-6)
    assert float(found.bound) == pytest.approx(expected, rel=1e-5)
    assert all(leaf.dtype in (jnp.float32, jnp.int32) for leaf in jax.tree.leaves(found))


@pytest.mark.long
def test_the_start_is_the_prior():
    state = fresh()
    assert (state.variance, state.noise) == (1, 1)
    np.testing.assert_array_equal(state.lengthscales, np.ones(IN))
    mean, variance, _ = MODEL.predictor(state)(jnp.ones((1, 4, IN)))
    np.testing.assert_array_equal(mean, np.zeros((1, 4, OUT)))
    np.testing.assert_array_equal(variance, np.ones((1, 4, OUT)))
    other = fresh(GP(inducing=3, variance=4.0, lengthscale=2.0, noise=0.5))
    assert (other.variance, *other.lengthscales, other.noise) == (4, 2, 2, 0.5)


@pytest.mark.long
def test_training_learns_the_functions_and_the_noise(fitted):
    state, opt_state, metrics = fitted
    assert opt_state == ()
    assert 1 < metrics["gradient_steps"] <= FIT.iterations
    assert metrics["skipped_fits"] == 0
    assert state.noise < 0.1
    x, y = problem(noise=0.0)[:2]
    mean, variance, _ = MODEL.predictor(state)(x[None, :SIZE])
    assert np.square(mean[0] - y[:SIZE]).mean() < 0.05
    np.testing.assert_array_equal(variance[..., 0], variance[..., 2])


@pytest.mark.long
def test_its_metrics_are_of_the_state_it_returns(fitted):
    parameters = jax.tree.map(np.float64, sgpr.Parameters(*list(vars(fitted.state).values())[:4]))
    x, y = first(problem(), SIZE)
    per_row = dense_bound(parameters, x, y, 1e-6) / (SIZE * OUT)
    assert float(fitted.metrics["train_loss"]) == pytest.approx(-per_row, rel=1e-4)
    mean = MODEL.predictor(fitted.state)(jnp.float32(x)[None]).mean[0]
    assert float(fitted.metrics["train_mse"]) == pytest.approx(np.square(mean - y).mean(), rel=1e-3)


@pytest.mark.long
def test_rows_beyond_the_size_have_no_effect(fitted):
    rows = problem()
    changed = rows._replace(x=rows.x.at[SIZE:].set(7.0), y=rows.y.at[SIZE:].set(-5.0))
    again = trained(jax.random.key(1), fresh(), changed, jnp.array(SIZE))
    jax.tree.map(np.testing.assert_array_equal, again, fitted)


@pytest.mark.long
def test_the_key_chooses_the_inducing_inputs_among_the_rows():
    fit = GPFit(iterations=1, tolerance=1e9)
    # A noise this large makes the first step move nothing.
    model = GP(inducing=INDUCING, noise=1e12)
    run = quick_jit(lambda key: fit.fit(key, model, fresh(model), (), problem(), jnp.array(SIZE)).state.inducing)
    one, other = np.array(run(jax.random.key(0))), np.array(run(jax.random.key(1)))
    rows = {tuple(row) for row in np.array(problem().x[:SIZE])}
    assert {tuple(row) for row in one} < rows and {tuple(row) for row in other} < rows
    assert not np.array_equal(one, other)


@pytest.mark.long
def test_too_few_rows_are_padded_with_zeros():
    fit, model = GPFit(iterations=1, tolerance=1e9), GP(inducing=INDUCING, noise=1e12)
    found = quick_jit(lambda: fit.fit(jax.random.key(0), model, fresh(model), (), problem(3), jnp.array(3)))()
    inducing = np.array(found.state.inducing)
    np.testing.assert_allclose(np.sort(inducing[:3], 0), np.sort(problem().x[:3], 0), rtol=1e-6)
    np.testing.assert_allclose(inducing[3:], np.zeros((2, IN)), atol=1e-6)
    assert found.metrics["skipped_fits"] == 0


@pytest.mark.long
def test_training_goes_on_from_the_hyper_parameters_it_has(fitted):
    fit = GPFit(iterations=1)
    run = quick_jit(lambda state: fit.fit(jax.random.key(2), MODEL, state, (), problem(), jnp.array(SIZE)))
    warm, cold = run(fitted.state), run(fresh())
    assert warm.metrics["train_loss"] < cold.metrics["train_loss"] - 0.1
    np.testing.assert_allclose(warm.state.noise, fitted.state.noise, rtol=0.5)


@pytest.mark.long
def test_no_more_rows_than_allowed_are_used():
    """Others may be anything."""
    fit = GPFit(iterations=2, max_rows=6)
    rows = problem(CAPACITY)
    run = quick_jit(lambda rows: fit.fit(jax.random.key(3), MODEL, fresh(), (), rows, jnp.array(CAPACITY)))
    before = run(rows).state
    changed = [
        not np.array_equal(run(rows._replace(y=rows.y.at[i].add(1.0))).state.weights, before.weights)
        for i in range(CAPACITY)
    ]
    assert sum(changed) == 6


def test_a_fit_that_fails_leaves_the_state_as_it_was(fitted):
    rows = problem()
    rows = rows._replace(y=rows.y.at[:3].set(jnp.nan))
    after = trained(jax.random.key(1), fitted.state, rows, jnp.array(SIZE))
    jax.tree.map(np.testing.assert_array_equal, after.state, fitted.state)
    assert after.metrics["skipped_fits"] == 1


@pytest.mark.long
def test_targets_may_be_scaled():
    model = GP(inducing=INDUCING, scale_targets=True, min_std=1e-5)
    rows = problem()
    rows = rows._replace(y=(rows.y * jnp.array([1.0, 100.0, 0.0])))
    state = quick_jit(lambda: FIT.fit(jax.random.key(1), model, fresh(model), (), rows, jnp.array(SIZE)).state)()
    y = np.array(rows.y[:SIZE])
    np.testing.assert_allclose(state.scale, [y[:, 0].std(), y[:, 1].std(), 1.0], rtol=1e-5)
    mean, variance, _ = model.predictor(state)(rows.x[None, :SIZE])
    assert np.square(mean[0] - y).mean(0)[1] < 0.1 * y[:, 1].var()
    np.testing.assert_allclose(variance[..., 1] / variance[..., 0], (state.scale[1] / state.scale[0]) ** 2, rtol=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("name", ["E", "DS", "MM"])
def test_it_goes_with_every_propagation_that_needs_no_ensemble(name, fitted):
    GPModel().check(FIT, Imagination(propagation=name, particles=1 if name == "E" else 4))
    propagate, noise = registry.find("propagation", name), Noise(jax.random.key(0), shared=False)
    outputs, flags = propagate(MODEL.predictor(fitted.state), MODEL.members, jnp.ones((4, 5, IN)), noise)
    assert outputs.shape == (4, 5, OUT) and np.isfinite(outputs).all()
    assert flags.shape == (4, 5, 0)


@pytest.mark.parametrize("name", ["TS1", "TS1-independent", "TSinf"])
def test_trajectory_sampling_needs_an_ensemble(name):
    with pytest.raises(ValueError, match=f"propagation={name} needs a model of several networks, not GP; .* E, DS, MM"):
        GPModel().check(FIT, Imagination(propagation=name))


def test_ends_of_episodes_cannot_be_learned():
    with pytest.raises(UserError, match="cannot learn yes/no outputs such as ends of episodes"):
        MODEL.init(jax.random.key(0), IN, OUT, 1)


@pytest.mark.parametrize("preset", ["pets/cartpole", "pets/halfcheetah"])
@pytest.mark.long
def test_the_part_turns_any_preset_into_one_with_a_small_process(preset):
    settings = resolve(f"{preset}+gp")
    assert settings.model == GPModel(inducing=200, scale_targets=True, min_std=1e-5)
    assert settings.fit == GPFit(iterations=200, log_rows=5000)
    assert settings.imagination.propagation == "DS"


@pytest.mark.parametrize(("task", "inducing"), [("cartpole", 200), ("reacher", 200), ("halfcheetah", 300)])
@pytest.mark.long
def test_with_the_paper_presets_it_is_the_papers(task, inducing):
    settings = resolve(f"pets/{task}-paper+gp")
    assert settings.model == GPModel(inducing=inducing)
    assert settings.fit == GPFit(iterations=1000, max_rows=None, log_rows=5000)


@pytest.mark.long
def test_all_rows_may_be_used():
    """As with a limit that they do not reach."""
    rows = Rows(jnp.linspace(-1, 1, 24)[:, None], jnp.sin(jnp.linspace(-1, 1, 24))[:, None], jnp.zeros((24, 0), bool))
    model, key, size = GP(inducing=4), jax.random.key(0), jnp.array(20)
    draws = [GPFit(max_rows=most)._draw(key, model, rows, size)[0] for most in (None, 24, 10)]
    jax.tree.map(np.testing.assert_array_equal, draws[0], draws[1])
    assert [int(data.present.sum()) for data in draws] == [20, 20, 10]
    assert set(np.asarray(draws[0].x[:20, 0]).tolist()) == set(np.asarray(rows.x[:20, 0]).tolist())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"fit": {"kind": "adam"}}, "model.kind=gp is trained with fit.kind=lbfgs, not adam"),
        ({"model": {"kind": "ensemble"}}, "model.kind=ensemble is trained with fit.kind=adam, not lbfgs"),
        ({"model": {"members": 3}}, "no setting 'model.members' with model.kind=gp"),
        ({"model": {"inducing": 0}}, "model.inducing=0: input should be greater than 0"),
        ({"fit": {"max_rows": 0}}, "fit.max_rows=0: input should be greater than 0"),
    ],
)
@pytest.mark.long
def test_impossible_settings_are_refused(change, sentence):
    with pytest.raises(UserError, match=sentence):
        resolve("pets/cartpole+gp", [change])
