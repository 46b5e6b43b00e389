"""Model-expanded targets: a rollout step by step, and candidates, weights and targets against plain loops in NumPy."""

from itertools import product
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from foretell.values import Expansion, Rollout, rollout
from foretell.values.expansion import REDUCTIONS, ReductionName, candidates, centre
from tiny import quick_jit

DISCOUNT, SCALE = 0.9, 2.0
SIZES = (4, 2, 2, 2, 5)
"""Frames, particles, rewards, critics, batch."""
VARIANTS = {
    **{name: Expansion(reduction=name) for name in REDUCTIONS},
    "lambda 0.75": Expansion(reduction="lambda", lambda_return=0.75),
    "lambda of each source": Expansion(reduction="lambda", lambda_return=0.75, lambda_per_source=True),
    "mean covariance": Expansion(reduction="inverse-covariance", covariance_mean=True),
}


compiled_targets = quick_jit(lambda settings, *arguments: settings.targets(*arguments), 0, 2, 3)


def everything(rollout, discount, scale):
    """What all variants make of all sources: candidates, and targets with weights."""
    rows = candidates(rollout, discount=discount, reward_scale=scale, sources=len(rollout.reward))
    return rows, {name: [variant.reduce(row, i) for i, row in enumerate(rows)] for name, variant in VARIANTS.items()}


compiled_everything = quick_jit(everything, 1, 2)


def random_rollout(sizes, seed, *, offset=0.0, ended=False):
    """Of the `SIZES`; some real transitions are terminal."""
    frames, particles, rewards, critics, batch = sizes
    rng = np.random.default_rng(seed)
    reward = rng.normal(size=(frames, rewards, particles, batch))
    reward[0] = reward[0, 0, 0]
    terminated = rng.uniform(size=(frames, particles, batch)) ** 3
    terminated[0] = True if ended else rng.uniform(size=batch) < 0.2
    normal = lambda *shape: rng.normal(size=(*shape, particles, batch))  # noqa: E731
    nothing = np.zeros((frames, particles, batch, 1))
    return Rollout(nothing, nothing, reward, terminated, normal(frames), offset + normal(frames, critics))


def single(made):
    """As 32-bit arrays on the device."""
    return Rollout(*map(jnp.float32, made))


def candidate_by_hand(rollout, i, j, t, n, k, b, discount, scale):
    """One sample: the rewards and bonuses of one imagined life from source `i`, up to the value of frame `j`."""
    _, _, reward, terminated, bonus, value = rollout
    alive = lambda frame: np.prod([1 - terminated[m, t, b] for m in range(frame)])  # noqa: E731
    reach = alive(i) + 1e-8
    total = 0.0
    for frame in range(i, j + 1):
        total += scale * discount ** (frame - i) * alive(frame) / reach * reward[frame, n, t, b]
        total += discount ** (frame - i + 1) * alive(frame + 1) / reach * bonus[frame, t, b]
    return total + discount ** (j - i + 1) * alive(j + 1) / reach * value[j, k, t, b]


def samples_by_hand(rollout, i, b, discount, scale):
    """`[frames samples]` of one source and element of the batch."""
    frames, rewards, particles, _ = rollout.reward.shape
    members = list(product(range(rewards), range(rollout.value.shape[1]), range(particles)))
    rows = np.zeros((frames, len(members)))
    for j in range(i, frames):
        rows[j] = [candidate_by_hand(rollout, i, j, t, n, k, b, discount, scale) for n, k, t in members]
    return rows


def covariance_weights(rows, i, mean):
    """As released: all frames, those before the source without samples."""
    frames, samples = rows.shape
    centred = rows - rows.mean(1, keepdims=True)
    covariance = centred @ centred.T / (samples if mean else 1) + 1e-3 * np.eye(frames)
    weights = np.linalg.solve(covariance, np.ones(frames))
    weights[:i] = 0
    return weights / weights.sum()


def weights_by_hand(variant, rows, i):
    frames = len(rows)
    if variant.reduction == "inverse-covariance":
        return covariance_weights(rows, i, variant.covariance_mean)
    weights, first = np.zeros(frames), i if variant.lambda_per_source else 0
    for j in range(i, frames):
        power = variant.lambda_return ** (j - first)
        weights[j] = {
            "last": j == frames - 1,
            "mean": 1 / (frames - i),
            "lambda": power if j == frames - 1 else (1 - variant.lambda_return) * power,
            "inverse-variance": 1 / (np.mean((rows[j] - rows[j].mean()) ** 2) + 1e-8),
        }[variant.reduction]
    return weights / weights.sum() if variant.reduction == "inverse-variance" else weights


