"""STEVE's networks: one step, their loss and which members learn from it, updates, and learning."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import replay_of

from foretell.models import Imagination, SteveModel, SteveNetworks, Unknown, open_loop, returns, rollout, start
from foretell.models.steve import SteveParams, SteveState
from foretell.regression.fit import Fit
from foretell.regression.gp import GPFit
from foretell.replay import Transitions
from foretell.tasks import Task, TaskSpec
from tiny import by_hand, on_host, quick_jit


class Pendulum(Task):
    """An angle and its speed. The networks see the angle's sine and cosine, and predict twice the change."""

    spec = TaskSpec("Pendulum-v0", ("angle", "speed"), (-2.0,), (3.0,), horizon=10)
    learns_termination = True

    def features(self, obs):
        return jnp.stack([jnp.sin(obs[..., 0]), jnp.cos(obs[..., 0]), obs[..., 1]], -1)

    def target(self, obs, next_obs):
        return 2.0 * (next_obs - obs)

    def advance(self, obs, output):
        return obs + 0.5 * output


class Known(Pendulum):
    """As `Pendulum`, but there is nothing to learn beside how it moves."""

    def reward(self, obs, action, next_obs):
        return obs[..., 0] + 10.0 * action[..., 0] + 100.0 * next_obs[..., 0]

    def terminated(self, obs, action, next_obs):
        return next_obs[..., 1] > action[..., 0]


class Endless(Pendulum):
    learns_termination = False


MEMBERS, REWARDS, BATCH = 2, 3, 12
SETTINGS = SteveNetworks(members=MEMBERS, reward_members=REWARDS, hidden=(5, 4), aux_hidden=(6,), weight_decay=0.3)
FIT = Fit(learning_rate=3e-4, batch_size=BATCH)
KEY = jax.random.key(0)


def model_of(task, settings=SETTINGS, fit=FIT, particles=MEMBERS):
    unknown = Unknown(task.reward is None, task.learns_termination and task.terminated is None)
    return SteveModel(task, settings, fit, particles, unknown)


MODEL = model_of(Pendulum())
init = on_host(lambda model, key: model.init(key), 0)


def trained(model=MODEL):
    """As after training: no bias is zero."""
    rng, shapes = np.random.default_rng(0), jax.eval_shape(model.init, KEY).networks
    return jax.tree.map(lambda a: np.float32(rng.normal(0, 0.5, a.shape)), shapes)


STATE = trained()
loss = on_host(jax.value_and_grad(MODEL.loss, has_aux=True))
step = on_host(lambda model, params, carry, action: model.step(params, carry, action, KEY)[1], 0)
learn_from = on_host(MODEL.learn_from)
with_moments = on_host(lambda networks: SteveState(networks, MODEL.optimizer.init(networks)))


def changed(state, network, member):
    """The state with other weights of one member of one network."""
    mask = np.arange(len(getattr(state, network).biases[0])) == member
    other = jax.tree.map(lambda a: a + np.float32(0.3) * mask[:, None, None], getattr(state, network))
    return state._replace(**{network: other})


def batch(rows=BATCH, seed=0):
    rng = np.random.default_rng(seed)
    obs, next_obs = rng.normal(size=(2, rows, 2))
    action, reward = rng.uniform(-2, 3, (rows, 1)), rng.normal(size=rows)
    return Transitions(*map(np.float32, (obs, action, reward, next_obs)), rng.random(rows) < 0.5)


def particles(rows=3, seed=0, count=MEMBERS):
    rng = np.random.default_rng(seed)
    return np.float32(rng.normal(size=(count, rows, 2))), np.float32(rng.uniform(-2, 3, (count, rows, 1)))


def forward(network, member, x):
    """The output of one member for one row."""
    layers = list(zip(network.weights, network.biases, strict=True))
    for i, (weight, bias) in enumerate(layers):
        x = x @ np.float64(weight[member]) + np.float64(bias[member, 0])
        x = np.maximum(x, 0) if i < len(layers) - 1 else x
    return x


def features(obs):
    return np.array([np.sin(obs[0]), np.cos(obs[0]), obs[1]])


def seen(obs, action):
    """What the transition network sees."""
    return np.concatenate([features(obs), action])


