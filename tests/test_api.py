"""The Python interface as a user's own program calls it."""

import shutil

import equinox as eqx
import gymnasium
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import foretell
from environments import STEPS, reward
from foretell.errors import UserError
from foretell.models import WithRewardModel
from foretell.runs.presets import resolve
from foretell.tasks import make_task
from tiny import LINE, TINY, by_hand, interrupted_at, snapshot, tiny_run

ENV = "tiny/Line-v0"


@pytest.fixture(scope="module")
def agent(trained):
    return foretell.load(trained)


def play(env, agent, seed):
    """The usual Gymnasium loop; what it earned, and the actions it took."""
    obs, _ = env.reset(seed=seed)
    agent.reset()
    rewards, actions, over = [], [], False
    while not over:
        actions.append(agent.act(obs))
        obs, reward, terminated, truncated, _ = env.step(actions[-1])
        rewards.append(reward)
        over = terminated or truncated
    return rewards, np.array(actions)


def test_a_run_tells_of_itself(agent, trained):
    assert agent.directory == trained and agent.seed == 0
    assert [row["kind"] for row in agent.episodes] == ["random", "train", "train"]
    assert agent.returns == [row["return"] for row in agent.episodes[1:]]
    assert agent.figure.is_file() and agent.videos.parent == trained
    assert agent.settings.planner.population == TINY["planner"]["population"]


@pytest.mark.long
def test_a_plain_gymnasium_loop(agent):
    with gymnasium.make(ENV) as env:
        rewards, actions = play(env, agent, seed=0)
    assert len(rewards) == STEPS and actions.shape == (STEPS, 1) and actions.dtype == np.float32
    assert (np.abs(actions) <= 1).all() and len(np.unique(actions)) == STEPS


@pytest.mark.long
def test_two_loads_of_a_run_act_alike(trained):
    with gymnasium.make(ENV) as env:
        first, second = (play(env, foretell.load(trained), seed=1) for _ in range(2))
    assert first[0] == second[0] and np.array_equal(first[1], second[1])


@pytest.mark.long
def test_a_trained_run_acts_as_it_does_when_loaded(tmp_path):
    run = foretell.train("pets/default", out=tmp_path / "run", env=LINE, overrides=TINY, quiet=True)
    with gymnasium.make(ENV) as env:
        assert play(env, run, seed=1)[0] == play(env, foretell.load(tmp_path / "run"), seed=1)[0]


@pytest.mark.long
def test_a_batch_and_its_reset_masks(agent):
    env = gymnasium.make_vec(ENV, num_envs=2, vectorization_mode="sync")
    obs, _ = env.reset(seed=0)
    agent.reset()
    ends = np.zeros(2, bool)
    for _ in range(2 * STEPS):
        agent.reset(ends)
        actions = agent.act(obs)
        assert actions.shape == (2, 1) and (np.abs(actions) <= 1).all()
        obs, _, terminated, truncated, _ = env.step(actions)
        ends = terminated | truncated
    env.close()


@pytest.mark.long
def test_a_mask_resets_its_rows_alone(agent):
    """They go on as if everything had begun anew, and the others as if nothing had."""
    obs = np.array([[0.3, -0.2], [1.0, 0.5]])

    def second_actions(mask):
        controller = agent._controller.with_seed(0)
        controller.act(obs)
        controller.reset(mask)
        return controller.act(obs)

    none, first, both = (second_actions(mask) for mask in ([False, False], [True, False], [True, True]))
    assert first[0] == both[0] != none[0]
    assert first[1] == none[1] != both[1]


@pytest.mark.long
def test_observations_of_any_numeric_kind_are_taken(agent):
    for obs in ([0, 1], np.array([0, 1], np.int8), np.array([0, 1], np.float64), jnp.array([0.0, 1.0])):
        agent.reset()
        assert agent.act(obs).shape == (1,)


@pytest.mark.long
def test_a_mask_before_the_first_observation_begins_everything_anew(agent):
    agent.reset()
    agent.reset([True, False])
    assert agent.act(np.zeros((2, 2))).shape == (2, 1)


@pytest.mark.long
def test_evaluation_repeats_and_changes_nothing(agent, trained):
    before = snapshot(trained)
    first, again, other = (agent.evaluate(2, seed=seed) for seed in (3, 3, 4))
    assert first == again != other
    assert [result.length for result in first] == [STEPS, STEPS]
    assert agent.evaluate(1, seed=3) == first[:1], "episodes do not depend on how many there are"
    assert snapshot(trained) == before


@pytest.mark.long
def test_a_known_reward_is_taken_as_a_function_or_by_name(tmp_path):
    def mine(obs, action, next_obs):
        return -jnp.square(next_obs[..., 0])

    by_name, local = tmp_path / "by_name", tmp_path / "local"
    options = {"env": LINE, "terminated": "none", "overrides": [TINY, {"train": {"trials": 1}}], "quiet": True}
    returns = foretell.train("pets/default", out=by_name, reward=reward, **options).returns
    assert "reward: environments:reward" in (by_name / "config.yaml").read_text()
    assert foretell.load(by_name).returns == returns
    assert foretell.train("pets/default", out=local, reward=mine, **options).returns == returns
    with pytest.raises(UserError, match="in Python, give reward= to load or resume too"):
        foretell.load(local)
    assert foretell.load(local, reward=mine).evaluate(1) == foretell.load(by_name).evaluate(1)
    assert len(foretell.resume(local, reward=mine, overrides={"train": {"trials": 2}}, quiet=True).returns) == 2