def check_against_loops(made, discount=DISCOUNT, scale=SCALE):
    with jax.enable_x64(True):
        rows, reduced = compiled_everything(Rollout(*map(jnp.asarray, made)), discount, scale)
    frames, batch = len(made.reward), made.reward.shape[-1]
    for i, b in product(range(frames), range(batch)):
        by_hand = samples_by_hand(made, i, b, discount, scale)
        np.testing.assert_allclose(rows[i, :, :, b], by_hand, rtol=1e-9, atol=1e-9)
        for name, variant in VARIANTS.items():
            expected = weights_by_hand(variant, by_hand, i)
            target, weights = reduced[name][i]
            np.testing.assert_allclose(weights[:, b], expected, rtol=1e-6, atol=1e-6, err_msg=name)
            np.testing.assert_allclose(target[b], expected @ by_hand.mean(1), rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("sizes", [(1, 2, 1, 3, 2), (3, 1, 1, 1, 3), (4, 2, 3, 2, 3), (2, 3, 1, 2, 1)])
def test_equals_plain_loops(sizes):
    for seed in range(3):
        check_against_loops(random_rollout(sizes, seed))


@pytest.mark.parametrize(("discount", "scale"), [(0.0, 3.0), (1.0, 0.1)])
def test_equals_plain_loops_for_other_discounts_and_scales(discount, scale):
    check_against_loops(random_rollout((3, 2, 2, 2, 2), 0), discount, scale)


@pytest.mark.parametrize(("tdk", "sources"), [(True, 4), (False, 1)])
def test_targets_are_those_of_each_source(tdk, sources):
    """With `tdk` of all sources, weighted by the chance that their pair is reached; without, of the real pair."""
    made = single(random_rollout(SIZES, 0))
    reduced = compiled_everything(made, DISCOUNT, SCALE)[1]["inverse-variance"]
    alive = np.cumprod(1 - np.asarray(made.terminated), 0).mean(1)
    found = compiled_targets(Expansion(tdk=tdk), made, DISCOUNT, SCALE)
    np.testing.assert_allclose(found.target, [target for target, _ in reduced[:sources]], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.weight, [np.ones(5), *alive[: sources - 1]], rtol=1e-6)
    np.testing.assert_allclose(found.horizon_weights, np.mean(reduced[0][1], 1), rtol=1e-4)
    np.testing.assert_allclose(found.model_use, 1 - np.mean(reduced[0][1], 1)[0], rtol=1e-4)


def published():
    """The released algorithm's numbers on two imagined steps with two members of everything."""
    reward = [[[1, 1], [1, 1]], [[0.5, 0.6], [0.7, 0.4]], [[0.2, -0.1], [0.1, 0.3]]]  # [frames rewards particles]
    value = [[[10, 10], [12, 12]], [[9, 10], [11, 13]], [[8, 12], [10, 15]]]
    terminated = np.array([[0, 0], [0.1, 0.2], [0.3, 0.0]])
    nothing = np.zeros((3, 2, 1, 1))
    numbers = (nothing, nothing, reward, terminated, np.zeros((3, 2)), value)
    return Rollout(*(a if a is nothing else np.asarray(a, float)[..., None] for a in numbers))


# Targets and weights of sources 0, 1 and 2.
KNOWN = {
    "last": ([7.58539, 7.3171, 9.035], [[0, 0, 1], [0, 0, 1], [0, 0, 1]]),
    "mean": ([9.11713, 8.02855, 9.035], [[1 / 3, 1 / 3, 1 / 3], [0, 0.5, 0.5], [0, 0, 1]]),
    "lambda": ([10.311462, 2.096069, 0.564687], [[0.75, 0.1875, 0.0625], [0, 0.1875, 0.0625], [0, 0, 0.0625]]),
    "lambda 0.75": ([8.654157, 5.754619, 5.082187], [[0.25, 0.1875, 0.5625], [0, 0.1875, 0.5625], [0, 0, 0.5625]]),
    "inverse-variance": (
        [9.629687, 8.502965, 9.035],
        [[0.434746, 0.471091, 0.094163], [0, 0.833414, 0.166586], [0, 0, 1]],
    ),
    "inverse-covariance": (
        [7.575948, 8.699829, 9.035],
        [[-0.625853, 1.612527, 0.013327], [0, 0.971768, 0.028232], [0, 0, 1]],
    ),
}


@pytest.mark.parametrize("x64", [True, False], ids=["64 bits", "32 bits"])
def test_known_candidates_weights_and_targets(x64):
    exact = {"atol": 6e-7} if x64 else {"rtol": 2e-5, "atol": 1e-6}
    with jax.enable_x64(x64):
        rows, reduced = compiled_everything(Rollout(*(jnp.asarray(a, float) for a in published())), 0.9, 1.0)
    rows = np.float64(rows[..., 0])
    means = [[10.9, 8.866, 7.58539], [0, 8.74, 7.3171], [0, 0, 9.035]]
    variances = [[0.81, 0.747508, 3.739723], [0, 0.92285, 4.616941], [0, 0, 11.467175]]
    np.testing.assert_allclose(rows.mean(2), means, **exact)
    np.testing.assert_allclose(rows.var(2), variances, **exact)
    for name, (targets, weights) in KNOWN.items():
        for source, (target, found) in enumerate(reduced[name]):
            np.testing.assert_allclose(target[0], targets[source], **exact, err_msg=name)
            np.testing.assert_allclose(found[:, 0], weights[source], **exact, err_msg=name)


def test_known_reach_and_model_use():
    found = compiled_targets(Expansion(horizon=2, tdk=True), single(published()), 0.9, 1.0)
    np.testing.assert_allclose(found.weight[:, 0], [1, 1, 0.85], rtol=1e-6)
    np.testing.assert_allclose(found.model_use, 0.565254, rtol=1e-5)


def test_where_the_episode_really_ended_targets_are_the_reward_alone():
    made = random_rollout(SIZES, 0, ended=True)
    _, reduced = compiled_everything(single(made), DISCOUNT, SCALE)
    for name, ((target, weights), *imagined) in reduced.items():
        np.testing.assert_allclose(target, SCALE * made.reward[0, 0, 0], rtol=1e-6, err_msg=name)
        if name.startswith("inverse"):
            np.testing.assert_allclose(weights, 0.25, rtol=1e-6, err_msg=name)
        assert not np.any([target for target, _ in imagined])
    weight = compiled_targets(Expansion(tdk=True), single(made), DISCOUNT, SCALE).weight
    np.testing.assert_array_equal(weight, [np.ones(5), *np.zeros((3, 5))])


def test_without_ensembles_the_longest_horizon_is_a_return_by_hand():
    made = random_rollout((4, 1, 1, 1, 6), 1)
    r, p, q = made.reward[:, 0, 0], made.terminated[:, 0], made.value[:, 0, 0]
    made = made._replace(bonus=0 * made.bonus)
    after = q[3]
    for frame in (3, 2, 1, 0):
        after = SCALE * r[frame] + DISCOUNT * (1 - p[frame]) * after
    found = compiled_targets(Expansion(reduction="last"), single(made), DISCOUNT, SCALE)
    np.testing.assert_allclose(found.target[0], after, rtol=1e-4)


@pytest.mark.parametrize("name", ["inverse-variance", "inverse-covariance"])
@pytest.mark.parametrize("members", [1, 3], ids=["one member", "equal members"])
def test_where_members_agree_all_horizons_count_alike(name, members):
    alone = random_rollout((4, 1, 1, 1, 6), 1, offset=1234.5)
    copies = lambda a, *axes: np.repeat(np.repeat(a, members, axes[0]), members, axes[-1])  # noqa: E731
    made = alone._replace(
        reward=copies(alone.reward, 1, 2),
        value=copies(alone.value, 1, 2),
        bonus=np.repeat(alone.bonus, members, 1),
        terminated=np.repeat(alone.terminated, members, 1),
    )
    found, plain = (
        compiled_targets(Expansion(reduction=reduction, tdk=True), single(made), DISCOUNT, SCALE)
        for reduction in (name, "mean")
    )
    np.testing.assert_allclose(found.horizon_weights, 0.25, rtol=1e-5)
    np.testing.assert_allclose(found.target, plain.target, rtol=1e-5)


def test_when_one_reward_member_is_far_off_the_model_is_not_used():
    made = random_rollout((4, 2, 4, 2, 6), 2)
    made.terminated[0] = 0
    made.reward[1, 2] += 1e4
    found = compiled_targets(Expansion(), single(made), DISCOUNT, 1.0)
    assert 0 < found.model_use < 1e-6
    one_step = compiled_targets(Expansion(horizon=0), single(Rollout(*(a[:1] for a in made))), DISCOUNT, 1.0)
    np.testing.assert_allclose(found.target, one_step.target, atol=1e-2)


@pytest.mark.parametrize(("value", "as_good_as"), [(0.0, "horizon 0"), (1.0, "last")])
def test_limits_of_lambda(value, as_good_as):
    made = single(random_rollout((4, 2, 2, 2, 5), 3))
    found = compiled_targets(Expansion(reduction="lambda", lambda_return=value), made, DISCOUNT, SCALE)
    if as_good_as == "last":
        expected = compiled_targets(Expansion(reduction="last"), made, DISCOUNT, SCALE)
    else:
        expected = compiled_targets(Expansion(horizon=0), Rollout(*(a[:1] for a in made)), DISCOUNT, SCALE)
    np.testing.assert_allclose(found.target, expected.target, rtol=1e-5)


def test_weights_sum_to_one():
    _, reduced = compiled_everything(single(random_rollout(SIZES, 0)), DISCOUNT, SCALE)
    for name in set(VARIANTS) - {"lambda", "lambda 0.75"}:
        for _, weights in reduced[name]:
            np.testing.assert_allclose(weights.sum(0), 1.0, rtol=1e-6, err_msg=name)


def test_horizon_zero_is_the_plain_one_step_target():
    made = random_rollout((1, 2, 1, 3, 2), 4)
    after = (made.bonus[0] + made.value[0]).mean((0, 1))
    expected = SCALE * made.reward[0, 0, 0] + DISCOUNT * (1 - made.terminated[0, 0]) * after
    _, reduced = compiled_everything(single(made), DISCOUNT, SCALE)
    for name, [(target, weights)] in reduced.items():
        np.testing.assert_allclose(target, expected, rtol=1e-4, atol=1e-5, err_msg=name)
        np.testing.assert_array_equal(weights, 1, err_msg=name)
    assert compiled_targets(Expansion(horizon=0), single(made), DISCOUNT, SCALE).model_use == 0


def test_elements_of_the_batch_do_not_meet():
    made, order = single(random_rollout(SIZES, 5)), np.random.default_rng(0).permutation(5)
    shuffled = Rollout(*(a[..., order, :] if a.shape[-1] == 1 else a[..., order] for a in made))
    (_, plain), (_, other) = (compiled_everything(m, DISCOUNT, SCALE) for m in (made, shuffled))
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(b, a[..., order], rtol=1e-4, atol=1e-5)


COMMON = {"little": (0, 0, 0, 0), "all": (30, 30, 30, 30), "imagined": (1, 30, 30, 30), "growing": (1, 3, 10, 30)}
compiled_reduce = quick_jit(lambda settings, row: settings.reduce(row), 0)


@pytest.mark.parametrize("common", COMMON)
@pytest.mark.parametrize("name", ["inverse-variance", "inverse-covariance"])
def test_weights_are_accurate_in_32_bits_for_large_values(name, common):
    """Values of 1000 that differ by 0.1 between horizons, and by more together."""
    rng = np.random.default_rng(6)
    row = 1000 + np.reshape(COMMON[common], (4, 1, 1)) * rng.normal(size=(64, 8)) + 0.1 * rng.normal(size=(4, 64, 8))
    row = np.float64(np.float32(row))
    target, weights = compiled_reduce(Expansion(reduction=name), jnp.float32(row))
    for b in range(8):
        expected = weights_by_hand(Expansion(reduction=name), row[..., b], 0)
        np.testing.assert_allclose(weights[:, b], expected, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(target[b], expected @ row[..., b].mean(1), rtol=1e-5)


def test_equal_samples_deviate_by_exactly_nothing():
    samples = jnp.broadcast_to(jnp.float32(np.random.default_rng(0).normal(1e3, 100, (4, 1, 9))), (4, 7, 9))
    mean, deviation = centre(samples)
    np.testing.assert_array_equal(mean, samples[:, 0])
    assert not deviation.any()


# Rollouts

BATCH, PARTICLES, REWARDS, CRITICS = 3, 2, 3, 2
REAL = {
    "reward": jnp.array([1.0, 2.0, 3.0]),
    "next_obs": jnp.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]),
    "terminated": jnp.array([False, True, False]),
}


