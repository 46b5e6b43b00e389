"""Open-loop errors, against sums written out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.diagnostics.open_loop import OpenLoop, discounted_i, gap, kept_i, mse_k, norms_k, reward_gap, std_of


def drawn(seed=0, starts=7, steps=4, particles=3, size=2):
    rng = np.random.default_rng(seed)
    terminated = rng.random((starts, steps)) < 0.15
    return OpenLoop(
        rng.normal(size=(starts, steps, particles, size)),
        rng.normal(size=(starts, steps, size)),
        rng.normal(size=(starts, steps)),
        rng.normal(size=(starts, steps)),
        terminated,
        np.array([0.5, 2.0]),
        True,
        rng.normal(size=(starts, size)),
    )


def test_errors_are_means_over_kept_starts_and_dimensions():
    found = drawn()
    kept = [i for i in range(7) if not any(found.terminated_ik[i, :3])]
    assert 0 < len(kept) < 7 and np.flatnonzero(found.kept_i).tolist() == kept
    for k in range(4):
        total, lengths = 0.0, []
        for i in kept:
            error = [found.real_ikd[i, k, d] - sum(found.particles_ikpd[i, k, :, d]) / 3 for d in range(2)]
            total += sum(e**2 for e in error)
            lengths.append(sum(e**2 for e in error) ** 0.5)
        assert mse_k(found.planned_ikd, found.real_ikd, found.kept_i)[k] == pytest.approx(total / (2 * len(kept)))
        norms = norms_k(found.planned_ikd, found.real_ikd, found.kept_i)
        assert norms.mean_k[k] == pytest.approx(sum(lengths) / len(kept))
        assert [norms.low_k[k], norms.high_k[k]] == pytest.approx([np.quantile(lengths, q) for q in (0.16, 0.84)])


def test_a_trajectory_that_ends_early_is_dropped_and_one_that_ends_with_its_last_step_is_not():
    terminated = np.zeros((3, 4), bool)
    terminated[0, 1] = terminated[1, 3] = True
    assert kept_i(terminated).tolist() == [False, True, True]


def test_without_any_start_everything_is_missing():
    found = drawn()._replace(terminated_ik=np.ones((7, 4), bool))
    assert np.isnan(mse_k(found.planned_ikd, found.real_ikd, found.kept_i)).all()
    assert np.isnan(norms_k(found.planned_ikd, found.real_ikd, found.kept_i)).all()
    assert np.isnan(reward_gap(found, 0.9)).all()


def test_an_exact_model_has_no_error_and_no_bias():
    found = drawn()
    found = found._replace(real_ikd=found.planned_ikd, real_reward_ik=found.planned_reward_ik)
    assert (mse_k(found.planned_ikd, found.real_ikd, found.kept_i) == 0).all()
    assert reward_gap(found, 0.9)[:2] == (0.0, 0.0) and (found.error_ik == 0).all()


def test_rewards_are_discounted_from_the_first_step_on():
    assert discounted_i(np.array([[1.0, 2.0, 4.0]]), 0.5).tolist() == [1 + 1 + 1]
    found = drawn()
    difference = [sum(0.9**k * (p - r) for k, (p, r) in enumerate(zip(*pair, strict=True)))
                  for pair in zip(found.planned_reward_ik, found.real_reward_ik, strict=True)]  # fmt: skip
    used = [d for d, kept in zip(difference, found.kept_i, strict=True) if kept]
    assert reward_gap(found, 0.9)[:2] == pytest.approx((np.mean(used), np.mean(np.square(used))))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.permutations(range(7)))
@pytest.mark.long
def test_the_order_of_starts_does_not_matter(seed, order):
    """With a mask that is taken for indices it does."""
    found = drawn(seed)
    other = found._replace(**{name: getattr(found, name)[order] for name in found._fields[:5]})
    for function in (mse_k, norms_k):
        first, second = (np.array(function(one.planned_ikd, one.real_ikd, one.kept_i)) for one in (found, other))
        np.testing.assert_allclose(first, second, rtol=1e-12)
    assert reward_gap(found, 0.9) == pytest.approx(reward_gap(other, 0.9), nan_ok=True)


def test_errors_of_single_starts_and_of_no_change_are_in_units_of_standard_deviations():
    found = drawn()
    kept = np.flatnonzero(found.kept_i)
    for row, i in enumerate(kept):
        for k in range(4):
            parts = [
                (found.real_ikd[i, k, d] - found.particles_ikpd[i, k, :, d].mean()) / found.std_d[d] for d in (0, 1)
            ]
            assert found.error_ik[row, k] == pytest.approx(np.sqrt((parts[0] ** 2 + parts[1] ** 2) / 2))
            stds = [found.particles_ikpd[i, k, :, d].std() / found.std_d[d] for d in (0, 1)]
            assert found.spread_ik[row, k] == pytest.approx(np.sqrt((stds[0] ** 2 + stds[1] ** 2) / 2))
    changes = (found.real_ikd[kept] - found.begin_id[kept, None]) / [0.5, 2.0]
    assert found.still_k == pytest.approx(np.square(changes).mean((0, 2)))


@pytest.mark.long
def test_bias_keeps_its_sign():
    estimate, truth = np.array([3.0, 5.0, 100.0]), np.array([1.0, 2.0, 0.0])
    assert gap(estimate, truth, np.array([True, True, False])) == (2.5, (4 + 9) / 2, np.sqrt(2.5))


@pytest.mark.long
def test_a_constant_dimension_has_unit_deviation():
    assert std_of(np.array([[1.0, 3.0], [1.0, 7.0]])).tolist() == [1.0, 2.0]
