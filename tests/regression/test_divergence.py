"""The divergence of members, on numbers of the specification of MACURA and beside its definition."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.regression.divergence import disagreement, gaussian_divergence
from foretell.regression.prediction import Prediction
from tiny import on_host

divergence = on_host(gaussian_divergence)


def defined(m1, v1, m2, v2):
    """Section 7.15, in double precision."""
    v = 1 / (0.5 / v1 + 0.5 / v2)
    m = v * (0.5 * m1 / v1 + 0.5 * m2 / v2)
    apart = 0.5 * m1**2 / v1 + 0.5 * m2**2 / v2 - m**2 / v
    return 0.5 * (apart + 0.5 * np.log(v1) + 0.5 * np.log(v2) - np.log(v)).sum(-1)


@pytest.mark.parametrize(
    ("gaussians", "expected"),
    [
        (([0.0], [1.0], [1.0], [1.0]), 0.125),
        (([0.0, 1.0], [1.0, 0.5], [0.2, 0.8], [2.0, 0.25]), 0.075558),
        (([3.0], [2.0], [3.0], [2.0]), 0.0),
    ],
)
def test_gaussians_of_the_specification(gaussians, expected):
    assert divergence(*map(np.float32, gaussians)) == pytest.approx(expected, abs=1e-6)


number, positive = st.floats(-3, 3, width=32, allow_subnormal=False), st.floats(0.125, 9, width=32)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(*(st.lists(of, min_size=3, max_size=3) for of in (number, positive, number, positive)))
def test_it_is_what_is_defined_whatever_the_units(m1, v1, m2, v2):
    rows = [np.float32(values) for values in (m1, v1, m2, v2)]
    expected = defined(*(row.astype(np.float64) for row in rows))
    assert divergence(*rows) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    scaled = [rows[0] * 8 + 1, rows[1] * 64, rows[2] * 8 + 1, rows[3] * 64]
    assert divergence(*scaled) == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_members_disagree_by_the_mean_of_all_pairs():
    rng = np.random.default_rng(0)
    mean, variance = np.float32(rng.normal(size=(3, 4, 2))), np.float32(rng.uniform(0.1, 2, (3, 4, 2)))
    found = on_host(lambda: disagreement(Prediction(jnp.array(mean), jnp.array(variance), jnp.zeros((3, 4, 0)))))()
    pairs = [defined(mean[i], variance[i], mean[j], variance[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    np.testing.assert_allclose(found, np.mean(pairs, 0), rtol=1e-5)
