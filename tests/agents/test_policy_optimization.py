"""Policy optimisation as an agent: when it fits, branches and updates, and what each arrangement learns from."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import foretell
from foretell.agents.policy_optimization import PolicyOptimization, PolicyOptimizationSettings
from foretell.agents.policy_updates import UpdateSchedule
from foretell.errors import UserError
from foretell.models import EnsembleModel, Imagination, ModelDefaults, Step, Unknown
from foretell.nn import identity_normalizer
from foretell.regression.fit import Fit
from foretell.replay import Transitions, add, init_replay
from foretell.runs.presets import resolve
from foretell.tasks import Task, TaskSpec, make_task
from foretell.values.branches import Branches, drawn, grow
from foretell.values.improvement import Improvement, Improver
from foretell.values.learners import REDQ, SAC
from tiny import LINE, interrupted_at, on_host, quick_jit, results

PARTICLES = 2


class Slide(Task):
    """A point that the action moves; it falls off beyond 2."""

    spec = TaskSpec("Slide-v0", ("x",), (-2.0,), (2.0,), horizon=20)


class Known(ModelDefaults):
    """The dynamics of the slide. Its state is how often it was fitted."""

    particles = PARTICLES

    def init(self, key):
        return jnp.zeros(())

    def fit(self, state, replay, key):
        return state + 1.0, {"loss": state}

    def step(self, params, carry, action, key):
        obs = carry + 0.1 * action
        return obs, Step(obs, -jnp.square(obs[None, ..., 0]), 1.0 * (obs[..., 0] > 2.0))

    def disagreement(self, params, obs, action):
        return 1.0 + obs[..., 0]


TASK, MODEL = Slide(), Known()
REDQ_LEARNER = REDQ(hidden=(4,), batch_size=8, activation="silu", reward_quantile=0.01)


def agent_with(learner=REDQ_LEARNER, kind="gradient", branches=Branches(starts=4, horizon=3, retention=2), **updates):  # noqa: B008
    schedule = UpdateSchedule(**{"critic_first": 3, "refit_every": 4, **updates})
    improvement, model = Improvement(kind=kind, horizon=2), MODEL if kind == "gradient" or branches else None
    return PolicyOptimization(TASK, learner, model, improvement, branches, schedule, 5, 8, 2)


@cache
def _compiled(agent):
    return quick_jit(agent.learn), quick_jit(agent.init)


def replay_with(new, count=20):
    rng = np.random.default_rng(0)
    obs, action = rng.normal(size=(count, 1)), rng.uniform(-2, 2, (count, 1))
    rows = map(jnp.float32, (obs, action, -(obs[:, 0] ** 2), obs + 0.1 * action))
    return add(init_replay(30, 1, 1), Transitions(*rows, jnp.zeros(count, bool)))._replace(new=jnp.int32(new))


def learned(agent, *news):
    learn, state = _compiled(agent)[0], _compiled(agent)[1](jax.random.key(0))
    found = []
    for call, new in enumerate(news):
        state, metrics = learn(state, replay_with(new), jax.random.key(call + 1))
        found.append(jax.device_get((state, metrics)))
    return found


@pytest.mark.long
def test_updates_and_refits_are_due_by_steps():
    """8 updates for the random steps, at most 5 in a call; then one for each step. A refit every 4 steps."""
    found = learned(agent_with(first_fits=2), 8, 0, 2, 2, 2)
    assert [int(metrics["gradient_steps"]) for _, metrics in found] == [5, 3, 2, 2, 2]
    assert [int(state.model) for state, _ in found] == [2, 2, 2, 3, 3]
    assert [int(state.learner.updates) for state, _ in found] == [8, 11, 13, 18, 20]
    assert found[2][1]["model_loss"] == 1 and all(metrics["skipped_steps"] == 0 for _, metrics in found)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found[-1][0]))


def test_the_same_state_and_data_give_the_same_again():
    agent = agent_with(first_fits=2)
    (first, _), (again, _) = learned(agent, 8)[0], learned(agent, 8)[0]
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)


def test_inputs_are_standardised_by_the_replay():
    state, _ = learned(agent_with(first_fits=2), 8)[0]
    obs = np.asarray(replay_with(0).data.obs[:20])
    np.testing.assert_allclose([state.inputs.mean, state.inputs.std], [obs.mean(0), obs.std(0)], rtol=1e-5)


def test_changes_are_never_those_to_the_next_episode():
    """Section 7.16: with the jump to the next episode in the last row the deviation would be 0.41."""
    change = jnp.array([0.1, -0.1, 0.1, -0.1, 0.1])[:, None]
    networks = EnsembleModel(members=2, hidden=(4,), scale_targets=True)
    unknown, imagination = Unknown(reward=False, termination=False), Imagination(particles=2)
    model = networks.build(TASK, fit=Fit(), imagination=imagination, unknown=unknown)
    rows = Transitions(0.0 * change, change, change[:, 0], change, jnp.zeros(5, bool))
    prepare = on_host(
        lambda: model.prepare(model.init(jax.random.key(0)), add(init_replay(5, 1, 1), rows)).regressor.targets
    )
    np.testing.assert_allclose(prepare().std, 0.097980, rtol=1e-5)


@pytest.mark.parametrize("branches", [None, Branches(starts=4, horizon=3, every=None)], ids=["sac", "mbpo"])
def test_a_learner_may_learn_by_replay(branches):
    """From real rows alone, or from imagined ones, which are made at each refit."""
    agent = agent_with(SAC(hidden=(4,), batch_size=8), "replay", branches, optimizer_reset=False)
    (first, _), (then, metrics) = learned(agent, 8, 4)
    assert first.learner.updates == 5 and then.learner.updates == 10 and np.isfinite(metrics["critic_loss"])
    if branches is not None:
        assert (first.branches.added, then.branches.added) == (12, 24)


def test_minibatches_are_mostly_imagined():
    """12 real and 244 imagined rows of 256 (section 7.5)."""
    agent = agent_with(SAC(hidden=(4,), batch_size=256), "replay")

    def found():
        state, real = agent.init(jax.random.key(0)), replay_with(0)
        one = Transitions(jnp.full((1, 1), 9.0), jnp.zeros((1, 1)), jnp.zeros(1), jnp.zeros((1, 1)), jnp.zeros(1, bool))
        return agent._batch(state._replace(branches=add(state.branches, one)), real, jax.random.key(0)).obs

    assert (on_host(found)() == 9.0).sum() == 244


def follow_right(key, obs, t):
    return jnp.full_like(obs, 2.0), ()


def branches_of(settings, start, horizon=3):
    rows = Transitions(jnp.array([[start]]), jnp.zeros((1, 1)), jnp.zeros(1), jnp.zeros((1, 1)), jnp.zeros(1, bool))
    real = add(init_replay(5, 1, 1), rows)
    options = {"model": MODEL, "params": None, "particles": PARTICLES, "act": follow_right}
    empty = settings.init(1, 1), settings.trust()
    grown = lambda: grow(  # noqa: E731
        jax.random.key(0), *empty, real, settings=settings, horizon=jnp.int32(horizon), **options
    )
    return on_host(grown)()


def test_branches_are_what_the_policy_does_in_imagination():
    kept, trust = branches_of(Branches(starts=4, horizon=3, retention=2), 0.0)
    assert trust is None
    assert kept.added == 12 and len(kept.data.reward) == 24
    np.testing.assert_allclose(kept.data.obs[:12, 0], np.repeat([0.0, 0.2, 0.4], 4), rtol=1e-6)
    np.testing.assert_allclose(kept.data.next_obs[:12], kept.data.obs[:12] + 0.2, rtol=1e-6)


def test_where_branches_end_early_more_are_begun():
    """Every branch falls at its second step: six more are needed, in sets of eight rows."""
    kept, _ = branches_of(Branches(starts=4, horizon=3, retention=2), 1.75)
    assert kept.added == 16
    np.testing.assert_array_equal(kept.data.terminated[:16], np.tile(np.repeat([False, True], 4), 2))


@pytest.mark.parametrize(("limit", "steps"), [(1.1, 1), (1.3, 2), (9.0, 3)])
def test_branches_end_where_members_disagree(limit, steps):
    """Divergence is 1, 1.2, and 1.4 at the three steps; usual is 1. What is not trusted is no end of the episode."""
    kept, trust = branches_of(Branches(starts=4, horizon=3, retention=9, max_divergence=limit), 0.0)
    assert (trust.usual, trust.sets) == (1.0, 1) and kept.added >= 12
    np.testing.assert_allclose(kept.data.obs[:12, 0], np.resize(np.repeat([0.0, 0.2, 0.4][:steps], 4), 12), rtol=1e-6)
    assert not kept.data.terminated.any()


def test_what_is_usual_is_a_mean_over_all_sets():
    trust = Branches(max_divergence=1.0).trust()
    for quantile in (1.0, np.inf, 3.0, np.nan, 8.0):
        trust = trust.after(jnp.float32(quantile))
    assert (float(trust.usual), int(trust.sets)) == (pytest.approx(4.0), 3)


@pytest.mark.parametrize("reward_model", [None, {"hidden": [4]}], ids=["alone", "with a reward model"])
def test_an_ensemble_disagrees_where_its_members_do(reward_model):
    """As its predictions do, for observations with any leading axes."""
    changes = {"model": {"hidden": [4], "members": 2}, "imagination": {"particles": 2}, "reward_model": reward_model}
    agent = settings_with(**changes).build(make_task(settings_with().task))

    def found():
        params = agent.model.params(agent.model.init(jax.random.key(0)))
        obs, action = jax.random.normal(jax.random.key(1), (2, 3, 3)), jnp.full((2, 3, 1), 0.5)
        return agent.model.disagreement(params, obs, action), agent.model.disagreement(params, obs[1, 2], action[1, 2])

    several, one = on_host(found)()
    assert several.shape == (2, 3) and (several > 0).all() and one == pytest.approx(several[1, 2], rel=1e-5)


def test_lengths_of_branches_follow_a_schedule():
    """The hopper's, the ant's and the humanoid's of section 7.5, at epochs of 1,000 steps."""
    epochs = jnp.array([0, 19, 20, 29, 30, 50, 85, 100, 149, 150, 300])
    expected = {
        (20, 150, 1, 15): [1, 1, 1, 1, 2, 4, 8, 9, 14, 15, 15],
        (20, 100, 1, 25): [1, 1, 1, 3, 4, 10, 20, 25, 25, 25, 25],
        (20, 300, 1, 25): [1, 1, 1, 1, 1, 3, 6, 7, 12, 12, 25],
    }
    for schedule, lengths in expected.items():
        thousands = (1000 * schedule[0], 1000 * schedule[1], *schedule[2:])
        settings = Branches(horizon=25, schedule=thousands)
        np.testing.assert_array_equal(jax.vmap(settings.length)(1000 * epochs), lengths)