def act(key, obs):
    return jnp.sin(obs[..., :1]), jnp.zeros(obs.shape[:2])


def entropic(key, obs):
    """A noisy policy whose bonus is easy to tell from rewards."""
    noise = jax.random.normal(key, (*obs.shape[:2], 1))
    return jnp.sin(obs[..., :1]) + noise, 0.3 * noise[..., 0]


def step(obs, action):
    """Particle `t` drifts by `t + 1`; reward member `n` adds `n`."""
    drift = 0.1 * (1 + jnp.arange(obs.shape[0]))[:, None, None]
    after = obs + drift * action
    reward = after.sum(-1) - action[..., 0] + jnp.arange(1.0 * REWARDS)[:, None, None]
    return after, reward, jax.nn.sigmoid(after[..., 0] - 2)


def value(obs, action):
    return jnp.stack([(k + 1) * obs.sum(-1) + action[..., 0] for k in range(CRITICS)])


def traced_rollout(horizon, particles, act, step, value, key, real):
    return rollout(key, horizon, particles, **real, act=act, step=step, value=value)


compiled_rollout = quick_jit(traced_rollout, 0, 1, 2, 3, 4)


def imagine(horizon=2, act=act, step=step, value=value, particles=PARTICLES, key=0, **real):
    return compiled_rollout(horizon, particles, act, step, value, jax.random.key(key), {**REAL, **real})


