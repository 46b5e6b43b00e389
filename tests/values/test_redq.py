"""An ensemble of critics: targets from a random few, the policy's value from all, and the scale of values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foretell.values.learners import REDQ
from foretell.values.learners.state import ValueRange
from tiny import on_host

LEARNER = REDQ(hidden=(8,), batch_size=4, discount=0.995, reward_quantile=0.01, activation="silu")
FEATURES, ACTION = jnp.linspace(-1, 1, 12).reshape(4, 3), jnp.linspace(-0.5, 0.5, 4)[:, None]
BONUS = jnp.zeros(4)


def scaled_state():
    """The numbers of the specification of DHMBPO, section 7.9: quantiles of rewards, then a step towards others."""
    state = LEARNER.init(jax.random.key(0), 3, 1)
    first = LEARNER.rescaled(state, jnp.linspace(-1.0, 3.0, 101))
    return state, first, LEARNER.rescaled(first, jnp.linspace(0.0, 5.0, 101))


def test_the_range_of_values_follows_quantiles_of_rewards():
    start, first, then = on_host(lambda: [state.value_range for state in scaled_state()])()
    assert not start.known and first.known
    # Of the other rewards the lower quantile is positive: an episode that may end can be worth less than that forever.
    low = -192.0 + 3e-4 * 192.0
    np.testing.assert_allclose([first.low, first.high, then.low, then.high], [-192, 592, low, 592.1194], rtol=1e-5)


def test_rewards_that_do_not_count_leave_the_range_as_it_is():
    rewards = jnp.stack([jnp.linspace(-1.0, 3.0, 101), jnp.full(101, jnp.nan)])
    state = LEARNER.init(jax.random.key(0), 3, 1)
    ranges = on_host(lambda: [LEARNER.rescaled(state, reward).value_range for reward in (rewards, rewards[1])])()
    np.testing.assert_allclose([ranges[0].low, ranges[0].high], [-192, 592], rtol=1e-5)
    assert (ranges[1].low, ranges[1].high, ranges[1].known) == (-1, 1, False)


def test_outputs_of_critics_are_scaled_and_targets_are_clipped():
    """The numbers of section 7.9."""
    low, high = -191.9394, 592.1194
    scale = ValueRange(jnp.float32(low), jnp.float32(high), jnp.array(True))
    heads = np.float32([0.2, 1.3, -0.4, 0.9, -1.6])
    values = np.asarray(scale.value(jnp.array(heads)))
    np.testing.assert_allclose(values, [278.49588, 709.72822, 43.27824, 552.91646, -427.15704], rtol=1e-5)
    np.testing.assert_allclose(values.mean(), 231.452352, rtol=1e-5)
    assert np.clip(values[[1, 3]].min(), low, high) == pytest.approx(552.91646, rel=1e-5)
    np.testing.assert_allclose(scale.output(scale.value(jnp.array(heads))), heads, rtol=1e-4, atol=1e-6)


def test_critics_start_at_the_centre_of_the_range():
    value = on_host(lambda: LEARNER.policy_value(scaled_state()[1], FEATURES, ACTION))()
    np.testing.assert_allclose(value, 200.0, rtol=1e-6)


def test_targets_take_the_least_of_a_random_few_and_policies_the_mean_of_all():
    learner = LEARNER.model_copy(update={"reward_quantile": None})

    def found():
        state = learner.init(jax.random.key(0), 3, 1)
        all_of_them = learner.values(state.target_critics, FEATURES, ACTION)
        at = lambda updates: learner.target_values(state._replace(updates=updates), FEATURES, ACTION, BONUS)  # noqa: E731
        return all_of_them, jax.lax.map(at, jnp.arange(30))[:, 0], learner.policy_value(state, FEATURES, ACTION)

    values, least, mean = on_host(found)()
    np.testing.assert_allclose(mean, values.mean(0), rtol=1e-5)
    pairs = {(i, j): np.minimum(values[i], values[j]) for i in range(5) for j in range(i)}
    drawn = [{pair for pair, minimum in pairs.items() if np.allclose(row, minimum, rtol=1e-6)} for row in least]
    assert all(drawn) and len(set.union(*drawn)) == len(pairs)


def test_every_critic_learns_from_the_whole_batch():
    """Half the squared error, averaged over the batch and summed over critics."""
    target = jnp.arange(4.0)

    def found():
        critics = LEARNER.init(jax.random.key(0), 3, 1).critics
        values = LEARNER.values(critics, FEATURES, ACTION)
        pairs = FEATURES[None, None], ACTION[None, None], target[None], jnp.ones((1, 4))
        return values, LEARNER.critic_loss(critics, jax.random.key(1), *pairs)[0]

    values, loss = on_host(found)()
    assert loss == pytest.approx(0.5 * np.square(values - np.arange(4.0)).mean(1).sum(), rel=1e-5)


def test_the_gradient_of_the_temperature():
    """Section 7.11: with entropy 2.5 and target -6 it is 8.5, whatever the temperature."""
    slope = jax.grad(lambda log_alpha: LEARNER.temperature_loss(log_alpha, jnp.array(2.5), 6))(jnp.log(0.1))
    assert slope == pytest.approx(8.5)


def test_standard_deviations_may_be_softplus_of_an_output():
    learner = REDQ(hidden=(8,), std="softplus")

    def found():
        policy = learner.init(jax.random.key(0), 3, 1).policy
        return learner.gaussian(policy, FEATURES)[1], LEARNER.gaussian(policy, FEATURES)[1]

    softplus, plain = on_host(found)()
    np.testing.assert_allclose(np.exp(softplus), np.log1p(np.exp(plain)) + 1e-5, rtol=1e-4)


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match=r"subset \(6\) must be at most 5, the number of critics"):
        REDQ(subset=6)