@pytest.mark.parametrize("option", ["reward", "terminated"])
def test_what_is_no_function_is_refused(option, tmp_path, monkeypatch):
    from foretell.runs.given import name_of

    with pytest.raises(UserError, match="must be functions or 'module:function', not 3"):
        name_of(3)
    with pytest.raises(UserError, match=f"{option} must be"):
        foretell.train("pets/default", out=tmp_path / "run", env=LINE, overrides=TINY, **{option: "x"})
    assert not any(tmp_path.iterdir())


def test_a_callable_without_a_name_can_be_a_reward(tmp_path):
    import functools

    from foretell.runs.given import name_of

    assert name_of(functools.partial(reward)) == "functools:<partial>"


@pytest.mark.long
def test_the_default_directory_is_named_after_preset_environment_and_seed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tiny_run(None, seed=3, trials=1)
    assert run.directory.resolve() == tmp_path / "runs" / "pets-default" / "environments-tiny-Line-v0" / "3"


@pytest.mark.long
def test_a_preset_for_one_task_can_be_used_for_another():
    settings = resolve("pets/cartpole", [{"task": {"env": LINE}}, TINY])
    agent = settings.build(make_task(settings.task))
    assert agent.bounds.low.shape == (1,) and isinstance(agent.model, WithRewardModel)


def pretrained(out, trained, *overrides, **schedule):
    start = {"train": {"pretrained": str(trained), "random_episodes": 0, **schedule}}
    return foretell.train("pets/default", out=out, env=LINE, overrides=[TINY, start, *overrides], quiet=True)


def files_of(run):
    return {path.name: path.read_bytes() for name in ("data", "models") for path in (run / name).iterdir()}


@pytest.fixture(scope="module")
def continued(trained, tmp_path_factory):
    return pretrained(tmp_path_factory.mktemp("pretrained") / "run", trained, save_all_models=True)


@pytest.mark.long
def test_a_pretrained_agent_plans_at_once_and_goes_on_learning(continued, trained):
    assert [row["kind"] for row in continued.episodes] == ["train", "train"]
    first, second = (foretell.load(continued.directory, trial=trial)._controller.state for trial in (1, 2))
    before = foretell.load(trained)._controller.state
    assert eqx.tree_equal(first, before)
    assert not eqx.tree_equal(second, before)
    assert (continued.directory / "metrics.csv").read_text().count("\n") == 2  # the header, and once before trial 2


@pytest.mark.long
@pytest.mark.parametrize(
    "moment", [("step", 3), *by_hand(("training_start", 1), ("learn_end", 1), ("step", 8))], ids=str
)
def test_a_pretrained_run_is_resumed_exactly(moment, continued, trained, tmp_path):
    out = tmp_path / "run"
    with interrupted_at(*moment):
        pretrained(out, trained, save_all_models=True)
    foretell.resume(out, quiet=True)
    assert files_of(out) == files_of(continued.directory)


@pytest.mark.long
def test_a_pretrained_run_without_a_checkpoint_is_resumed_from_where_it_began(continued, trained, tmp_path):
    out = shutil.copytree(continued.directory, tmp_path / "run")
    shutil.rmtree(out / "checkpoints")
    foretell.resume(out, quiet=True)
    assert files_of(out) == files_of(continued.directory)


@pytest.mark.long
def test_a_pretrained_run_does_without_the_other_once_it_has_a_checkpoint(run_copy, tmp_path):
    out = tmp_path / "continued"
    pretrained(out, run_copy, trials=1)
    shutil.rmtree(run_copy)
    assert len(foretell.resume(out, overrides={"train": {"trials": 2}}, quiet=True).returns) == 2
    assert foretell.load(out, quiet=True).evaluate(1)


@pytest.mark.long
def test_a_pretrained_agent_may_plan_otherwise(trained, tmp_path):
    """And train, and imagine; and begin with random episodes."""
    other = {"planner": {"horizon": 3, "population": 8}, "fit": {"epochs": 2}, "imagination": {"particles": 4}}
    run = pretrained(tmp_path / "run", trained, other, trials=1, capacity=70, checkpoints=1, random_episodes=1)
    assert [row["kind"] for row in run.episodes] == ["random", "train"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("override", "section"),
    [({"model": {"hidden": [9]}}, "model"), ({"model": {"scale_targets": False}}, "model")]
    + [({"reward_model": {"members": 3}}, "reward_model")],
    ids=str,
)
def test_a_pretrained_agent_of_other_settings_is_refused(override, section, trained, tmp_path):
    with pytest.raises(UserError) as mistake:
        pretrained(tmp_path / "run", trained, override)
    assert str(mistake.value) == (
        f"the run in train.pretrained='{trained}' has other settings in '{section}'; "
        "start with the preset and the settings it was trained with"
    )
    assert not any(tmp_path.iterdir())