def test_the_rollout_starts_from_the_real_next_observation():
    made = imagine()
    np.testing.assert_array_equal(made.obs[0], np.broadcast_to(REAL["next_obs"], (PARTICLES, BATCH, 2)))
    np.testing.assert_array_equal(made.terminated[0], [[0, 1, 0]] * PARTICLES)
    np.testing.assert_array_equal(made.reward[0], np.broadcast_to(REAL["reward"], (REWARDS, PARTICLES, BATCH)))


@pytest.mark.parametrize("policy", [act, entropic])
def test_every_frame_follows_from_the_one_before(policy):
    made, keys = imagine(3, act=policy), jax.random.split(jax.random.key(0), 4)
    assert [len(a) for a in made] == [4] * 6
    for frame, key in enumerate(keys):
        action, bonus = policy(key, made.obs[frame])
        np.testing.assert_allclose(made.action[frame], action, rtol=1e-6)
        np.testing.assert_allclose(made.bonus[frame], bonus, rtol=1e-5)
        np.testing.assert_allclose(made.value[frame], value(made.obs[frame], action), rtol=1e-5)
        if frame < 3:
            for found, expected in zip(
                (made.obs, made.reward, made.terminated), step(made.obs[frame], action), strict=True
            ):
                np.testing.assert_allclose(found[frame + 1], expected, rtol=1e-5)


