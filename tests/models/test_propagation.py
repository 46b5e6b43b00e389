"""How particles pass through an ensemble: every propagation against plain loops, on the same noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foretell import registry
from foretell.models.noise import hashed_bits, hashed_normal
from foretell.models.propagation import Noise, rematch
from foretell.nn import MLP
from foretell.regression.ensemble import EnsembleParams, predict
from foretell.regression.prediction import Prediction
from tiny import on_host

MEMBERS, PARTICLES, CANDIDATES, IN, OUT = 3, 6, 4, 3, 2
EACH = PARTICLES // MEMBERS
NAMES = ["E", "DS", "MM", "TS1", "TS1-independent", "TSinf"]
SAMPLED = NAMES[1:]
KEY = jax.random.key(2)


def params_of(probabilistic):
    """With one yes/no output."""
    rng, columns = np.random.default_rng(0), (1 + probabilistic) * OUT + 1
    weight, bias = rng.normal(size=(MEMBERS, IN, columns)), rng.normal(size=(MEMBERS, 1, columns))
    network = MLP((jnp.array(weight, jnp.float32),), (jnp.array(bias, jnp.float32),), "silu")
    return EnsembleParams(network, jnp.array([1.0, 0.5]), jnp.array([-2.0, -1.0]), probabilistic)


PARAMS = {"probabilistic": params_of(True), "deterministic": params_of(False)}
INPUTS = np.float32(np.random.default_rng(1).normal(size=(PARTICLES, CANDIDATES, IN)))


def propagate(name, predictor, members, inputs, key, shared=False):
    return registry.find("propagation", name)(predictor, members, inputs, Noise(key, shared))


compiled = on_host(
    lambda name, shared, params, inputs: propagate(name, lambda x: predict(params, x), MEMBERS, inputs, KEY, shared),
    0,
    1,
)
compiled_predict = on_host(predict)


@on_host
def words_and_normals():
    """Normals of two streams, and words of the second, of one step: of every row, and shared by all."""
    shapes = (PARTICLES, CANDIDATES), (PARTICLES, 1)
    normals = lambda shape: [hashed_normal(KEY, (*shape, OUT), stream) for stream in (0, 1)]  # noqa: E731
    return [[*normals(shape), hashed_bits(KEY, shape, 1)] for shape in shapes]


def draws(shared):
    return [np.broadcast_to(a, (PARTICLES, CANDIDATES, *a.shape[2:])) for a in words_and_normals()[shared]]


def answers(params):
    """Mean, variance and logits of every member for every particle of every candidate."""
    rows = np.broadcast_to(INPUTS.reshape(1, -1, IN), (MEMBERS, PARTICLES * CANDIDATES, IN))
    return [np.float64(a).reshape(MEMBERS, PARTICLES, CANDIDATES, -1) for a in compiled_predict(params, rows)]


def taken_together(means, variances):
    """Mean and variance of the ensemble as one Gaussian, for one particle."""
    mean = sum(means) / MEMBERS
    within, between = sum(variances) / MEMBERS, sum((m - mean) ** 2 for m in means) / MEMBERS
    return mean, within + between


def server(name, p, words):
    """The member that serves particle `p` of a candidate whose particles have these random words."""
    if name == "TS1":
        return sorted(range(PARTICLES), key=lambda i: words[i]).index(p) // EACH
    return words[p] % MEMBERS if name == "TS1-independent" else p // EACH


def by_hand(name, params, shared):
    """Outputs and probabilities, one particle at a time."""
    out, flags = np.zeros((PARTICLES, CANDIDATES, OUT)), np.zeros((PARTICLES, CANDIDATES, 1))
    (normal, again, words), everyone = draws(shared), answers(params)
    for c in range(CANDIDATES):
        for p in range(PARTICLES):
            if name.startswith("TS"):
                mean, variance, logit = (a[server(name, p, words[:, c]), p, c] for a in everyone)
                flags[p, c] = 1 / (1 + np.exp(-logit))
            else:
                mean, variance = taken_together(*(a[:, p, c] for a in everyone[:2]))
                flags[p, c] = sum(1 / (1 + np.exp(-logit)) for logit in everyone[2][:, p, c]) / MEMBERS
            out[p, c] = mean if name == "E" else mean + np.sqrt(variance) * normal[p, c]
        if name == "MM":
            mean = sum(out[:, c]) / PARTICLES
            variance = sum((row - mean) ** 2 for row in out[:, c]) / PARTICLES
            out[:, c] = [mean + np.sqrt(variance) * again[p, c] for p in range(PARTICLES)]
    return out, flags


def test_these_are_all_there_are():
    assert set(NAMES) <= set(registry.kinds("propagation"))


@pytest.mark.parametrize(
    ("nets", "shared"),
    [("probabilistic", False), ("probabilistic", True), ("deterministic", False)],
    ids=["own noise", "shared noise", "deterministic"],
)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.long
def test_equals_a_double_loop_over_particles_and_candidates(name, nets, shared):
    found = compiled(name, shared, PARAMS[nets], INPUTS)
    for a, b in zip(found, by_hand(name, PARAMS[nets], shared), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


STEPS, MANY, ROWS = 40, 20, 30


def members_own_number(x):
    """A predictor that answers with the number of the member asked, and no variance."""
    number = jnp.broadcast_to(jnp.arange(1.0 * len(x))[:, None, None], (*x.shape[:2], 1))
    return Prediction(number, jnp.zeros_like(number), number[..., :0])


def certain_spread(x):
    """A predictor of two outputs whose members agree on mean 0 and variance 1."""
    mean = jnp.zeros((*x.shape[:2], OUT))
    return Prediction(mean, jnp.ones_like(mean), mean[..., :0])


def over_steps(name, predictor, particles=MANY, members=5, steps=STEPS, rows=ROWS):
    """Outputs `[steps, particles, rows, out]`, every step with a key of its own."""
    inputs = jnp.zeros((particles, rows, IN))
    step = jax.vmap(lambda key: propagate(name, predictor, members, inputs, key).outputs)
    return on_host(step)(jax.random.split(KEY, steps))


@pytest.mark.parametrize("name", SAMPLED)
def test_noise_is_standard_normal_and_of_every_output_particle_candidate_and_step(name):
    """Matched particles are redrawn with the spread that few of them happen to have."""
    found = over_steps(name, certain_spread)
    assert found.shape == (STEPS, MANY, ROWS, OUT)
    assert len(np.unique(found)) > 0.99 * found.size
    assert abs(found.mean()) < 0.02 and abs(found.std() - 1) < (0.05 if name == "MM" else 0.02)
    for axis in range(found.ndim):
        first, second = (np.take(found, i, axis).ravel() for i in (0, 1))
        assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(first.size)


def test_both_draws_of_moment_matching_are_independent():
    """Of the first, what is around the mean of a candidate's particles; that mean is kept."""
    sampled, matched = over_steps("DS", certain_spread), over_steps("MM", certain_spread)
    first, again = sampled - sampled.mean(1, keepdims=True), matched - sampled.mean(1, keepdims=True)
    assert abs(np.corrcoef(first.ravel(), again.ravel())[0, 1]) < 0.02


