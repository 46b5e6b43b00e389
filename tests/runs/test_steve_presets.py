"""STEVE's presets: the paper's and the released code's constants, every arm of the paper, and the order of events."""

import csv
from functools import partial
from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import foretell
from foretell.compilation import COMPILER_OPTIONS
from foretell.envs import Environments, empty_episodes
from foretell.errors import UserError
from foretell.replay import Transitions, add, init_replay
from foretell.runs.presets import parse_override, preset_names, resolve
from foretell.tasks import make_task
from foretell.training.loop import Loop
from foretell.training.state import init_run
from foretell.values import expansion
from tiny import by_hand, quick_jit

FAMILIES = ("steve", "ddpg", "mve", "td3", "sac")
ENVIRONMENTS = {
    "halfcheetah": ("HalfCheetah-v5", 17, 6, None),
    "swimmer": ("Swimmer-v5", 8, 2, None),
    "hopper": ("Hopper-v5", 11, 3, None),
    "walker2d": ("Walker2d-v5", 17, 6, None),
    "humanoid": ("Humanoid-v5", 348, 17, None),
    "hardcore": ("BipedalWalkerHardcore-v3", 24, 4, "Box2D"),
    "rshum": ("foretell/BulletHumanoid-v0", 44, 17, "pybullet_envs_gymnasium"),
    "flagrun": ("foretell/BulletFlagrun-v0", 44, 17, "pybullet_envs_gymnasium"),
}
"""Of each preset: environment, sizes of observation and action, and what must be installed."""


@pytest.mark.parametrize("name", [name for name in preset_names() if name.split("/")[0] in FAMILIES])
def test_every_preset_resolves(name):
    settings = resolve(name)
    assert settings.agent == "value-expansion" and settings.description
    assert bool(settings.expansion.horizon) == (name.startswith(("steve", "mve")) and not name.endswith("-0"))


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_environments_of_the_paper(name):
    env_id, obs_size, action_size, needs = ENVIRONMENTS[name]
    settings = resolve(f"steve/{name}")
    assert (settings.task.env, settings.task.horizon, settings.task.terminated) == (env_id, 1000, "learned")
    assert settings.train.steps == (1_000_000 if name == "halfcheetah" else 5_000_000)
    if needs:
        pytest.importorskip(needs)
    spec = make_task(settings.task).spec
    assert (spec.obs_size, spec.action_size, spec.horizon) == (obs_size, action_size, 1000)


def test_the_walker_among_obstacles_is_cut_at_half_its_own_limit():
    pytest.importorskip("Box2D")
    with make_task(resolve("steve/hardcore").task).make() as env:
        assert env.spec.max_episode_steps == 2000


HUMANOIDS = [
    (["task.options.include_cfrc_ext_in_observation=false", "task.options.contact_cost_weight=0"], 270),
    (["task.env=Humanoid-v4"], 376),
]


@pytest.mark.parametrize(("changes", "size"), HUMANOIDS, ids=["without contact forces", "as in the paper"])
def test_other_observations_of_the_humanoid(changes, size):
    settings = resolve("steve/humanoid", [parse_override(change) for change in changes])
    assert make_task(settings.task).spec.obs_size == size


# The table of the paper's code.


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_constants_of_every_run(name):
    settings = resolve(f"steve/{name}")
    learner, model, fit, updates, train = (
        settings.learner,
        settings.model,
        settings.fit,
        settings.updates,
        settings.train,
    )
    assert (learner.kind, learner.hidden, learner.activation) == ("ddpg", (128, 128, 128), "relu")
    assert (learner.batch_size, learner.discount, learner.reward_scale) == (512, 0.99, 1.0)
    assert (learner.policy_learning_rate, learner.critic_learning_rate) == (3e-4, 3e-4)
    assert (learner.target_every, learner.target_tau, learner.policy_delay) == (500, None, 1)
    assert (learner.policy_regularizer, learner.explore_probability, learner.explore_std) == (0.001, 0.05, 1.0)
    assert (learner.noise_std, learner.critics) == (0.0, 4)
    assert (model.hidden, model.aux_hidden, model.activation) == ((512,) * 7, (128, 128, 128), "relu")
    assert (model.kind, model.members, model.reward_members, fit.batch_size) == ("steve", 4, 4, 512)
    assert (fit.kind, fit.learning_rate, model.weight_decay) == ("adam", 3e-4, 1e-4)
    assert (settings.imagination.propagation, settings.imagination.particles) == ("TSinf", None)
    assert (updates.per_step, updates.pretraining) == (4.0, 10_000)
    assert (updates.sync_policy_every, updates.sync_model_every) == (500, 500)
    assert (train.environments, train.steps_per_learning, train.random_steps, train.capacity) == (8, 8, 10_000, 10**6)
    assert (train.random_episodes, train.random_horizon, train.warmup_episodes) == (0, None, 0)
    assert (settings.expansion.horizon, settings.expansion.reduction) == (3, "inverse-variance")
    assert not (settings.expansion.tdk or settings.expansion.covariance_mean or settings.expansion.lambda_per_source)