def judged(next_obs, obs, action):
    """What the reward and termination networks see."""
    return np.concatenate([features(next_obs), features(obs), action])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def assert_close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), a, b)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize(
    ("obs", "action", "transition", "aux"),
    [
        (8, 2, 1_585_672, 35_585),
        (11, 3, 1_589_259, 36_481),
        (17, 6, 1_596_945, 38_401),
        (24, 4, 1_603_096, 39_937),
        (44, 17, 1_630_252, 46_721),
        (376, 17, 1_970_552, 131_713),
    ],
    ids=["swimmer", "hopper", "half-cheetah", "hardcore walker", "roboschool humanoid", "humanoid"],
)
def test_networks_have_as_many_parameters_as_released(obs, action, transition, aux):
    task = Task()
    task.learns_termination = True
    task.spec = TaskSpec("Any-v0", tuple(map(str, range(obs))), (-1.0,) * action, (1.0,) * action, horizon=1)
    networks = jax.eval_shape(SteveModel(task, SteveNetworks(), Fit(), 4, Unknown(True, True)).init, KEY).networks
    counts = [sum(leaf.size for leaf in jax.tree.leaves(network)) for network in networks]
    assert counts == [4 * transition, 4 * aux, 4 * aux]


@pytest.mark.long
def test_the_initializer_is_passed_on():
    """Counted over two members jointly, limits are smaller by the square root of two."""
    released = model_of(Pendulum(), SETTINGS.model_copy(update={"initializer": "glorot-joint"}))
    alone, jointly = (init(model, KEY).networks for model in (MODEL, released))
    assert_close(jointly.transition.weights, jax.tree.map(lambda w: w / np.sqrt(2), alone.transition.weights))
    assert_close(jointly.reward.weights, jax.tree.map(lambda w: w / np.sqrt(3), alone.reward.weights))


def test_fresh_networks_differ():
    networks = init(model_of(Pendulum(), SETTINGS.model_copy(update={"reward_members": MEMBERS})), KEY).networks
    assert not np.isclose(networks.reward.weights[0], networks.termination.weights[0]).any()
    assert not np.isclose(networks.transition.weights[1][0], networks.transition.weights[1][1]).any()


@pytest.mark.parametrize("each", [1, 2])
def test_step_equals_a_loop_over_particles_and_rows(each):
    """With one particle for each member, or more of them, next to each other."""
    count = each * MEMBERS
    model, (obs, action) = model_of(Pendulum(), particles=count), particles(count=count)
    found = step(model, STATE, obs, action)
    assert found.reward.shape == (REWARDS, count, 3)
    obs, action = np.float64(obs), np.float64(action)
    for p, row in np.ndindex(count, 3):
        member = p // each
        next_obs = obs[p, row] + 0.5 * forward(STATE.transition, member, seen(obs[p, row], action[p, row]))
        x = judged(next_obs, obs[p, row], action[p, row])
        rewards = [forward(STATE.reward, judge, x)[0] for judge in range(REWARDS)]
        assert_close(found.obs[p, row], next_obs)
        assert_close(found.reward[:, p, row], np.array(rewards))
        assert_close(found.terminated[p, row], sigmoid(forward(STATE.termination, member, x)[0]))


def test_a_rollout_is_worth_the_mean_over_the_reward_networks():
    plan = particles()[1].transpose(1, 0, 2)
    obs = np.float32([[0.1, 0.2]] * 3)

    def imagine(params):
        begin = start(MODEL, params, jnp.array(obs), KEY, MEMBERS)
        return rollout(MODEL, params, begin, open_loop(jnp.array(plan), MEMBERS), 2, KEY)

    found = on_host(lambda params: (lambda made: (made, returns(made)))(imagine(params)))(STATE)
    first = step(MODEL, STATE, np.broadcast_to(obs, (MEMBERS, 3, 2)), np.broadcast_to(plan[:, 0], (MEMBERS, 3, 1)))
    second = step(MODEL, STATE, np.asarray(first.obs), np.broadcast_to(plan[:, 1], (MEMBERS, 3, 1)))
    assert_close(found[0].obs[1:], np.stack([first.obs, second.obs]))
    assert_close(found[1], first.reward.mean(0) + (1 - first.terminated) * second.reward.mean(0))


