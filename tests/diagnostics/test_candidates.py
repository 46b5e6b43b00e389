"""What a planner tried, noted as it searched, against a search by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foretell.diagnostics.candidates import RANKS, Notes, Round, Watched, searched
from foretell.planning import CEM, Bounds, RandomShooting
from tiny import quick_jit

BOUNDS = Bounds(jnp.array([-1.0]), jnp.array([1.0]))


def objective(key, candidates):
    """Best at 0.5 throughout."""
    return -jnp.square(candidates - 0.5).sum((1, 2))


@pytest.mark.parametrize(
    "planner",
    [
        CEM(horizon=3, population=20, iterations=4, elites=5, epsilon=0.0),
        RandomShooting(horizon=3, population=20, iterations=2),
    ],
    ids=["cem", "random"],
)
def test_a_watched_search_finds_the_same_and_notes_every_iteration(planner):
    rounds = []
    watched = Watched(planner=planner, note=lambda *round: rounds.append(Round(*map(np.asarray, round))), horizon=3)
    key = jax.random.key(0)
    plain = quick_jit(lambda key: planner.plan(key, objective, planner.begin(BOUNDS), BOUNDS))(key)
    noted = quick_jit(lambda key: watched.plan(key, objective, watched.begin(BOUNDS), BOUNDS))(key)
    jax.effects_barrier()
    np.testing.assert_array_equal(plain.actions, noted.actions)
    assert [one.actions.shape for one in rounds] == [(20, 3, 1)] * planner.iterations
    for one in rounds:
        np.testing.assert_allclose(one.values, -np.square(one.actions - 0.5).sum((1, 2)), rtol=1e-5)
    assert max(one.values.max() for one in rounds[-1:]) == pytest.approx(float(plain.value)) or planner.kind == "random"


def test_what_is_kept_of_a_search():
    actions = np.linspace(-1, 1, 9)[:, None, None] * np.ones((9, 2, 1))
    values = np.array([0.0, 1, 2, 3, 4, 5, 6, 7, 8])
    found = searched([Round(actions[:4], values[:4]), Round(actions[4:], values[4:])], np.array([2.0]))
    assert found.values.tolist() == [8, 6, 4, 2, 0] and len(RANKS) == 5
    assert found.actions[:, 0, 0].tolist() == [1, 0.5, 0, -0.5, -1]
    assert found.quantiles[1].tolist() == [4, 5, 6, 7, 8] and found.tried == 9
    best = searched([Round(actions[:4], values[:4]), Round(actions[4:], values[4:])], np.array([2.0]), 2)
    assert best.values.tolist() == [8, 7] and best.actions[:, 0, 0].tolist() == [1, 0.75] and best.tried == 9
    assert found.spread == pytest.approx([actions[:4, 0, 0].std() / 2, actions[4:, 0, 0].std() / 2])


def test_returns_that_are_not_finite_are_left_out():
    notes = Notes()
    notes._note(np.zeros((3, 2, 1)), np.array([1.0, -np.inf, np.nan]))
    assert notes.take(BOUNDS).tried == 1
    assert notes.take(BOUNDS) is None