def test_constants_of_the_programs():
    assert (expansion.EPSILON, expansion.RIDGE) == (1e-8, 1e-3)
    learner = resolve("steve/halfcheetah").learner
    model = resolve("steve/halfcheetah").build(make_task(resolve("steve/halfcheetah").task)).model
    for optimizer in (learner.policy_optimizer, learner.critic_optimizer, model.optimizer):
        assert steps_of(optimizer, [1e-8, 0.0]) == pytest.approx(list(steps_of_adam([1e-8, 0.0])), rel=1e-4)
        assert steps_of(optimizer, [1e9]) == pytest.approx([-3e-4], rel=1e-4)  # no gradient is clipped away


def steps_of(optimizer, gradients):
    state, steps = optimizer.init(jnp.zeros(())), []
    for gradient in gradients:
        step, state = optimizer.update(jnp.float32(gradient), state)
        steps.append(float(step))
    return steps


def steps_of_adam(gradients):
    """With the constants written out: rate 3e-4, decays 0.9 and 0.999, epsilon 1e-8."""
    first = second = 0.0
    for t, gradient in enumerate(gradients, 1):
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        yield -3e-4 * (first / (1 - 0.9**t)) / ((second / (1 - 0.999**t)) ** 0.5 + 1e-8)


COUNTS = {
    "swimmer": (34_434, 34_561, 1_585_672, 35_585, 1_760_398, 6_938_290),
    "hopper": (34_947, 35_073, 1_589_259, 36_481, 1_767_314, 6_964_415),
    "halfcheetah": (36_102, 36_225, 1_596_945, 38_401, 1_782_299, 7_020_890),
    "walker2d": (36_102, 36_225, 1_596_945, 38_401, 1_782_299, 7_020_890),
    "hardcore": (36_740, 36_865, 1_603_096, 39_937, 1_793_440, 7_063_540),
    "rshum": (40_977, 41_089, 1_630_252, 46_721, 1_846_849, 7_264_465),
    "humanoid": (83_473, 83_585, 1_970_552, 131_713, 2_484_621, 9_688_065),
}
"""Parameters of policy, critic, transition network, reward or termination network; of all of MVE; of all of STEVE."""


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.long
def test_numbers_of_parameters(name):
    if ENVIRONMENTS[name][-1]:
        pytest.importorskip(ENVIRONMENTS[name][-1])
    old = [parse_override("task.env=Humanoid-v4")] if name == "humanoid" else []
    mve, steve = (untrained(resolve(f"steve/{name}{part}", old)) for part in ("+mve", ""))
    model = mve.model.target.networks
    parts = (mve.acting.network, mve.learner.critics, model.transition, model.reward)
    assert (*map(size, parts), total(mve), total(steve)) == COUNTS[name]
    assert size(model.termination) == size(model.reward)


def untrained(settings):
    return jax.eval_shape(settings.build(make_task(settings.task)).init, jax.random.key(0))


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def total(state):
    return sum(
        map(
            size,
            (state.learner.policy, state.learner.critics, state.learner.target_critics, state.model.target.networks),
        )
    )


# The paper's arms: critics, transition and reward networks, horizon, reduction, lambda, TD-k.

STEVE = (4, 4, 4, 3, "inverse-variance", None, False)
ARMS = {
    "": STEVE,
    "+ddpg": (1, None, None, 0, None, None, False),
    "+mve": (1, 1, 1, 3, "last", None, True),
    "+ensemble-mve": (4, 4, 4, 3, "last", None, True),
    "+mean-mve": (4, 4, 4, 3, "mean", None, False),
    "+mean-mve+single": (1, 1, 1, 3, "mean", None, False),
    "+tdl25": (4, 4, 4, 3, "lambda", 0.25, False),
    "+tdl25+single": (1, 1, 1, 3, "lambda", 0.25, False),
    "+tdl75": (4, 4, 4, 3, "lambda", 0.75, False),
    "+tdl75+single": (1, 1, 1, 3, "lambda", 0.75, False),
    "+cov": (4, 4, 4, 3, "inverse-covariance", None, False),
}