def test_a_particle_keeps_to_its_member():
    data = particles()
    before, moved = step(MODEL, STATE, *data), step(MODEL, changed(STATE, "transition", 1), *data)
    ended = step(MODEL, changed(STATE, "termination", 1), *data)
    for a, b in ((before.obs, moved.obs), (before.terminated, ended.terminated)):
        assert_equal(a[0], b[0])
        assert not np.isclose(a[1], b[1]).any()
    assert_equal(before.obs, ended.obs)


def test_every_reward_member_judges_every_particle():
    data = particles()
    before, after = step(MODEL, STATE, *data), step(MODEL, changed(STATE, "reward", 2), *data)
    assert_equal(before.reward[:2], after.reward[:2])
    assert not np.isclose(before.reward[2], after.reward[2]).any()


def test_a_known_reward_and_termination_need_no_networks():
    model, (obs, action) = model_of(Known()), particles(rows=8)
    state = trained(model)
    assert state.reward is None and state.termination is None
    next_obs, reward, terminated = step(model, state, obs, action)
    assert_close(reward, (obs[..., 0] + 10 * action[..., 0] + 100 * next_obs[..., 0])[None])
    assert_equal(terminated, np.float32(next_obs[..., 1] > action[..., 0]))
    assert 0 < terminated.sum() < terminated.size
    _, metrics = jax.eval_shape(model.learn_from, SteveState(state, model.optimizer.init(state)), batch(), KEY)
    assert set(metrics) == {"model_loss", "transition_loss", "decay_loss", "model_skipped"}


def test_an_endless_task_never_ends():
    model = model_of(Endless())
    state = trained(model)
    assert state.termination is None and state.reward is not None
    assert_equal(step(model, state, *particles()).terminated, np.zeros((MEMBERS, 3)))


def errors_by_hand(state, data, row, member):
    """Errors of one transition and termination member, and of all reward members, on one row."""
    obs, action, reward, next_obs = (np.float64(a[row]) for a in data[:4])
    target = 2 * (next_obs - obs)
    transition = 0.5 * np.square(forward(state.transition, member, seen(obs, action)) - target).sum()
    x = judged(next_obs, obs, action)
    rewards = [0.5 * (forward(state.reward, n, x)[0] - reward) ** 2 for n in range(REWARDS)]
    logit = forward(state.termination, member, x)[0]
    return transition, rewards, np.log1p(np.exp(-logit if data.terminated[row] else logit))


def decay_by_hand(state):
    return 0.5 * 0.3 * sum(np.square(np.float64(leaf)).sum() for leaf in jax.tree.leaves(state))