@pytest.mark.long
def test_a_pretrained_agent_of_another_task_or_without_a_checkpoint_is_refused(trained, run_copy, tmp_path):
    start = {"train": {"pretrained": str(trained), "capacity": 500}}
    with pytest.raises(UserError, match=r"has observations and actions of sizes \(2, 1\) in .*Line-v0', not \(4, 1\)"):
        foretell.train("pets/default", out=tmp_path / "new", env="cartpole", overrides=[TINY, start], quiet=True)
    shutil.rmtree(run_copy / "checkpoints")
    with pytest.raises(UserError, match="no checkpoint in"):
        pretrained(tmp_path / "new", run_copy)
    with pytest.raises(UserError, match="no run directory"):
        pretrained(tmp_path / "new", tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"is not a run directory: it has no config\.yaml"):
        pretrained(tmp_path / "new", trained / "data")
    assert not (tmp_path / "new").exists()


# Callbacks of one's own.


class Enough(foretell.Callback):
    """Ends a run after so many episodes."""

    def __init__(self, episodes):
        self.left, self.seen = episodes, []

    def on_episode_end(self, event):
        self.seen.append((event.row["kind"], event.row["return"], len(event.actions)))
        self.left -= 1
        if not self.left:
            raise foretell.StopTraining("it has seen enough")


@pytest.mark.long
def test_callbacks_are_called_as_a_run_goes_on_and_may_end_it(trained, tmp_path):
    """After those that Foretell brings; the run is saved, and resumed it becomes the one that nobody has ended."""
    enough = Enough(2)
    options = {"out": tmp_path / "run", "env": LINE, "overrides": TINY, "quiet": True}
    run = foretell.train("pets/default", callbacks=[enough], **options)
    assert [kind for kind, *_ in enough.seen] == ["random", "train"] == [row["kind"] for row in run.episodes]
    assert [value for _, value, _ in enough.seen] == [row["return"] for row in run.episodes]
    more = Enough(9)
    resumed = foretell.resume(tmp_path / "run", callbacks=[more], quiet=True)
    assert [kind for kind, *_ in more.seen] == ["train"]
    assert [row["return"] for row in resumed.episodes] == [row["return"] for row in foretell.load(trained).episodes]


@pytest.mark.long
def test_a_callback_that_fails_is_named_in_one_sentence(tmp_path):
    class Broken(foretell.Callback):
        def on_learn_end(self, event):
            return event.row["loss of the dynamics"]

    with pytest.raises(
        UserError, match=r"^the callback Broken failed in on_learn_end \(.*test_api\.py, line \d+: KeyErr"
    ):
        foretell.train("pets/default", out=tmp_path / "run", env=LINE, overrides=TINY, callbacks=[Broken()], quiet=True)


@pytest.mark.long
def test_what_is_no_callback_is_refused_before_anything_is_written(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # it would find the mistake first
    options = {"env": LINE, "overrides": TINY, "callbacks": [Enough]}
    with pytest.raises(UserError, match=r"^a callback must be a foretell\.Callback, not <class"):
        foretell.train("pets/default", out=tmp_path / "run", **options)
    with pytest.raises(UserError, match=r"^a callback must be a foretell\.Callback, not 3"):
        foretell.resume(trained, callbacks=[3])
    assert not any(tmp_path.iterdir())


@pytest.mark.long
def test_a_run_ends_when_it_is_good_enough_and_its_best_agent_is_kept(tmp_path):
    """With evaluation: its rounds count, and not the trials."""
    schedule = {"trials": 6, "eval_episodes": 2, "keep_best": True}
    whole = tiny_run(tmp_path / "whole", **schedule)
    scores = [np.mean([row["return"] for row in pair]) for pair in _rounds(whole)]
    best = int(np.argmax(scores))
    stopped = tiny_run(tmp_path / "run", **schedule, stop_at_return=float(scores[best]))
    assert len(stopped.returns) == best + 1
    kept, last, stopped_last = (
        foretell.load(run.directory, best=which)._controller.state
        for run, which in ((whole, True), (whole, False), (stopped, False))
    )
    assert eqx.tree_equal(kept, stopped_last), "the best agent is the one with which the other run has ended"
    assert eqx.tree_equal(kept, last) == (best == 5)
    assert foretell.load(whole.directory, best=True).evaluate(1)


def _rounds(run):
    evaluations = [row for row in run.episodes if row["kind"] == "eval"]
    return zip(evaluations[::2], evaluations[1::2], strict=True)


@pytest.mark.long
def test_the_interface_is_what_all_says():
    names = {"Callback", "Run", "StopTraining", "UserError", "film", "load", "register", "resume", "study", "train"}
    assert set(foretell.__all__) == names | {"train_seeds", "write_report", "Ray"}
    assert all(getattr(foretell, name) for name in foretell.__all__)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        foretell.trian  # noqa: B018