def arm(settings):
    plan, model = settings.expansion, settings.model
    return (
        settings.learner.critics,
        model.members if plan.horizon else None,
        model.reward_members if plan.horizon else None,
        plan.horizon,
        plan.reduction if plan.horizon else None,
        plan.lambda_return if plan.reduction == "lambda" else None,
        plan.tdk,
    )


@pytest.mark.parametrize("name", ENVIRONMENTS)
@pytest.mark.parametrize("parts", ARMS)
@pytest.mark.long
def test_every_arm_of_the_paper_on_every_environment(name, parts):
    plain, released = resolve(f"steve/{name}{parts}"), resolve(f"steve/{name}{parts}+released")
    assert arm(plain) == arm(released) == ARMS[parts]


@pytest.mark.parametrize("horizon", [1, 2, 5])
def test_other_horizons_are_a_setting(horizon):
    settings = resolve("steve/humanoid", [parse_override(f"expansion.horizon={horizon}")])
    assert arm(settings) == (4, 4, 4, horizon, "inverse-variance", None, False)


def test_mve_without_its_imagined_pairs():
    assert arm(resolve("steve/halfcheetah-lite+mve+no-tdk")) == (1, 1, 1, 3, "last", None, False)


@pytest.mark.parametrize(("name", "parts"), list(product(["humanoid", "flagrun"], ["", "+mve", "+ddpg"])))
def test_the_runs_against_the_clock(name, parts):
    settings = resolve(f"steve/{name}{parts}+speedrun")
    assert arm(settings) == ARMS[parts]
    assert (settings.updates.per_step, settings.updates.pretraining) == (1.0, 0)


@pytest.mark.parametrize("learner", ["td3", "sac"])
@pytest.mark.parametrize("parts", ["", "+mve", "+ddpg"])
def test_every_arm_goes_with_every_learner(learner, parts):
    settings = resolve(f"steve/halfcheetah{parts}+{learner}")
    assert (arm(settings), settings.learner.kind) == (ARMS[parts], learner)


UNKNOWN = [
    "learner.ddpg_explore_probability=0.05",
    "learner.hidden_dim=128",
    "learner.full_random_n=10000",
    "updates.frames_per_update=0.25",
    "updates.epoch_every_n=500",
    "expansion.rollout_len=3",
    "expansion.covariances=true",
    "model.transition_hidden_dim=512",
    "model.batch_size=512",
    "train.frames_before_learning=10000",
    "policy_config={explore_probability: 0.05}",
    "simulator={}",
]


@pytest.mark.parametrize("override", UNKNOWN)
def test_a_key_that_does_not_exist_is_refused(override):
    with pytest.raises(UserError, match=f"^no setting '{override.partition('=')[0]}'"):
        resolve("steve/humanoid", [parse_override(override)])


# As released.


def test_released_is_a_handful_of_settings():
    plain, released = (resolve(f"steve/humanoid{part}").model_dump() for part in ("", "+released"))
    changed = {
        (section, key): (plain[section][key], released[section][key])
        for section in ("task", "learner", "model", "fit", "imagination", "expansion", "updates", "train")
        for key in plain[section]
        if plain[section][key] != released[section][key]
    }
    assert changed == {
        ("task", "actions"): ("bounds", "unit"),
        ("learner", "explore_probability"): (0.05, 0.0),
        ("learner", "initializer"): ("glorot", "glorot-joint"),
        ("learner", "assignment"): ("balanced", "independent"),
        ("model", "initializer"): ("glorot", "glorot-joint"),
        ("model", "assignment"): ("balanced", "independent"),
    }


def test_released_actions_are_not_scaled_and_cost_more_than_they_do():
    """The humanoid's bounds are 0.4: what is commanded beyond them costs 0.1 a^2 in each of 17 joints, for nothing."""
    plain, released = (make_task(resolve(f"steve/humanoid{part}").task) for part in ("", "+released"))
    assert plain.spec.action_high == pytest.approx((0.4,) * 17) and released.spec.action_high == (1.0,) * 17
    with released.make() as env:
        (obs, reward), (far_obs, far_reward) = (stepped(env, np.full(17, a, np.float32)) for a in (0.4, 1.0))
    np.testing.assert_array_equal(obs, far_obs)
    assert reward - far_reward == pytest.approx(0.1 * 17 * (1.0 - 0.4**2))


