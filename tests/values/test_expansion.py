"""Targets that look ahead in a model: imagination step by step; candidates, weights and targets in plain loops."""

from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell import registry
from foretell.models import Step
from foretell.replay import Transitions
from foretell.values import Expansion, Frames, candidates, imagine
from foretell.values.expansion import centre
from tiny import on_host, quick_jit

DISCOUNT, SCALE = 0.9, 2.0
SIZES = (4, 2, 2, 2, 5)
"""Frames, particles, rewards, critics, batch."""
REDUCTIONS = ["last", "mean", "lambda", "inverse-variance", "inverse-covariance"]
VARIANTS = {
    **{name: Expansion(reduction=name) for name in REDUCTIONS},
    "lambda 0": Expansion(reduction="lambda", lambda_return=0.0),
    "lambda 1": Expansion(reduction="lambda", lambda_return=1.0),
    "lambda 0.75": Expansion(reduction="lambda", lambda_return=0.75),
    "lambda of each source": Expansion(reduction="lambda", lambda_return=0.75, lambda_per_source=True),
    "mean covariance": Expansion(reduction="inverse-covariance", covariance_mean=True),
}


compiled_targets = quick_jit(lambda settings, *arguments: settings.targets(*arguments), 0, 2, 3)


def everything(frames, discount, scale):
    """What all variants make of all sources: candidates, and targets with weights."""
    rows = candidates(frames, discount=discount, reward_scale=scale, sources=len(frames.reward))
    return rows, {name: [variant.reduce(row, i) for i, row in enumerate(rows)] for name, variant in VARIANTS.items()}


compiled_everything = on_host(everything, 1, 2)


def random_frames(sizes, seed, *, offset=0.0, ended=False):
    """Of the `SIZES`; some real transitions are terminal."""
    frames, particles, rewards, critics, batch = sizes
    rng = np.random.default_rng(seed)
    reward = rng.normal(size=(frames, rewards, particles, batch))
    reward[0] = reward[0, 0, 0]
    terminated = rng.uniform(size=(frames, particles, batch)) ** 3
    terminated[0] = True if ended else rng.uniform(size=batch) < 0.2
    normal = lambda *shape: rng.normal(size=(*shape, particles, batch))  # noqa: E731
    nothing = np.zeros((frames, particles, batch, 1))
    return Frames(nothing, nothing, reward, terminated, normal(frames), offset + normal(frames, critics))


def single(made):
    """As 32-bit arrays on the device."""
    return Frames(*map(np.float32, made))


def candidate_by_hand(frames, i, j, t, n, k, b, discount, scale):
    """One sample: the rewards and bonuses of one imagined trajectory from source `i`, up to the value of frame `j`."""
    _, _, reward, terminated, bonus, value = frames
    alive = lambda frame: np.prod([1 - terminated[m, t, b] for m in range(frame)])  # noqa: E731
    reach = alive(i) + 1e-8
    total = 0.0
    for frame in range(i, j + 1):
        total += scale * discount ** (frame - i) * alive(frame) / reach * reward[frame, n, t, b]
        total += discount ** (frame - i + 1) * alive(frame + 1) / reach * bonus[frame, t, b]
    return total + discount ** (j - i + 1) * alive(j + 1) / reach * value[j, k, t, b]


def samples_by_hand(made, i, b, discount, scale):
    """`[frames samples]` of one source and element of the batch."""
    frames, rewards, particles, _ = made.reward.shape
    members = list(product(range(rewards), range(made.value.shape[1]), range(particles)))
    rows = np.zeros((frames, len(members)))
    for j in range(i, frames):
        rows[j] = [candidate_by_hand(made, i, j, t, n, k, b, discount, scale) for n, k, t in members]
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