def servers(name, particles=MANY, members=5):
    """Who serves each particle of each candidate, `[steps, particles, candidates]`."""
    return np.asarray(over_steps(name, members_own_number, particles, members)[..., 0], int)


def test_with_tsinf_adjacent_particles_stay_with_one_member():
    """Of 20 particles and 5 members, particles 0 to 3 with the first, and so on."""
    expected = np.repeat(np.arange(5), 4)[None, :, None]
    np.testing.assert_array_equal(servers("TSinf"), np.broadcast_to(expected, (STEPS, MANY, ROWS)))


def test_with_tsinf_there_may_be_one_particle_per_member():
    np.testing.assert_array_equal(servers("TSinf", 3, 3)[0, :, 0], [0, 1, 2])


@pytest.fixture(scope="module")
def balanced():
    return servers("TS1")


def test_with_ts1_each_member_serves_equally_many_particles_of_each_candidate_at_every_step(balanced):
    for member in range(5):
        np.testing.assert_array_equal((balanced == member).sum(1), 4)


def test_with_ts1_every_step_and_candidate_has_its_own_order(balanced):
    served = balanced.transpose(0, 2, 1).reshape(-1, MANY)
    assert len({tuple(row) for row in served}) == len(served)
    share = np.stack([(served == member).mean(0) for member in range(5)])
    np.testing.assert_allclose(share, 0.2, atol=0.06)  # every particle meets all members equally often


def test_with_ts1_independent_every_particle_draws_its_member_alone():
    served = servers("TS1-independent")
    counts = np.stack([(served == member).sum(1) for member in range(5)])
    np.testing.assert_allclose(counts.mean((1, 2)), 4, atol=0.3)
    assert abs(counts.var() - 20 * 0.2 * 0.8) < 0.4  # that of a binomial; balanced counts would not vary


def far_from_gaussian(x):
    """Half of the members say -1 and half say 3, all with variance 0.5."""
    mean = jnp.broadcast_to(jnp.where(jnp.arange(len(x)) % 2, 3.0, -1.0)[:, None, None], (*x.shape[:2], 1))
    return Prediction(mean, jnp.full_like(mean, 0.5), mean[..., :0])


@pytest.mark.parametrize(("name", "variance"), [("E", 0.0), *((name, 0.5 + 2.0**2) for name in SAMPLED)])
def test_the_spread_of_many_particles_is_the_total_variance(name, variance):
    out = over_steps(name, far_from_gaussian, particles=20_000, members=2, steps=1, rows=2)[0]
    np.testing.assert_allclose(out.mean(0), 1.0, atol=0.1)
    np.testing.assert_allclose(out.var(0), variance, rtol=0.05)


@pytest.mark.long
def test_matched_particles_have_their_candidates_moments():
    values = np.float32(np.random.default_rng(0).normal([1.0, -5.0], [0.1, 3.0], (20_000, CANDIDATES, OUT)) ** 3)
    noise = np.float32(np.random.default_rng(1).normal(size=values.shape))
    matched = on_host(rematch)
    found = matched(values, noise)
    np.testing.assert_allclose(found.mean(0), values.mean(0), atol=0.05 * values.std(0).max())
    np.testing.assert_allclose(found.std(0), values.std(0), rtol=0.03)
    np.testing.assert_allclose(matched(values, 0 * noise), np.broadcast_to(values.mean(0), values.shape), rtol=1e-4)


@pytest.mark.parametrize("name", SAMPLED)
@pytest.mark.long
def test_shared_noise_serves_all_candidates(name):
    equal = np.broadcast_to(INPUTS[:, :1], INPUTS.shape)
    for shared in (True, False):
        out = compiled(name, shared, PARAMS["probabilistic"], equal).outputs
        assert (out == out[:, :1]).all() == shared
        assert len(np.unique(out)) > 1