def stepped(env, action):
    env.reset(seed=0)
    return env.step(action)[:2]


NETWORKS = {
    "learner": {"hidden": [8], "batch_size": 8},
    "model": {"hidden": [8, 8], "aux_hidden": [8]},
    "fit": {"batch_size": 8},
}


@pytest.mark.long
@pytest.mark.parametrize(("part", "scale"), [("", 1.0), ("+released", 0.5)])
def test_released_ensembles_begin_at_half_the_scale(part, scale):
    """And a policy, which is a single network, at the whole."""
    settings = resolve(f"steve/swimmer{part}", [NETWORKS])
    state = settings.build(make_task(settings.task)).init(jax.random.key(0))
    assert largest(state.learner.policy) == pytest.approx(1.0, abs=0.1)
    model = state.model.target.networks
    for ensemble in (state.learner.critics, model.transition, model.reward, model.termination):
        assert largest(ensemble) == pytest.approx(scale, abs=0.1 * scale)


def largest(network):
    """The largest weight, in units of Glorot's limit."""
    return max(float(jnp.abs(w).max()) / (6 / sum(w.shape[1:])) ** 0.5 for w in network.weights)


@pytest.mark.long
@pytest.mark.parametrize(("part", "share"), [("", 0.05), ("+released", 0.0)])
def test_the_share_of_actions_that_explore(part, share):
    settings = resolve(f"steve/swimmer{part}", [NETWORKS])
    agent = settings.build(make_task(settings.task))
    policy = agent.policy(quick_jit(agent.init)(jax.random.key(0)))
    act = partial(agent.act, policy, (), jnp.ones((5000, 8)), jax.random.key(1))
    differ = np.abs(act(explore=True)[0] - act(explore=False)[0]) > 1e-5
    assert differ.mean() == pytest.approx(share, abs=0.01)
    assert not share or abs(np.corrcoef(differ.T)[0, 1]) < 0.1  # each dimension by itself


# The order of events, with the paper's numbers and tiny networks.

RUN = {
    **NETWORKS,
    "task": {"env": "environments:tiny/Endless-v0"},
    "train": {"steps": 10_272, "eval_episodes": 1, "eval_every": 136, "log_every": 8},
}


class Call(NamedTuple):
    """What a call of `learn` left behind."""

    env_steps: int
    stored: int
    updates: int
    version: int


@pytest.fixture(scope="module", params=by_hand("+ddpg", ""), ids=["ddpg", "steve"])
def story(request, tmp_path_factory):
    """A finished run, the flags in its replay, its calls of `learn`, and how many of them are pretraining."""
    calls, flags, learn, run_loop = [], [], Loop._learn, Loop.run

    def watched(loop):
        learn(loop)
        agent, replay = loop.state.agent, loop.state.replay
        numbers = loop.counters.env_steps, replay.added, agent.learner.updates, agent.acting.version
        calls.append(Call(*map(int, numbers)))

    def to_its_end(loop):
        run_loop(loop)
        flags.append(np.array(loop.state.replay.data.terminated)[: int(loop.state.replay.added)])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "_learn", watched)
        patch.setattr(Loop, "run", to_its_end)
        patch.setitem(COMPILER_OPTIONS, "xla_backend_optimization_level", 2)
        out = tmp_path_factory.mktemp("steve") / "run"
        run = foretell.train(f"steve/halfcheetah{request.param}", out=out, overrides=RUN, quiet=True)
    return run, flags[0], calls, 1 if request.param else 20


@pytest.mark.long
def test_nothing_but_the_model_is_updated_before_there_is_a_step_beyond_the_random_ones(story):
    *_, calls, pretraining = story
    before, after = calls[:pretraining], calls[pretraining:]
    assert {call[:3] for call in before} == {(10_000, 10_000, 0)}
    assert after[0][:3] == (10_008, 10_008, 32)