def check_against_loops(made, discount, scale):
    with jax.enable_x64(True):
        rows, reduced = compiled_everything(Frames(*map(np.asarray, made)), discount, scale)
    frames, batch = len(made.reward), made.reward.shape[-1]
    for i, b in product(range(frames), range(batch)):
        by_hand = samples_by_hand(made, i, b, discount, scale)
        np.testing.assert_allclose(rows[i, :, :, b], by_hand, rtol=1e-9, atol=1e-9)
        for name, variant in VARIANTS.items():
            expected = weights_by_hand(variant, by_hand, i)
            target, weights = reduced[name][i]
            np.testing.assert_allclose(weights[:, b], expected, rtol=1e-6, atol=1e-6, err_msg=name)
            np.testing.assert_allclose(target[b], expected @ by_hand.mean(1), rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.long
def test_what_is_imagined_after_a_certain_end_does_not_count():
    """Not even what is not finite, as the reward of a state that no simulator would come to."""
    made = random_frames(SIZES, 0)
    made.terminated[1] = 1.0
    expected = compiled_everything(single(made), DISCOUNT, SCALE)[0]
    spoilt = made._replace(**{k: np.array(getattr(made, k)) for k in ("reward", "bonus", "value")})
    spoilt.reward[2:], spoilt.bonus[1:], spoilt.value[1:] = np.inf, -np.inf, np.inf
    found = compiled_everything(single(spoilt), DISCOUNT, SCALE)[0]
    np.testing.assert_allclose(found[:2, 1:], expected[:2, 1:], rtol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize(
    ("sizes", "discount", "scale"),
    [
        ((1, 2, 1, 3, 2), DISCOUNT, SCALE),
        pytest.param((3, 1, 1, 1, 3), 1.0, 0.1, marks=pytest.mark.slow),
        ((4, 2, 3, 2, 3), DISCOUNT, SCALE),
        ((2, 3, 1, 2, 1), 0.0, 3.0),
    ],
)
def test_equals_plain_loops(sizes, discount, scale):
    for seed in range(3):
        check_against_loops(random_frames(sizes, seed), discount, scale)


@pytest.mark.long
@pytest.mark.parametrize(("tdk", "sources"), [(True, 4), (False, 1)])
def test_targets_are_those_of_each_source(tdk, sources):
    """With `tdk` of all sources, weighted by the probability that their pair is reached; without, of the real pair."""
    made = single(random_frames(SIZES, 0))
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
    return Frames(*(a if a is nothing else np.asarray(a, float)[..., None] for a in numbers))


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


@pytest.mark.long
@pytest.mark.parametrize("x64", [True, False], ids=["64 bits", "32 bits"])
def test_known_candidates_weights_and_targets(x64):
    exact = {"atol": 6e-7} if x64 else {"rtol": 2e-5, "atol": 1e-6}
    with jax.enable_x64(x64):
        rows, reduced = compiled_everything(
            Frames(*(np.asarray(a, float if x64 else np.float32) for a in published())), 0.9, 1.0
        )
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


@pytest.mark.long
def test_where_the_episode_really_ended_targets_are_the_reward_alone():
    made = random_frames(SIZES, 0, ended=True)
    _, reduced = compiled_everything(single(made), DISCOUNT, SCALE)
    for name, ((target, weights), *imagined) in reduced.items():
        np.testing.assert_allclose(target, SCALE * made.reward[0, 0, 0], rtol=1e-6, err_msg=name)
        if name.startswith("inverse"):
            np.testing.assert_allclose(weights, 0.25, rtol=1e-6, err_msg=name)
        assert not np.any([target for target, _ in imagined])
    weight = compiled_targets(Expansion(tdk=True), single(made), DISCOUNT, SCALE).weight
    np.testing.assert_array_equal(weight, [np.ones(5), *np.zeros((3, 5))])


def test_without_ensembles_the_longest_horizon_is_a_return_by_hand():
    made = random_frames((4, 1, 1, 1, 6), 1)
    r, p, q = made.reward[:, 0, 0], made.terminated[:, 0], made.value[:, 0, 0]
    made = made._replace(bonus=0 * made.bonus)
    after = q[3]
    for frame in (3, 2, 1, 0):
        after = SCALE * r[frame] + DISCOUNT * (1 - p[frame]) * after
    found = compiled_targets(Expansion(reduction="last"), single(made), DISCOUNT, SCALE)
    np.testing.assert_allclose(found.target[0], after, rtol=1e-4)


@pytest.mark.parametrize(("members", "frames"), [(1, 3), (2, 4)], ids=["one member", "equal members"])
@pytest.mark.long
def test_where_members_agree_all_horizons_count_alike(members, frames):
    batch, discount, scale = (
        (3, 1.0, 0.1) if members == 1 else (5, DISCOUNT, SCALE)
    )  # programs that are compiled anyway
    alone = random_frames((frames, 1, 1, 1, batch), 1, offset=1234.5)
    copies = lambda a, *axes: np.repeat(np.repeat(a, members, axes[0]), members, axes[-1])  # noqa: E731
    made = alone._replace(
        reward=copies(alone.reward, 1, 2),
        value=copies(alone.value, 1, 2),
        bonus=np.repeat(alone.bonus, members, 1),
        terminated=np.repeat(alone.terminated, members, 1),
    )
    with jax.enable_x64(members == 1):
        _, reduced = compiled_everything(made if members == 1 else single(made), discount, scale)
    for name in ("inverse-variance", "inverse-covariance"):
        np.testing.assert_allclose(reduced[name][0][1], 1 / frames, rtol=1e-5, err_msg=name)
        for (target, _), (plain, _) in zip(reduced[name], reduced["mean"], strict=True):
            np.testing.assert_allclose(target, plain, rtol=1e-5, err_msg=name)


@pytest.mark.long
def test_when_one_reward_member_is_far_off_the_model_is_not_used():
    made = random_frames(SIZES, 2)
    made.terminated[0] = 0
    made.reward[1, 1] += 1e4
    rows, reduced = compiled_everything(single(made), DISCOUNT, SCALE)
    target, weights = reduced["inverse-variance"][0]
    assert (weights[1:] > 0).all() and weights[1:].sum(0).max() < 1e-6
    np.testing.assert_allclose(target, rows[0, 0].mean(0), atol=1e-2)


def test_limits_of_lambda():
    """Only horizon 0 counts, or only the longest."""
    rows, reduced = compiled_everything(single(random_frames(SIZES, 3)), DISCOUNT, SCALE)
    np.testing.assert_allclose(reduced["lambda 0"][0][0], rows[0, 0].mean(0), rtol=1e-5)
    np.testing.assert_allclose(reduced["lambda 1"][0][0], reduced["last"][0][0], rtol=1e-5)


def test_weights_sum_to_one():
    _, reduced = compiled_everything(single(random_frames(SIZES, 0)), DISCOUNT, SCALE)
    for name in set(VARIANTS) - {"lambda", "lambda 0", "lambda 0.75"}:
        for _, weights in reduced[name]:
            np.testing.assert_allclose(weights.sum(0), 1.0, rtol=1e-6, err_msg=name)


@pytest.mark.long
def test_horizon_zero_is_the_plain_one_step_target():
    made = random_frames((1, 2, 1, 3, 2), 4)
    after = (made.bonus[0] + made.value[0]).mean((0, 1))
    expected = SCALE * made.reward[0, 0, 0] + DISCOUNT * (1 - made.terminated[0, 0]) * after
    with jax.enable_x64(True):
        _, reduced = compiled_everything(made, DISCOUNT, SCALE)
    for name, [(target, weights)] in reduced.items():
        np.testing.assert_allclose(target, expected, rtol=1e-4, atol=1e-5, err_msg=name)
        np.testing.assert_array_equal(weights, 1, err_msg=name)
    assert compiled_targets(Expansion(horizon=0), single(made), DISCOUNT, SCALE).model_use == 0


def test_elements_of_the_batch_do_not_meet():
    made, order = single(random_frames(SIZES, 5)), np.random.default_rng(0).permutation(5)
    shuffled = Frames(*(a[..., order, :] if a.shape[-1] == 1 else a[..., order] for a in made))
    (_, plain), (_, other) = (compiled_everything(m, DISCOUNT, SCALE) for m in (made, shuffled))
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(b, a[..., order], rtol=1e-4, atol=1e-5)


COMMON = {"little": (0, 0, 0, 0), "all": (30, 30, 30, 30), "imagined": (1, 30, 30, 30), "growing": (1, 3, 10, 30)}
compiled_reduce = on_host(lambda settings, row: settings.reduce(row), 0)


@pytest.mark.parametrize("common", COMMON)
@pytest.mark.parametrize("name", ["inverse-variance", "inverse-covariance"])
def test_weights_are_accurate_in_32_bits_for_large_values(name, common):
    """Values of 1000 that differ by 0.1 between horizons, and by more together."""
    rng = np.random.default_rng(6)
    row = 1000 + np.reshape(COMMON[common], (4, 1, 1)) * rng.normal(size=(64, 8)) + 0.1 * rng.normal(size=(4, 64, 8))
    row = np.float64(np.float32(row))
    target, weights = compiled_reduce(Expansion(reduction=name), np.float32(row))
    for b in range(8):
        expected = weights_by_hand(Expansion(reduction=name), row[..., b], 0)
        np.testing.assert_allclose(weights[:, b], expected, rtol=3e-3, atol=1e-4)
        np.testing.assert_allclose(target[b], expected @ row[..., b].mean(1), rtol=1e-5)


def test_equal_samples_minus_their_mean_are_exactly_zero():
    samples = np.broadcast_to(np.float32(np.random.default_rng(0).normal(1e3, 100, (4, 1, 9))), (4, 7, 9))
    mean, centred = on_host(centre)(samples)
    np.testing.assert_array_equal(mean, samples[:, 0])
    assert not centred.any()


# Imagination

BATCH, PARTICLES, REWARDS, CRITICS, RANGE = 3, 2, 3, 2, 3.0
REAL = Transitions(
    obs=np.full((BATCH, 2), np.nan, np.float32),  # where real transitions began does not matter
    action=np.full((BATCH, 1), np.nan, np.float32),
    reward=np.float32([1.0, 2.0, 3.0]),
    next_obs=np.float32([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]),
    terminated=np.array([False, True, False]),
)


def act(key, obs, t):
    """Actions of the environment reach from -3 to 3."""
    action = jnp.sin(obs[..., :1])
    return RANGE * action, (action, jnp.zeros(obs.shape[:2]))


def entropic(key, obs, t):
    """A noisy policy whose bonus is easy to tell from rewards, and that is another at every time."""
    noise = jax.random.normal(key, (*obs.shape[:2], 1))
    action = jnp.sin(obs[..., :1]) + noise + 0.01 * t
    return RANGE * action, (action, 0.3 * noise[..., 0])


def drift(obs, action):
    """Particle `t` drifts by `t + 1`; reward member `n` adds `n`. The action is in the environment's units."""
    action = action / RANGE
    speed = 0.1 * (1 + jnp.arange(obs.shape[0]))[:, None, None]
    after = obs + speed * action
    reward = after.sum(-1) - action[..., 0] + jnp.arange(1.0 * REWARDS)[:, None, None]
    return after, reward, jax.nn.sigmoid(after[..., 0] - 2)


class Drift(NamedTuple):
    """A world model without noise, of so many opinions on rewards."""

    rewards: int = REWARDS

    def begin(self, params, obs, key, particles):
        return jnp.broadcast_to(obs, (particles, *obs.shape))

    def step(self, params, carry, action, key):
        after, reward, terminated = drift(params * carry, action)
        return after, Step(after, reward[: self.rewards], terminated)


def value(obs, action, *_):
    return jnp.stack([(k + 1) * obs.sum(-1) + action[..., 0] for k in range(CRITICS)])


def traced(horizon, particles, act, model, value, key, real):
    return imagine(key, horizon, real, model=model, params=jnp.ones(()), particles=particles, act=act, value=value)


compiled_imagine = on_host(traced, 0, 1, 2, 3, 4)


def imagined(horizon=3, act=act, model=Drift(), value=value, particles=PARTICLES, key=0, **real):  # noqa: B008
    key = jax.random.key(key)
    return compiled_imagine(horizon, particles, act, model, value, key, REAL._replace(**real))


def test_imagination_starts_from_the_real_next_observation():
    made = imagined()
    np.testing.assert_array_equal(made.obs[0], np.broadcast_to(REAL.next_obs, (PARTICLES, BATCH, 2)))
    np.testing.assert_array_equal(made.terminated[0], [[0, 1, 0]] * PARTICLES)
    np.testing.assert_array_equal(made.reward[0], np.broadcast_to(REAL.reward, (REWARDS, PARTICLES, BATCH)))


def answer(policy, key, obs, t):
    outside, kept = policy(key, obs, t)
    return outside, kept, value(obs, kept[0])


answers, moved = on_host(answer, 0), on_host(drift)


@pytest.mark.long
@pytest.mark.parametrize("policy", [act, entropic])
def test_every_frame_follows_from_the_one_before(policy):
    made = imagined(act=policy)
    _, roll_key, last_key = jax.random.split(jax.random.key(0), 3)
    keys = [*jax.random.split(jax.random.split(roll_key)[0], 3), last_key]
    assert [len(a) for a in made] == [4] * 6
    for frame, key in enumerate(keys):
        outside, (action, bonus), worth = answers(policy, key, made.obs[frame], np.float32(frame))
        np.testing.assert_allclose(made.action[frame], action, rtol=1e-6)
        np.testing.assert_allclose(made.bonus[frame], bonus, rtol=1e-5)
        np.testing.assert_allclose(made.value[frame], worth, rtol=1e-5)
        if frame < 3:
            later = (made.obs, made.reward, made.terminated)
            for found, expected in zip(later, moved(made.obs[frame], outside), strict=True):
                np.testing.assert_allclose(found[frame + 1], expected, rtol=1e-5)


def test_particles_keep_to_themselves():
    """What one particle imagines is what it would imagine alone; nobody's start is changed."""
    before = np.array(REAL.next_obs)
    made = imagined()
    np.testing.assert_array_equal(REAL.next_obs, before)
    for t in range(PARTICLES):
        obs = before
        for frame in range(1, 4):
            obs = obs + 0.1 * (t + 1) * np.sin(obs[:, :1])
            np.testing.assert_allclose(made.obs[frame, t], obs, rtol=1e-5)


def test_every_frame_has_noise_of_its_own():
    noise = imagined(act=entropic, next_obs=np.zeros((BATCH, 2), np.float32)).bonus
    assert len(np.unique(noise)) == noise.size
    assert (imagined(act=entropic, key=1).bonus != noise).all()


@pytest.mark.parametrize("model", [None, Drift()])
def test_horizon_zero_needs_no_model(model):
    made = imagined(0, model=model)
    assert made.reward.shape == (1, 1, PARTICLES, BATCH) and made.value.shape == (1, CRITICS, PARTICLES, BATCH)


def test_the_first_real_reward_counts_fully_in_all_horizons():
    rows = on_host(lambda made: candidates(made, discount=DISCOUNT, reward_scale=SCALE, sources=1))
    less, more = (rows(imagined(reward=REAL.reward + extra)) for extra in (0.0, 1.0))
    np.testing.assert_allclose(more - less, SCALE, rtol=1e-4)


def first_critic(obs, action, *_):
    return value(obs, action)[:1]


def one_member(horizon, policy=act):
    """Imagined with one member of everything."""
    made = imagined(horizon, policy, Drift(rewards=1), first_critic, particles=1)
    return made, [np.float64(a) for a in (made.reward[:, 0, 0], made.terminated[:, 0], made.bonus[:, 0])]


def test_imagination_makes_the_targets_one_writes_by_hand():
    s1, d = np.float64(REAL.next_obs), np.float64(REAL.terminated)
    a1 = np.sin(s1[:, 0])
    s2 = s1 + 0.1 * a1[:, None]
    a2 = np.sin(s2[:, 0])
    short = REAL.reward + 0.9 * (1 - d) * (s1.sum(-1) + a1)
    going = (1 - d) / (1 + np.exp(s2[:, 0] - 2))
    long = REAL.reward + 0.9 * (1 - d) * (s2.sum(-1) - a1) + 0.9**2 * going * (s2.sum(-1) + a2)
    found = compiled_targets(Expansion(horizon=1, reduction="mean"), one_member(1)[0], 0.9, 1.0)
    np.testing.assert_allclose(found.target[0], (short + long) / 2, rtol=1e-5)


@pytest.mark.long
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


@pytest.mark.long
def test_targets_are_constants():
    """Neither networks nor the batch get a gradient from them, though the numbers depend on both."""

    def total(weight, next_obs, reward):
        made = imagine(
            jax.random.key(0),
            2,
            REAL._replace(next_obs=next_obs, reward=reward),
            model=Drift(),
            params=weight,
            particles=PARTICLES,
            act=lambda key, obs, t: (lambda a: (a, (a, weight * obs[..., 0])))(jnp.sin(weight * obs[..., :1])),
            value=lambda obs, action, *_: weight * value(obs, action),
        )
        found = Expansion(horizon=2, tdk=True).targets(made, DISCOUNT, SCALE)
        return sum(a.sum() for a in (*found, made.obs, made.action))

    arguments = (np.float32(1.5), REAL.next_obs, REAL.reward)
    both = on_host(jax.value_and_grad(total, (0, 1, 2)))
    first, gradients = both(*arguments)
    assert not any(gradient.any() for gradient in gradients)
    assert both(np.float32(1.4), *arguments[1:])[0] != first


# A model that is right

HORIZON = 6
number = st.floats(-5, 5, width=32, allow_subnormal=False)


class Script(NamedTuple):
    """A model that knows what comes: its parameters are the rewards and ends of all steps. It carries the time."""

    def begin(self, params, obs, key, particles):
        return jnp.broadcast_to(obs, (particles, *obs.shape))

    def step(self, params, carry, action, key):
        rewards, ends = params
        now = carry[..., 0].astype(jnp.int32)
        return carry + 1, Step(carry + 1, rewards[now][None], ends[now])


def scripted(settings, discount, rewards, ends, values):
    """Targets of the transition that takes the first step of the script; critics answer from the table `values`."""
    nothing, first = jnp.zeros((1, 1)), jnp.ones((1, 1))
    real = Transitions(nothing, nothing, rewards[:1], first, ends[:1] > 0)

    def stay(key, obs, t):
        return jnp.zeros_like(obs), (jnp.zeros_like(obs), jnp.zeros(obs.shape[:2]))

    frames = imagine(
        jax.random.key(0),
        HORIZON,
        real,
        model=Script(),
        params=(rewards, ends),
        particles=1,
        act=stay,
        value=lambda obs, action, *_: values[:, obs[..., 0].astype(jnp.int32)],
    )
    return settings.targets(frames, discount)


compiled_script = on_host(scripted, 0, 1)


def monte_carlo(rewards, end, discount):
    """Discounted return of each step until the episode ends, in double precision; 0 after it."""
    worth = np.zeros(len(rewards) + 1)
    for t in range(end, -1, -1):
        worth[t] = np.float64(rewards[t]) + discount * worth[t + 1]
    return worth


def precision(rewards):
    return 4 * np.finfo(np.float32).eps * (1 + np.abs(rewards).sum())


steps = st.lists(number, min_size=HORIZON + 1, max_size=HORIZON + 1).map(np.float32)
end = st.integers(0, HORIZON)


@pytest.mark.long
@pytest.mark.parametrize("discount", [0.9, 1.0])
@settings(deadline=None, derandomize=True, max_examples=60)
@given(steps, end, st.lists(number, min_size=HORIZON + 2, max_size=HORIZON + 2).map(np.float32))
def test_on_a_true_model_a_horizon_as_long_as_the_episode_gives_the_monte_carlo_return(discount, rewards, end, values):
    """Whatever the critics say, and whatever the model says of what would come after the end."""
    ends, worth = np.float32(np.arange(HORIZON + 1) == end), monte_carlo(rewards, end, discount)
    found = compiled_script(
        Expansion(horizon=HORIZON, reduction="last", tdk=True), discount, rewards, ends, values[None]
    )
    np.testing.assert_allclose(found.target[:, 0], worth[:-1], atol=precision(rewards))
    np.testing.assert_array_equal(found.weight[:, 0], np.arange(HORIZON + 1) <= end)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@settings(deadline=None, derandomize=True, max_examples=25)
@given(steps, end)
@pytest.mark.long
def test_on_a_true_model_with_right_critics_all_horizons_give_the_monte_carlo_return(reduction, rewards, end):
    """So that any weights that sum to 1 do."""
    ends, worth = np.float32(np.arange(HORIZON + 1) == end), monte_carlo(rewards, end, 0.9)
    how = Expansion(horizon=HORIZON, reduction=reduction)
    found = compiled_script(how, 0.9, rewards, ends, np.float32([worth, worth]))
    np.testing.assert_allclose(found.target[0, 0], worth[0], atol=precision(rewards))
    assert float(found.horizon_weights.sum()) == pytest.approx(1, abs=1e-5)


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
    ("wrong", "message"),
    [
        ({"horizon": 0, "tdk": True}, "tdk needs imagined pairs, but horizon is 0; raise horizon, or set tdk=false"),
        ({"horizon": -1}, "greater than or equal to 0"),
        ({"lambda_return": 1.5}, "less than or equal to 1"),
        (
            {"reduction": "median"},
            r"no reduction\.kind 'median'; did you mean 'mean'?",
        ),
    ],
)
def test_refuses_settings_that_make_no_sense(wrong, message):
    with pytest.raises(ValueError, match=message):
        Expansion(**wrong)


@pytest.mark.long
def test_these_are_all_reductions():
    assert set(REDUCTIONS) <= set(registry.kinds("reduction"))
    assert all(Expansion(reduction=name).reduction == name for name in REDUCTIONS)


def first_alone(centred, source, settings):
    """A further reduction: no look ahead at all."""
    return jnp.zeros_like(centred[:, 0]).at[0].set(1.0)


@pytest.mark.long
def test_a_reduction_may_be_found_by_its_path():
    made = single(random_frames(SIZES, 0))
    found = compiled_targets(Expansion(reduction="test_expansion:first_alone"), made, DISCOUNT, SCALE)
    rows, _ = compiled_everything(made, DISCOUNT, SCALE)
    np.testing.assert_allclose(found.target, rows[:1, 0].mean(1), rtol=1e-5, atol=1e-6)
    assert found.model_use == 0