@pytest.mark.long
def test_balanced_loss_equals_a_loop_in_which_each_member_has_its_own_part():
    data = batch()
    transition, reward, termination = 0.0, 0.0, 0.0
    for row in range(BATCH):
        errors = errors_by_hand(STATE, data, row, row // (BATCH // MEMBERS))
        transition += errors[0] / BATCH
        reward += errors[1][row // (BATCH // REWARDS)] / BATCH
        termination += errors[2] / BATCH
    decay = decay_by_hand(STATE)
    (total, losses), _ = loss(STATE, data, KEY)
    assert total == pytest.approx(transition + reward + termination + decay, rel=1e-5)
    expected = {
        "transition_loss": transition,
        "reward_loss": reward,
        "termination_loss": termination,
        "decay_loss": decay,
    }
    assert losses == pytest.approx(expected, rel=1e-5)


def test_decay_covers_weights_and_biases_of_all_members_and_networks():
    decay = on_host(jax.grad(lambda state, data: MODEL.loss(state, data, KEY)[1]["decay_loss"]))(STATE, batch())
    assert_close(decay, jax.tree.map(lambda leaf: 0.3 * np.asarray(leaf), STATE))


def without_decay(**changes):
    """So that gradients are those of the data alone."""
    return model_of(Pendulum(), SETTINGS.model_copy(update={"weight_decay": 0.0, **changes}))


RELEASED = without_decay(assignment="independent")


def learners(gradient):
    """Per network, which members have any gradient, by the biases of the output (no unit of theirs can be dead)."""
    return [np.asarray(network.biases[-1])[..., 0, 0] != 0 for network in gradient]


@pytest.fixture(scope="module")
def lonely():
    """Losses and gradients on a single row, for many keys."""
    released = jax.value_and_grad(RELEASED.loss, has_aux=True)
    return on_host(jax.vmap(released, (None, None, 0)))(STATE, batch(1), jax.random.split(KEY, 1000))


@pytest.mark.long
def test_independent_draws_give_a_row_to_one_member_of_each_network(lonely):
    """The others' gradients are exactly 0; each member has its share of draws, whatever those of other networks."""
    chosen = learners(lonely[1])
    for network, mine in zip(lonely[1], chosen, strict=True):
        assert (mine.sum(1) == 1).all()
        for leaf in jax.tree.leaves(network):
            assert not leaf[~mine].any()
        np.testing.assert_allclose(mine.mean(0), 1 / mine.shape[1], atol=0.05)
    transition, reward, termination = (mine[:, 0] for mine in chosen)
    assert (transition & termination).mean() == pytest.approx(1 / 4, abs=0.05)
    assert (transition & reward).mean() == pytest.approx(1 / 6, abs=0.05)


@pytest.mark.long
def test_independent_losses_are_those_of_the_members_drawn(lonely):
    transition, rewards, termination = zip(
        *(errors_by_hand(STATE, batch(1), 0, m) for m in range(MEMBERS)), strict=True
    )
    errors = {"transition_loss": transition, "reward_loss": rewards[0], "termination_loss": termination}
    for (name, expected), mine in zip(errors.items(), learners(lonely[1]), strict=True):
        assert_close(lonely[0][1][name], np.array(expected)[mine.argmax(1)])


def test_balanced_members_learn_from_their_own_part_only():
    gradient = on_host(jax.grad(without_decay().loss, has_aux=True))
    data, row = batch(), np.arange(BATCH)
    reward = data.reward + np.float32(row // 4 == 1)
    other = data._replace(reward=reward, action=data.action + np.float32(row < 6)[:, None])
    before, after = gradient(STATE, data, KEY)[0], gradient(STATE, other, KEY)[0]
    same = [np.isclose(a.biases[-1], b.biases[-1]).all((1, 2)).tolist() for a, b in zip(before, after, strict=True)]
    assert same == [[False, True], [False, False, True], [False, True]]


@pytest.fixture(scope="module")
def expected_gradient():
    """Every member's on all rows of the batch, divided by the number of members: its share of them."""
    gradient = on_host(jax.grad(without_decay(members=1, reward_members=1).loss, has_aux=True))

    def alone(network, member):
        one = jax.tree.map(lambda a: np.asarray(a)[[member % len(a)]], STATE)
        return getattr(gradient(one, batch(), KEY)[0], network)

    def every(network):
        members = len(getattr(STATE, network).biases[0])
        each = [alone(network, member) for member in range(members)]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves) / members, *each)

    return SteveParams(*map(every, SteveParams._fields))


@pytest.mark.long
def test_balanced_gradients_are_on_average_the_share_of_each_member(expected_gradient):
    """Turned to all places, every row has been in every part equally often."""
    data = batch()
    gradient = on_host(jax.vmap(jax.grad(without_decay().loss, has_aux=True), (None, 0, None)))
    turned = jax.tree.map(lambda a: np.stack([np.roll(a, i, 0) for i in range(BATCH)]), data)
    assert_close(jax.tree.map(lambda a: a.mean(0), gradient(STATE, turned, KEY)[0]), expected_gradient)


@pytest.mark.long
def test_independent_gradients_are_in_expectation_the_same(expected_gradient):
    gradient = on_host(jax.vmap(jax.grad(RELEASED.loss, has_aux=True), (None, None, 0)))
    drawn, _ = gradient(STATE, batch(), jax.random.split(KEY, 800))
    assert all(mine.all(1).mean() > 0.95 for mine in learners(drawn))  # rows are not all given to the same member

    def agree(drawn, expected):
        error = drawn.std(0) / np.sqrt(len(drawn))
        assert (np.abs(drawn.mean(0) - expected) <= 5 * error + 1e-5).all()

    jax.tree.map(agree, drawn, expected_gradient)


@pytest.mark.long
def test_update_is_a_step_of_adam():
    """The second one, from moments that the first has left."""
    data = batch(), batch(seed=1)
    before, _ = learn_from(with_moments(STATE), data[0], KEY)
    after, metrics = learn_from(before, data[1], KEY)
    first = loss(STATE, data[0], KEY)[1]
    (total, losses), second = loss(before.networks, data[1], KEY)
    mean = jax.tree.map(lambda a, b: 0.1 * (0.9 * a + b), first, second)
    square = jax.tree.map(lambda a, b: 0.001 * (0.999 * a**2 + b**2), first, second)
    move = lambda w, m, v: w - 3e-4 * (m / (1 - 0.9**2)) / (np.sqrt(v / (1 - 0.999**2)) + 1e-8)  # noqa: E731
    assert_close(after.networks, jax.tree.map(move, before.networks, mean, square))
    assert_close((after.opt[0].mu, after.opt[0].nu), (mean, square))
    assert after.opt[0].count == 2
    assert_close(metrics, {"model_loss": total, **losses, "model_skipped": 0.0})


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e25])
@pytest.mark.long
def test_a_step_that_is_not_finite_is_skipped_and_counted(value):
    data, before = batch(), with_moments(STATE)
    broken = data._replace(reward=np.where(np.arange(BATCH) == 3, np.float32(value), data.reward))
    after, metrics = learn_from(before, broken, KEY)
    assert_equal(after, before)
    assert metrics.pop("model_skipped") == 1
    assert not any(metrics.values())