def test_particles_keep_to_themselves():
    """What one particle imagines is what it would imagine alone; nobody's start is changed."""
    before = np.array(REAL["next_obs"])
    made = imagine(3)
    np.testing.assert_array_equal(REAL["next_obs"], before)
    for t in range(PARTICLES):
        obs = before
        for frame in range(1, 4):
            obs = obs + 0.1 * (t + 1) * np.sin(obs[:, :1])
            np.testing.assert_allclose(made.obs[frame, t], obs, rtol=1e-5)


def test_no_frame_has_the_chance_of_another():
    noise = imagine(3, act=entropic, next_obs=jnp.zeros((BATCH, 2))).bonus
    assert len(np.unique(noise)) == noise.size
    assert (imagine(3, act=entropic, key=1).bonus != noise).all()


def test_the_flag_may_be_a_number():
    for a, b in zip(imagine(), imagine(terminated=jnp.array([0.0, 1.0, 0.0])), strict=True):
        np.testing.assert_array_equal(a, b)


def never(obs, action):
    raise AssertionError("asked")


def test_horizon_zero_never_asks_the_model():
    made = imagine(0, step=never)
    assert made.reward.shape == (1, 1, PARTICLES, BATCH) and made.value.shape == (1, CRITICS, PARTICLES, BATCH)


