"""The critics' loss of MVE, against sums written by hand (Feinberg et al. 2018, and their released code)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foretell.values import Expansion, Frames, pairs
from foretell.values.learners import DDPG

H, B, GAMMA = 3, 5, 0.9
RNG = np.random.default_rng(1)
ENDS = np.array([0, 0, 1, 0, 1], np.float32)
FRAMES = Frames(
    obs=np.float32(RNG.normal(size=(H + 1, 1, B, 2))),
    action=np.float32(RNG.uniform(-1, 1, (H + 1, 1, B, 1))),
    reward=np.float32(RNG.normal(size=(H + 1, 1, 1, B))),
    terminated=np.concatenate([ENDS[None, None], np.zeros((H, 1, B), np.float32)]),
    bonus=np.zeros((H + 1, 1, B), np.float32),
    value=np.float32(RNG.normal(size=(H + 1, 1, 1, B))),
)
OBS, ACTION = np.float32(RNG.normal(size=(B, 2))), np.float32(RNG.uniform(-1, 1, (B, 1)))
GUESS = np.float32(RNG.normal(size=(H + 1, B)))


def mve(**settings):
    return Expansion(**{"horizon": H, "reduction": "last", "tdk": True, "average": "reached", **settings})


def returns_by_hand():
    """`G_0 ... G_{H-1}`: what follows the frame of each imagined pair."""
    later, found = np.float64(FRAMES.value[H, 0, 0]), []
    for t in range(H, 0, -1):
        later = FRAMES.reward[t, 0, 0] + GAMMA * later
        found.append(later)
    return found[::-1]


def loss_by_hand(divisor, ends=ENDS):
    after, total = returns_by_hand(), 0.0
    total += np.mean((FRAMES.reward[0, 0, 0] + GAMMA * (1 - ends) * after[0] - GUESS[0]) ** 2)
    for t in range(H):
        if (1 - ends).sum():
            total += ((1 - ends) * (after[t] - GUESS[t + 1]) ** 2).sum() / (1 - ends).sum()
    return total / divisor


def targets(settings, frames=FRAMES):
    return jax.device_get(settings.targets(jax.tree.map(jnp.asarray, frames), GAMMA))


def loss(settings, frames=FRAMES):
    """Twice what learners minimise, which is half the squared error averaged over sources and batch."""
    found = targets(settings, frames)
    square = np.square(GUESS[: len(found.target)] - np.asarray(found.target))
    return (np.asarray(found.weight) * square).sum() / square.size


@pytest.mark.parametrize(("divisor", "by"), [("horizon", H), ("none", 1), ("sources", H + 1)])
@pytest.mark.long
def test_the_loss_is_the_sum_of_masked_means_over_a_divisor(divisor, by):
    assert loss(mve(divisor=divisor)) == pytest.approx(loss_by_hand(by), rel=1e-4)


@pytest.mark.long
def test_the_divisor_changes_the_scale_alone():
    assert H * loss(mve(divisor="horizon")) == pytest.approx(loss(mve(divisor="none")), rel=1e-5)


@pytest.mark.long
def test_where_all_transitions_end_only_the_real_rewards_remain():
    ends = np.ones(B, np.float32)
    frames = FRAMES._replace(terminated=np.concatenate([ends[None, None], FRAMES.terminated[1:]]))
    assert loss(mve(divisor="none"), frames) == pytest.approx(
        np.mean((FRAMES.reward[0, 0, 0] - GUESS[0]) ** 2), rel=1e-5
    )


def test_without_tdk_it_is_one_regression_on_a_longer_target():
    found = targets(Expansion(horizon=H, reduction="last"))
    expected = FRAMES.reward[0, 0, 0] + GAMMA * (1 - ENDS) * returns_by_hand()[0]
    np.testing.assert_allclose(found.target, expected[None], rtol=1e-4)
    np.testing.assert_array_equal(found.weight, np.ones((1, B)))


@pytest.mark.long
def test_a_perfect_model_and_perfect_values_leave_no_error():
    """Rewards of a chain whose values are known: the target of every source is its value."""
    value = np.float32(RNG.normal(size=(H + 2, B)))  # of the real pair and of the frames
    reward = np.stack([value[t] - GAMMA * value[t + 1] for t in range(H + 1)])
    frames = FRAMES._replace(
        reward=reward[:, None, None], value=value[1:, None, None], terminated=np.zeros((H + 1, 1, B), np.float32)
    )
    np.testing.assert_allclose(targets(mve(), frames).target, value[:-1], rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_the_learner_minimises_half_of_it():
    learner = DDPG(hidden=(8,), batch_size=B, critics=1)
    critics = learner.init(jax.random.key(0), 2, 1).critics
    obs, action = pairs(*jax.tree.map(jnp.asarray, (OBS, ACTION, FRAMES)), H + 1)
    found = jax.tree.map(jnp.asarray, targets(mve(divisor="horizon")))
    half, _ = learner.critic_loss(critics, jax.random.key(1), obs, action, found.target, found.weight)
    guess = np.asarray(learner.values(critics, obs, action))[0, :, 0]
    square = np.square(guess - np.asarray(found.target))
    assert half == pytest.approx(0.5 * (np.asarray(found.weight) * square).sum() / square.size, rel=1e-4)


@pytest.mark.long
def test_critics_weights_alone_decay():
    plain, decayed = (DDPG(hidden=(8,), batch_size=B, critic_weight_decay=decay) for decay in (0.0, 0.1))
    critics = plain.init(jax.random.key(0), 2, 1).critics
    obs, action = pairs(*jax.tree.map(jnp.asarray, (OBS, ACTION, FRAMES)), 1)
    given = critics, jax.random.key(1), obs, action, jnp.asarray(GUESS[:1]), jnp.ones((1, B))
    more = decayed.critic_loss(*given)[0] - plain.critic_loss(*given)[0]
    assert more == pytest.approx(0.05 * sum(float(np.square(w).sum()) for w in critics.weights), rel=1e-3)
    slopes = jax.grad(lambda c: decayed.critic_loss(c, *given[1:])[0] - plain.critic_loss(c, *given[1:])[0])(critics)
    assert all(np.abs(bias).max() < 1e-6 for bias in slopes.biases)


@pytest.mark.long
def test_settings_without_meaning_are_refused():
    for settings in ({"divisor": "horizon"}, {"average": "reached"}):
        with pytest.raises(ValueError, match="divisor and average are for tdk=true"):
            Expansion(**settings)