fit = on_host(model_of(Pendulum(), fit=FIT.model_copy(update={"epochs": 4})).fit)


@pytest.mark.long
def test_a_fit_makes_as_many_updates_as_are_asked_for():
    """Its losses are their means, and those that were skipped are counted."""
    data = batch(30)
    after, metrics = fit(with_moments(STATE), replay_of(data, 40), KEY)
    assert (metrics["gradient_steps"], metrics["skipped_steps"]) == (12, 0)
    assert after.opt[0].count == 12
    parts = [metrics[f"{name}_loss"] for name in ("transition", "reward", "termination", "decay")]
    assert float(metrics["model_loss"]) == pytest.approx(float(sum(parts)), rel=1e-4)
    first = float(loss(STATE, batch(), KEY)[0][0])
    assert 0.5 * first < metrics["model_loss"] < 2 * first
    bad = data._replace(reward=np.full(30, np.nan, np.float32))
    _, metrics = fit(with_moments(STATE), replay_of(bad, 40), KEY)
    assert (metrics["gradient_steps"], metrics["skipped_steps"], metrics["model_loss"]) == (12, 12, 0)


@pytest.mark.long
def test_updates_draw_their_rows_from_all_data():
    """Of 30 rows each update draws 12; a bad one spoils some updates, slots never written spoil none."""
    for row in (0, 13, 29):
        data = batch(30)
        data.reward[row] = np.nan
        _, metrics = fit(with_moments(STATE), replay_of(data, 40), KEY)
        assert 0 < metrics["skipped_steps"] < 12
    assert fit(with_moments(STATE), replay_of(batch(30), 40), jax.random.key(1))[1]["skipped_steps"] == 0


def test_the_error_is_that_of_the_mean_over_members_averaged_by_weight():
    data, weight = batch(4), np.float32([1, 0, 3, 0])
    obs, action, _, next_obs, _ = (np.float64(a) for a in data)
    means = [
        np.mean([forward(STATE.transition, m, seen(obs[i], action[i])) for m in range(MEMBERS)], 0) for i in range(4)
    ]
    expected = np.average(np.square(means - 2 * (next_obs - obs)).mean(1), weights=weight)
    error = on_host(MODEL.error)
    assert float(error(STATE, data, weight)) == pytest.approx(expected, rel=1e-4)
    assert error(STATE, data, 0 * weight) == 0


class Pushed(Task):
    """A point that is pushed along a line, earns by where it comes to, and falls off beyond 0.5."""

    spec = TaskSpec("Pushed-v0", ("place", "speed"), (-1.0,), (1.0,), horizon=10)
    learns_termination = True


def pushes(key, rows):
    obs, action = jax.random.uniform(key, (rows, 2), minval=-1), jax.random.uniform(key, (rows, 1), minval=-1)
    speed = obs[:, 1] + 0.3 * action[:, 0] - 0.2 * jnp.sin(3 * obs[:, 0])
    next_obs = jnp.stack([obs[:, 0] + 0.3 * speed, speed], -1)
    return Transitions(obs, action, 1.0 - jnp.square(next_obs[:, 0]) - action[:, 0], next_obs, next_obs[:, 0] > 0.5)