def test_only_the_newest_sets_are_drawn_from():
    settings = Branches(starts=2, horizon=3, retention=2, schedule=(0, 1, 1, 3))
    rows = Transitions(jnp.arange(7.0)[:, None], *(jnp.zeros(s) for s in ((7, 1), 7, (7, 1))), jnp.zeros(7, bool))
    kept = add(settings.init(1, 1), rows)
    found = on_host(lambda: [drawn(settings, kept, jax.random.key(0), 99, jnp.int32(k)).obs for k in (1, 3)])()
    assert set(found[0].ravel()) == {3, 4, 5, 6} and set(found[1].ravel()) == set(range(7))


@pytest.mark.parametrize("start", [0.0, 2.2], ids=["alive", "falls"])
def test_with_the_true_dynamics_targets_are_monte_carlo_sums_with_a_bootstrap(start):
    """The soft return of the same actions in a plain loop."""
    learner, steps = SAC(hidden=(4,), batch_size=2, initial_temperature=0.3), 4
    improver = Improver(TASK, learner, MODEL, steps)
    obs = jnp.full((2, 1), start) + jnp.array([[0.0], [0.1]])

    def found():
        state = learner.init(jax.random.key(0), 1, 1)
        path = improver.path(state.policy, state, identity_normalizer(1), None, obs, jax.random.key(1))
        last = learner.target_values(state, path.features[-1], path.action[-1], path.bonus[-1])[0]
        return path, improver.with_targets(state, path)[1], last

    path, target, last = on_host(found)()
    for row, (x, total, factor, alive) in enumerate([(float(obs[i, 0]), 0.0, 1.0, True) for i in range(2)]):
        for t in range(steps):
            x += 0.1 * 2.0 * path.action[t, row, 0]
            total += factor * -(x**2) * alive + (factor * path.bonus[t, row] * alive if t else 0.0)
            alive, factor = alive and x <= 2.0, 0.99 * factor
        total += factor * (last[row] + path.bonus[-1, row]) * alive
        assert target[row] == pytest.approx(total, rel=1e-4)
    assert (path.terminated.sum() > 0) == (start > 0)