@pytest.mark.long
def test_afterwards_every_step_is_worth_exactly_four_updates(story):
    """Of the model too, after its pretraining."""
    run, _, calls, pretraining = story
    after = calls[pretraining:]
    assert [call.env_steps for call in after] == list(range(10_008, 10_272, 8))
    assert [call.updates for call in after] == [4 * (call.env_steps - 10_000) for call in after]
    with (run.directory / "metrics.csv").open(newline="") as file:
        steps = [float(row["gradient_steps"]) for row in csv.DictReader(file)]
    assert steps == ([500.0] * 20 if pretraining > 1 else [0.0]) + [32.0] * len(after)


@pytest.mark.long
def test_the_policys_version_is_1_after_pretraining_and_grows_every_500_updates(story):
    *_, calls, pretraining = story
    assert [call.version for call in calls[:pretraining]] == [0] * (pretraining - 1) + [1]
    assert [call.version for call in calls[pretraining:]] == [1 + call.updates // 500 for call in calls[pretraining:]]
    assert calls[-1].version == 3


@pytest.mark.long
def test_lines_of_evaluation_carry_the_version_of_the_policy_that_played(story):
    lines = [line.split(",") for line in (story[0].directory / "greedy.csv").read_text().splitlines()]
    assert [(int(version), int(steps)) for _, version, steps, _ in lines] == [(2, 10_136), (3, 10_272)]


@pytest.mark.long
def test_episodes_that_the_time_limit_or_the_end_of_random_steps_cuts_do_not_terminate(story):
    run, flags, *_ = story
    lengths = [row["length"] for row in run.episodes if row["kind"] == "random"]
    assert sorted(lengths) == [250] * 8 + [1000] * 8
    assert len(flags) == 10_264 and not flags.any()  # the last eight steps are on their way there


@pytest.mark.long
def test_exactly_which_update_syncs_the_policy():
    """Before update 499, counted from 0, comes version 2; updates 495 to 498 are still version 1's."""
    settings = resolve("steve/halfcheetah+ddpg", [NETWORKS])
    task = make_task(settings.task)
    agent = settings.build(task)
    learn, replay = jax.jit(agent.learn), experience(task.spec)
    first, _ = learn(quick_jit(agent.init)(jax.random.key(0)), replay, jax.random.key(1))
    first = first._replace(learner=first.learner._replace(updates=jnp.array(495, jnp.int32)))
    one_more = replay._replace(new=jnp.ones_like(replay.new))
    second, _ = learn(first, one_more, jax.random.key(2))
    third, _ = learn(second, one_more, jax.random.key(3))
    versions = [(int(state.learner.updates), int(state.acting.version)) for state in (first, second, third)]
    assert versions == [(495, 1), (499, 1), (503, 2)]
    assert same(third.acting.network, second.learner.policy)
    assert not same(third.acting.network, third.learner.policy)


def experience(spec, count=100):
    rng = np.random.default_rng(0)
    shapes = [(spec.obs_size,), (spec.action_size,), (), (spec.obs_size,)]
    rows = [jnp.float32(rng.uniform(-1, 1, (count, *shape))) for shape in shapes]
    return add(init_replay(count, spec.obs_size, spec.action_size), Transitions(*rows, jnp.zeros(count, bool)))


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.mark.long
def test_only_the_environments_own_end_is_a_termination():
    """It ends after two to four steps; the limit comes after three."""
    own = {"task": {"env": "environments:tiny/Ragged-v0", "horizon": 3}, "train": {"environments": 20}}
    settings = resolve("steve/halfcheetah", [own, NETWORKS, {"train": {"steps_per_learning": 60}}])
    task = make_task(settings.task)
    collected = init_run(settings.build(task), task.spec, settings.train, 0)[0].collected
    envs, episodes = Environments(task, 20, seed=0), empty_episodes(task.spec, 20)
    envs.begin(episodes, {row: row for row in range(20)})
    ends = np.array([env.unwrapped.left for env in envs.copies])
    for t in range(3):
        stepped = episodes.running
        envs.step(episodes, np.zeros((20, 1), np.float32), task.spec.horizon)
        collected.take(episodes, stepped)
        latest = jax.tree.map(lambda a: a[t, stepped], collected.steps)  # noqa: B023
        assert latest.terminated.tolist() == [ends[row] == t + 1 for row in stepped]
        assert latest.over.tolist() == [ends[row] == t + 1 or t == 2 for row in stepped]
        assert latest.time.tolist() == [t] * len(stepped)
    assert episodes.over.all() and set(ends) == {2, 3, 4}
