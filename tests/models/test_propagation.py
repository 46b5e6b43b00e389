"""How particles pass through an ensemble: every propagation against plain loops, on the same drawn chance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foretell.models.propagation import PROPAGATIONS, Shape, rematch
from foretell.nn import MLP
from foretell.regression.ensemble import EnsembleParams, predict
from foretell.regression.prediction import Prediction
from tiny import quick_jit

MEMBERS, PARTICLES, CANDIDATES, IN, OUT = 3, 6, 4, 3, 2
EACH = PARTICLES // MEMBERS
SAMPLED = sorted(set(PROPAGATIONS) - {"E"})


def params_of(probabilistic):
    rng, columns = np.random.default_rng(0), (1 + probabilistic) * OUT
    weight, bias = rng.normal(size=(MEMBERS, IN, columns)), rng.normal(size=(MEMBERS, 1, columns))
    network = MLP((jnp.float32(weight),), (jnp.float32(bias),), "silu")
    return EnsembleParams(network, jnp.array([1.0, 0.5]), jnp.array([-2.0, -1.0]), probabilistic)


PARAMS = {"probabilistic": params_of(True), "deterministic": params_of(False)}
INPUTS = jnp.float32(np.random.default_rng(1).normal(size=(PARTICLES, CANDIDATES, IN)))
compiled_sample = quick_jit(
    lambda name, params, inputs, noise: PROPAGATIONS[name].sample(lambda x: predict(params, x), MEMBERS, inputs, noise),
    0,
)


def chance(name, *, steps=1, particles=PARTICLES, draws=CANDIDATES, out=OUT, members=MEMBERS, seed=2):
    return PROPAGATIONS[name].draw(jax.random.key(seed), Shape(steps, particles, draws, out), members)


def first_step(noise):
    return jax.tree.map(lambda a: a[0], noise)


def answers(params):
    """Mean and variance of every member for every particle of every candidate."""
    rows = jnp.broadcast_to(INPUTS.reshape(1, -1, IN), (MEMBERS, PARTICLES * CANDIDATES, IN))
    mean, variance, _ = quick_jit(predict)(params, rows)
    mean, variance = (np.float64(a).reshape(MEMBERS, PARTICLES, CANDIDATES, OUT) for a in (mean, variance))
    return mean, variance


def taken_together(means, variances):
    """Mean and variance of the ensemble as one Gaussian, for one particle."""
    mean = sum(means) / MEMBERS
    within, between = sum(variances) / MEMBERS, sum((m - mean) ** 2 for m in means) / MEMBERS
    return mean, within + between


def server(name, p, more):
    """The member that serves particle `p` of a candidate whose order of particles, or choice of members, is `more`."""
    if name == "TS1":
        return list(more).index(p) // EACH
    return more[p] if name == "TS1-independent" else p // EACH


def by_hand(name, params, noise):
    """Outputs, one particle at a time."""
    out, everyone = np.zeros((PARTICLES, CANDIDATES, OUT)), answers(params)
    noise = jax.tree.map(lambda a: np.broadcast_to(a, (PARTICLES, CANDIDATES, *a.shape[2:])), noise)
    normal, more = noise if isinstance(noise, tuple) else (noise, None)
    for c in range(CANDIDATES):
        for p in range(PARTICLES):
            if name.startswith("TS"):
                member = server(name, p, None if more is None else more[:, c])
                mean, variance = (a[member, p, c] for a in everyone)
            else:
                mean, variance = taken_together(*(a[:, p, c] for a in everyone))
            out[p, c] = mean if name == "E" else mean + np.sqrt(variance) * normal[p, c]
        if name == "MM":
            mean = sum(out[:, c]) / PARTICLES
            variance = sum((row - mean) ** 2 for row in out[:, c]) / PARTICLES
            out[:, c] = [mean + np.sqrt(variance) * more[p, c] for p in range(PARTICLES)]
    return out


@pytest.mark.parametrize("draws", [CANDIDATES, 1], ids=["own noise", "shared noise"])
@pytest.mark.parametrize("nets", PARAMS)
@pytest.mark.parametrize("name", PROPAGATIONS)
def test_equals_a_double_loop_over_particles_and_candidates(name, nets, draws):
    noise = first_step(chance(name, draws=draws))
    found = compiled_sample(name, PARAMS[nets], INPUTS, noise)
    np.testing.assert_allclose(found, by_hand(name, PARAMS[nets], noise), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SAMPLED)
def test_noise_is_standard_normal_and_of_every_output_particle_candidate_and_step(name):
    noise = chance(name, steps=50, particles=20, draws=30)
    for normal in [a for a in jax.tree.leaves(noise) if jnp.issubdtype(a.dtype, jnp.floating)]:
        assert normal.shape == (50, 20, 30, OUT)
        assert len(np.unique(normal)) > 0.99 * normal.size
        assert abs(normal.mean()) < 0.02 and abs(normal.std() - 1) < 0.02


def test_both_draws_of_moment_matching_are_independent():
    first, again = chance("MM", steps=50, particles=20, draws=30)
    assert abs(np.corrcoef(np.ravel(first), np.ravel(again))[0, 1]) < 0.02


def members_own_number(x):
    """A predictor without noise that answers with the number of the member asked."""
    number = jnp.broadcast_to(jnp.arange(1.0 * len(x))[:, None, None], (*x.shape[:2], 1))
    return Prediction(number, jnp.zeros_like(number), number[..., :0])


def servers(name, particles, members, steps):
    """Who serves each particle of each candidate, `[steps, particles, candidates]`."""
    noise = chance(name, steps=steps, particles=particles, out=1, members=members)
    inputs = jnp.zeros((particles, CANDIDATES, IN))
    step = lambda noise: PROPAGATIONS[name].sample(members_own_number, members, inputs, noise)  # noqa: E731
    return np.asarray(quick_jit(jax.vmap(step))(noise)[..., 0], int)


def test_with_tsinf_adjacent_particles_stay_with_one_member():
    """Of 20 particles and 5 members, particles 0 to 3 with the first, and so on."""
    expected = np.repeat(np.arange(5), 4)[None, :, None]
    np.testing.assert_array_equal(servers("TSinf", 20, 5, 3), np.broadcast_to(expected, (3, 20, CANDIDATES)))


def test_with_tsinf_there_may_be_one_particle_per_member():
    np.testing.assert_array_equal(servers("TSinf", 3, 3, 1)[0, :, 0], [0, 1, 2])


def test_with_ts1_each_member_serves_equally_many_particles_of_each_candidate_at_every_step():
    served = servers("TS1", 20, 5, 30)
    for step in served:
        for candidate in step.T:
            assert np.bincount(candidate, minlength=5).tolist() == [4] * 5


def test_with_ts1_every_step_and_candidate_has_its_own_order():
    served = servers("TS1", 20, 5, 30).transpose(0, 2, 1).reshape(-1, 20)
    assert len({tuple(row) for row in served}) == len(served)
    share = np.stack([(served == member).mean(0) for member in range(5)])
    np.testing.assert_allclose(share, 0.2, atol=0.15)  # every particle meets all members equally often


def test_with_ts1_independent_every_particle_draws_its_member_alone():
    served = servers("TS1-independent", 20, 5, 60)
    counts = np.stack([(served == member).sum(1) for member in range(5)])
    np.testing.assert_allclose(counts.mean((1, 2)), 4, atol=0.4)
    assert abs(counts.var() - 20 * 0.2 * 0.8) < 0.5  # that of a binomial; balanced counts would not vary


def far_from_gaussian(x):
    """Half of the members say -1 and half say 3, all with variance 0.5."""
    mean = jnp.broadcast_to(jnp.where(jnp.arange(len(x)) % 2, 3.0, -1.0)[:, None, None], (*x.shape[:2], 1))
    return Prediction(mean, jnp.full_like(mean, 0.5), mean[..., :0])


@pytest.mark.parametrize(("name", "variance"), [("E", 0.0), *((name, 0.5 + 2.0**2) for name in SAMPLED)])
def test_the_spread_of_many_particles_is_the_total_variance(name, variance):
    noise = first_step(chance(name, particles=20_000, out=1, members=2))
    out = PROPAGATIONS[name].sample(far_from_gaussian, 2, jnp.zeros((20_000, CANDIDATES, IN)), noise)
    np.testing.assert_allclose(out.mean(0), 1.0, atol=0.1)
    np.testing.assert_allclose(out.var(0), variance, rtol=0.05)


def test_matched_particles_have_their_candidates_moments():
    values = jnp.float32(np.random.default_rng(0).normal([1.0, -5.0], [0.1, 3.0], (20_000, CANDIDATES, OUT)) ** 3)
    noise = jax.random.normal(jax.random.key(0), values.shape)
    found = rematch(values, noise)
    np.testing.assert_allclose(found.mean(0), values.mean(0), atol=0.05 * values.std(0).max())
    np.testing.assert_allclose(found.std(0), values.std(0), rtol=0.03)
    np.testing.assert_allclose(rematch(values, 0 * noise), np.broadcast_to(values.mean(0), values.shape), rtol=1e-4)


@pytest.mark.parametrize("name", SAMPLED)
def test_noise_drawn_once_serves_all_candidates(name):
    noise = first_step(chance(name, draws=1))
    equal = jnp.broadcast_to(INPUTS[:, :1], INPUTS.shape)
    out = compiled_sample(name, PARAMS["probabilistic"], equal, noise)
    np.testing.assert_array_equal(out, np.broadcast_to(out[:, :1], out.shape))
    assert len(np.unique(out)) > 1