def test_the_policy_is_improved_through_the_model():
    """Critics that know nothing leave the return of the imagined steps: the policy learns to go to the middle."""
    learner = REDQ_LEARNER.model_copy(update={"reward_quantile": None, "policy_learning_rate": 0.05, "discount": 0.9})
    improver = Improver(TASK, learner, MODEL, 3)
    obs = jnp.linspace(-1.0, 1.0, 8)[:, None]

    def found():
        state = learner.init(jax.random.key(0), 1, 1)

        def update(state, key):
            return improver.update_by_gradient(state, identity_normalizer(1), None, obs, key)

        state, _ = jax.lax.scan(update, state, jax.random.split(jax.random.key(1), 100))
        return learner.act(state.policy, obs, jax.random.key(0), explore=False)[:, 0]

    action = on_host(found)()
    assert action[0] > 0.5 and action[-1] < -0.5


def settings_with(**changes):
    return resolve("dhmbpo/default", [{"task": {"env": "Pendulum-v1", "terminated": "none"}}, changes])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"updates": {"refit_every": 1500}}, r"must be a multiple of train.steps_per_learning \(1000\)"),
        ({"learner": {"kind": "td3", "critics": 1}}, "needs a learner without a target policy, not td3"),
        ({"improvement": {"kind": "replay"}}, "learner.reward_quantile needs improvement.kind=gradient"),
        ({"branches": {"schedule": [0, 9, 1, 30]}}, r"horizon \(20\) must be at least 30"),
        ({"branches": {"schedule": [9, 0, 1, 2]}}, r"schedule must be \[E0, E1, K0, K1\]"),
        ({"branches": {"max_divergence": 2.0}, "model": {"probabilistic": False}}, "branches.max_divergence needs"),
        ({"model": {"elites": 4}}, "model.elites needs fit.snapshots=member"),
        ({"train": {"steps_per_learning": None, "random_episodes": 1}}, "train.steps_per_learning must be given"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises((UserError, ValueError), match=message):
        settings_with(**changes)


def test_rows_must_be_spread_evenly_over_particles():
    settings = settings_with(learner={"batch_size": 100})
    with pytest.raises(UserError, match=r"learner.batch_size \(100\) must be a multiple of .* particles \(8\)"):
        settings.build(make_task(settings.task))


def test_gradients_do_not_flow_through_a_simulator():
    settings = settings_with(model={"kind": "true-model"})
    with pytest.raises(UserError, match="needs a learned model, because no gradient flows"):
        settings.build(make_task(settings.task))


def test_presets_are_arrangements_of_the_same_agent():
    """The first burst is one update for each random step, in calls of at most a thousand."""
    settings = settings_with()
    agent = settings.build(make_task(settings.task))
    assert isinstance(settings, PolicyOptimizationSettings)
    assert (agent.pretraining, agent.first, agent.most) == (5, 5000, 1000)


@pytest.mark.parametrize(
    ("robot", "keep", "most", "steps"),
    [
        ("halfcheetah", 144, 722, 4332),
        ("walker2d", 144, 722, 4332),
        ("hopper", 124, 621, 3726),
        ("ant", 166, 833, 4998),
        ("humanoid", 191, 957, 5742),
    ],
)
def test_the_paper_s_fits_are_as_long_as_observations_are_large(robot, keep, most, steps):
    """Section 7.13: epochs of patience, epochs, and gradient steps at most, from the number of outputs."""
    settings = resolve(f"dhmbpo/{robot}-paper")
    fit, outputs = settings.fit, make_task(settings.task).spec.obs_size + 1
    assert (fit.patience, fit.epochs, fit.max_steps) == (keep, most, steps)
    assert (int(50 * np.log(outputs)), int(250 * np.log(outputs)), most * fit.epoch_steps) == (keep, most, steps)


RUN = {
    "task": {"env": LINE, "terminated": "none"},
    "model": {"members": 2, "hidden": [8]},
    "fit": {"min_steps": 2, "max_steps": 4, "batch_size": 8},
    "imagination": {"particles": 2},
    "learner": {"hidden": [8], "batch_size": 8},
    "branches": {"starts": 4, "horizon": 3, "every": 2},
    "updates": {"refit_every": 10, "critic_first": 2},
    "train": {"steps": 60, "steps_per_learning": 5, "random_steps": 10, "eval_every": 20, "capacity": 50},
}


@pytest.mark.slow
def test_a_run_that_was_stopped_continues_exactly(tmp_path):
    """At any step, within an episode and between two refits."""
    options = {"overrides": RUN, "quiet": True}
    whole = foretell.train("dhmbpo/default", out=tmp_path / "whole", **options)
    for number in (12, 33):
        with interrupted_at("step", number):
            foretell.train("dhmbpo/default", out=tmp_path / f"run{number}", **options)
        foretell.resume(tmp_path / f"run{number}", quiet=True)
        assert results(tmp_path / f"run{number}") == results(whole.directory)
