"""How particles pass through an ensemble."""

import jax
import jax.numpy as jnp
import numpy as np

from foretell.nn import MLP
from foretell.worldmodel.ensemble import EnsembleParams, Prediction, predict
from foretell.worldmodel.propagation import PROPAGATIONS, ts_inf

MEMBERS, PARTICLES, CANDIDATES = 5, 20, 3


def members_own_number(x):
    """A predictor without noise that answers with the number of the member asked."""
    number = jnp.broadcast_to(jnp.arange(1.0 * len(x))[:, None, None], (*x.shape[:2], 1))
    return Prediction(number, jnp.full_like(number, -jnp.inf), number)


def test_adjacent_particles_share_a_member():
    inputs, noise = jnp.zeros((PARTICLES, CANDIDATES, 2)), jnp.ones((PARTICLES, CANDIDATES, 1))
    out, logits = ts_inf(members_own_number, MEMBERS, inputs, noise)
    for particle in range(PARTICLES):
        assert (out[particle] == particle // 4).all()
        assert (logits[particle] == particle // 4).all()


def test_one_particle_per_member():
    out, _ = ts_inf(members_own_number, 3, jnp.zeros((3, CANDIDATES, 2)), jnp.zeros((3, CANDIDATES, 1)))
    np.testing.assert_array_equal(out[..., 0], [[0] * 3, [1] * 3, [2] * 3])


def test_equals_a_double_loop_over_particles_and_candidates():
    rng = np.random.default_rng(0)
    network = MLP((jnp.float32(rng.normal(size=(MEMBERS, 3, 5))),), (jnp.zeros((MEMBERS, 1, 5)),), "silu")
    params = EnsembleParams(network, jnp.array([1.0, 0.5]), jnp.array([-2.0, -1.0]))
    inputs = jnp.float32(rng.normal(size=(PARTICLES, CANDIDATES, 3)))
    noise = jnp.float32(rng.normal(size=(PARTICLES, CANDIDATES, 2)))
    out, logits = jax.jit(lambda i, n: ts_inf(lambda x: predict(params, x), MEMBERS, i, n))(inputs, noise)
    everyone = predict(params, jnp.broadcast_to(inputs.reshape(1, -1, 3), (MEMBERS, PARTICLES * CANDIDATES, 3)))
    for p in range(PARTICLES):
        for c in range(CANDIDATES):
            mean, logvar, logit = (np.asarray(a[p // 4, p * CANDIDATES + c]) for a in everyone)
            np.testing.assert_allclose(out[p, c], mean + np.sqrt(np.exp(logvar)) * noise[p, c], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(logits[p, c], logit, rtol=1e-4, atol=1e-5)


def test_noise_drawn_once_serves_all_candidates():
    def unit(x):
        zero = jnp.zeros((*x.shape[:2], 1))
        return Prediction(zero, zero, zero[..., :0])

    noise = jnp.arange(4.0)[:, None, None]
    out, logits = ts_inf(unit, 2, jnp.zeros((4, CANDIDATES, 2)), noise)
    np.testing.assert_allclose(out, np.broadcast_to(noise, (4, CANDIDATES, 1)))
    assert logits.shape == (4, CANDIDATES, 0)


def test_it_goes_by_its_name():
    assert PROPAGATIONS["TSinf"] is ts_inf