def test_the_first_real_reward_counts_fully_in_all_horizons():
    rows = quick_jit(lambda made: candidates(made, discount=DISCOUNT, reward_scale=SCALE, sources=1))
    less, more = (rows(imagine(3, reward=REAL["reward"] + extra)) for extra in (0.0, 1.0))
    np.testing.assert_allclose(more - less, SCALE, rtol=1e-4)


def one_member(horizon, policy=act):
    """A rollout with one member of everything."""
    one_step = lambda obs, action: (lambda o, r, p: (o, r[:1], p))(*step(obs, action))  # noqa: E731
    made = imagine(horizon, policy, one_step, lambda obs, action: value(obs, action)[:1], particles=1)
    return made, [np.float64(a) for a in (made.reward[:, 0, 0], made.terminated[:, 0], made.bonus[:, 0])]


def test_a_rollout_makes_the_targets_one_writes_by_hand():
    s1, d = np.float64(REAL["next_obs"]), np.float64(REAL["terminated"])
    a1 = np.sin(s1[:, 0])
    s2 = s1 + 0.1 * a1[:, None]
    a2 = np.sin(s2[:, 0])
    short = REAL["reward"] + 0.9 * (1 - d) * (s1.sum(-1) + a1)
    going = (1 - d) / (1 + np.exp(s2[:, 0] - 2))
    long = REAL["reward"] + 0.9 * (1 - d) * (s2.sum(-1) - a1) + 0.9**2 * going * (s2.sum(-1) + a2)
    found = compiled_targets(Expansion(horizon=1, reduction="mean"), one_member(1)[0], 0.9, 1.0)
    np.testing.assert_allclose(found.target[0], (short + long) / 2, rtol=1e-5)


def test_bonuses_count_as_in_soft_actor_critic():
    """Not that of the pair whose target it is, but all later ones, each with its value or the reward of its step."""
    made, (reward, terminated, bonus) = one_member(2, entropic)
    found = compiled_targets(Expansion(horizon=2, reduction="last", tdk=True), made, DISCOUNT, SCALE)
    assert abs(bonus).min() > 1e-3
    soft = bonus[2] + made.value[2, 0, 0]
    for source in (2, 1, 0):
        expected = SCALE * reward[source] + DISCOUNT * (1 - terminated[source]) * soft
        soft = bonus[source - 1] + expected
        alive = found.weight[source] > 0
        np.testing.assert_allclose(found.target[source], np.where(alive, expected, 0), rtol=1e-4)


def test_targets_are_constants():
    """Neither networks nor the batch get a gradient from them, though the numbers depend on both."""

    def total(weight, next_obs, reward):
        made = rollout(
            jax.random.key(0),
            2,
            PARTICLES,
            terminated=REAL["terminated"],
            act=lambda key, obs: (jnp.sin(weight * obs[..., :1]), weight * obs[..., 0]),
            step=lambda obs, action: step(weight * obs, action),
            value=lambda obs, action: weight * value(obs, action),
            next_obs=next_obs,
            reward=reward,
        )
        found = Expansion(horizon=2, tdk=True).targets(made, DISCOUNT, SCALE)
        return sum(a.sum() for a in (*found, made.obs, made.action))

    arguments = (jnp.float32(1.5), REAL["next_obs"], REAL["reward"])
    for gradient in quick_jit(jax.grad(total, (0, 1, 2)))(*arguments):
        assert not gradient.any()
    compiled = quick_jit(total)
    assert compiled(*arguments) != compiled(jnp.float32(1.4), *arguments[1:])


# Settings


def test_defaults_are_those_of_steve():
    default = Expansion()
    assert (default.horizon, default.reduction, default.tdk, default.covariance_mean) == (
        3,
        "inverse-variance",
        False,
        False,
    )


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"horizon": 0, "tdk": True}, "tdk trains on imagined pairs, but with horizon 0 there are none"),
        ({"horizon": -1}, "greater than or equal to 0"),
        ({"lambda_return": 1.5}, "less than or equal to 1"),
        ({"reduction": "median"}, "'last', 'mean', 'lambda', 'inverse-variance' or 'inverse-covariance'"),
    ],
)
def test_refuses_settings_that_make_no_sense(wrong, told):
    with pytest.raises(ValueError, match=told):
        Expansion(**wrong)


def test_there_is_a_reduction_of_every_name():
    assert all(Expansion(reduction=name).reduction == name for name in REDUCTIONS)
    assert set(get_args(ReductionName)) == set(REDUCTIONS)