SIMPLE = model_of(
    Pushed(),
    SteveNetworks(members=2, reward_members=2, hidden=(32,), aux_hidden=(32,), weight_decay=1e-6),
    Fit(learning_rate=1e-2, batch_size=64),
)


@on_host
def errors(state):
    """Mean squares of observations and rewards, and the share of wrong guesses of the end."""
    test = pushes(jax.random.key(1), 500)
    obs, action = (jnp.stack([a] * 2) for a in (test.obs, test.action))
    _, step = SIMPLE.step(SIMPLE.params(state), obs, action, KEY)
    wrong = (step.terminated > 0.5) != test.terminated
    return jnp.square(step.obs - test.next_obs).mean(), jnp.square(step.reward - test.reward).mean(), wrong.mean()


@pytest.mark.long
@pytest.mark.parametrize("assignment", ["balanced", *by_hand("independent")])
def test_it_learns_transitions_rewards_and_terminations(assignment):
    model = replace(SIMPLE, settings=SIMPLE.settings.model_copy(update={"assignment": assignment}))

    def body(i, state):
        data_key, update_key = jax.random.split(jax.random.fold_in(KEY, i))
        return model.learn_from(state, pushes(data_key, 64), update_key)[0]

    fresh = init(SIMPLE, KEY)
    before, after = errors(fresh), errors(quick_jit(lambda state: jax.lax.fori_loop(0, 500, body, state))(fresh))
    assert after[0] < before[0] / 10 and after[0] < 2e-3
    assert after[1] < before[1] / 10 and after[1] < 2e-2
    assert after[2] < 0.05


def test_the_default_is_the_papers():
    settings = SteveNetworks()
    assert (settings.members, settings.reward_members, settings.weight_decay) == (4, 4, 1e-4)
    assert (settings.hidden, settings.aux_hidden) == ((512,) * 7, (128,) * 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"members": 0}, "members"),
        ({"hidden": ()}, "hidden"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"assignment": "bootstrap"}, "assignment"),
        ({"batch_size": 512}, "batch_size"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        SteveNetworks(**{**SETTINGS.model_dump(), **change})


MEMBERWISE = Imagination(particles=None)


@pytest.mark.parametrize(
    ("fit", "imagination", "message"),
    [
        (
            Fit(batch_size=50),
            MEMBERWISE,
            "fit.batch_size (50) must be a multiple of model.members (2) and of model.reward_members (3) with "
            "model.assignment=balanced; the nearest is 48",
        ),
        (
            Fit(batch_size=2),
            MEMBERWISE,
            "fit.batch_size (2) must be a multiple of model.members (2) and of model.reward_members (3) with "
            "model.assignment=balanced; the nearest is 6",
        ),
        (
            FIT,
            Imagination(particles=5),
            "imagination.particles (5) must be a multiple of model.members (2); the nearest is 4",
        ),
        (
            FIT,
            Imagination(particles=1),
            "imagination.particles (1) must be a multiple of model.members (2); the nearest is 2",
        ),
        (
            FIT,
            Imagination(propagation="DS"),
            "imagination.propagation must be TSinf with model.kind=steve, not DS: every particle follows one network",
        ),
        (GPFit(), MEMBERWISE, "model.kind=steve is trained with fit.kind=adam, not lbfgs"),
    ],
)
def test_sections_that_do_not_go_with_it_are_refused(fit, imagination, message):
    with pytest.raises(ValueError) as mistake:
        SETTINGS.check(fit, imagination)
    assert str(mistake.value) == message


def test_independent_draws_go_with_any_batch():
    SETTINGS.model_copy(update={"assignment": "independent"}).check(Fit(batch_size=50), MEMBERWISE)


@pytest.mark.parametrize(("particles", "expected"), [(None, MEMBERS), (6, 6)])
@pytest.mark.long
def test_settings_build_the_model(particles, expected):
    """With one particle for each member unless another number is asked for."""
    imagination, unknown, task = Imagination(particles=particles), Unknown(True, False), Pendulum()
    built = SETTINGS.build(task, fit=FIT, imagination=imagination, unknown=unknown)
    assert built == SteveModel(task, SETTINGS, FIT, expected, unknown)
    assert built.needs_data
