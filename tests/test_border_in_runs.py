"""Unusual environments in whole runs: trained, resumed, evaluated, filmed and acted with."""

import csv
import pickle

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Tuple

import foretell
from environments import Line
from foretell.cli import main
from foretell.errors import UserError
from tiny import TINY, TINY_SET, by_hand, interrupted_at, results

SHORT = {"train": {"trials": 1, "eval_episodes": 1}, "task": {"horizon": 5, "check": False}}


class Goal(Line):
    """Pushes a point to a goal; its spaces have parts, and its actions half and double precision."""

    observation_space = Dict(
        {
            "observation": Box(-9.0, 9.0, (2,)),
            "achieved_goal": Box(-9.0, 9.0, (1,)),
            "desired_goal": Box(-9.0, 9.0, (1,)),
        }
    )
    action_space = Tuple((Box(-1.0, 1.0, (1,), np.float16), Dict({"lamp": Box(0.1, 0.7, (2, 1), np.float64)})))
    seen = np.zeros(1)

    def reset(self, *, seed=None, options=None):
        return self._parts(super().reset(seed=seed)[0]), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        obs, reward, *ends, _ = super().step(action[0])
        action[0][:] = 9.0
        return self._parts(obs), np.array([reward]), *ends, {"is_success": np.float32(abs(obs[0]) < 100)}

    def _parts(self, obs):
        self.seen[:] = obs[:1]
        return {"observation": obs, "achieved_goal": self.seen, "desired_goal": np.zeros(1)}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("goal") / "run"
    return foretell.train("pets/default", env=Goal, out=out, overrides=[TINY, SHORT], quiet=True, seed=np.int64(1))


def play(run):
    """An episode in the environment itself."""
    env = Goal()
    obs, _ = env.reset(seed=0)
    run.reset()
    return [env.step(run.act(obs))[0]["observation"].tolist() for _ in range(5)]


@pytest.mark.long
def test_what_it_writes(run):
    with (run.directory / "episodes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["kind"], row["end"], row["success"]) for row in rows] == [
        (kind, "limit", "1") for kind in ("random", "train", "eval")
    ]
    assert f"env: {__name__}:Goal" in (run.directory / "config.yaml").read_text()


@pytest.mark.long
def test_it_acts_in_the_environment_itself(run):
    action = run.act(Goal().reset(seed=0)[0])
    assert Goal.action_space.contains(action)
    run.reset()
    flat = np.array([0.1, 0.0, 0.1, 0.2])
    assert Goal.action_space.contains(run.act(flat))
    assert np.isfinite(play(run)).all()
    with pytest.raises(UserError, match="the observation has no 'desired_goal'"):
        run.act({"observation": np.zeros(2), "achieved_goal": np.zeros(1)})


@pytest.mark.long
def test_evaluation_says_whether_it_succeeded(run):
    assert [result.success for result in run.evaluate(2)] == [True, True]


@pytest.mark.long
def test_it_is_pickled_and_acts_as_before(run):
    again = pickle.loads(pickle.dumps(run))
    loaded = foretell.load(run.directory)
    assert play(again) == play(loaded) and again.returns == run.returns


@pytest.mark.long
def test_it_is_filmed(run):
    (video,) = foretell.film(run.directory, 1)
    assert video.is_file()


@pytest.mark.long
@pytest.mark.parametrize("env", [Goal(), *by_hand(Goal, lambda: Goal())])
def test_it_is_resumed_exactly_if_it_is_given_again(env, run, tmp_path):
    out = tmp_path / "run"
    with interrupted_at("step", 8):
        foretell.train("pets/default", env=env, out=out, overrides=[TINY, SHORT], quiet=True, seed=1)
    if env is not Goal:
        with pytest.raises(
            UserError, match="cannot be imported by name; in Python, give env= to resume, load and film"
        ):
            foretell.resume(out, quiet=True)
    foretell.resume(out, env=None if env is Goal else env, quiet=True)
    assert results(out)[1] == results(run.directory)[1]


@pytest.mark.long
def test_the_command_line_says_what_a_run_has_reached(capsys, tmp_path):
    changes = [*TINY_SET, "train.trials=1", "train.eval_episodes=2", "task.horizon=5"]
    code = main(["train", "pets/default", "--env", f"{__name__}:Goal", *changes, "--out", str(tmp_path / "run")])
    out = capsys.readouterr().out
    assert code == 0 and "best return" not in out
    assert "evaluation  mean return" in out and "of the last 2 episodes; success rate 100%" in out
    assert "eval " in out and "success 2/2" in out
    assert main(["eval", str(tmp_path / "run"), "--episodes", "1"]) == 0
    assert "over 1 episodes; success rate 100%" in capsys.readouterr().out


FAILURES = [
    ("tiny/Crashes-v0", "RuntimeError: the gripper is jammed, at "),
    ("tiny/TextObservation-v0", "the observation 'left' is not made of real numbers"),
    ("tiny/Unmakeable-v0", "ValueError: no robot is connected, at "),
]


@pytest.mark.parametrize(("env", "sentence"), FAILURES)
def test_a_failure_of_the_environment_names_file_and_line(env, sentence, capsys, monkeypatch):
    command = ["random", "--env", f"environments:{env}", "--episodes", "1"]
    assert main(command) == 2
    short = capsys.readouterr().err
    assert sentence in short and short.count("\n") == 1
    if sentence.endswith(", at "):
        assert "environments.py, line " in short
    assert main([*command, "--traceback"]) == 2
    assert "Traceback" in (long := capsys.readouterr().err) and long.endswith(short)
    monkeypatch.setenv("FORETELL_TRACEBACK", "1")
    assert main(command) == 2
    assert "Traceback" in (long := capsys.readouterr().err) and long.endswith(short)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("task.options.g=3", "environment    Pendulum-v1, observations [3], actions [1], 200 steps per episode"),
        ("task.horizon=300", "environment    Pendulum-v1, observations [3], actions [1], 300 steps per episode"),
        ("task.wrappers=[FlattenObservation]", "environment    Pendulum-v1, observations [3]"),
    ],
)
def test_settings_of_the_environment_reach_it(change, line, capsys):
    assert main(["train", "pets/default", "--env", "Pendulum-v1", "--set", change, "--dry-run"]) == 0
    assert line in capsys.readouterr().out


@pytest.mark.long
def test_an_environment_without_a_time_limit_is_noted(capsys):
    assert main(["train", "pets/default", "--env", "environments:tiny/Endless-v0", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "1000 steps per episode" in out
    assert (
        "note           'environments:tiny/Endless-v0' has no time limit: an episode lasts until the environment" in out
    )


@pytest.mark.parametrize(("env", "role"), [("Pendulum-v1", "reward"), ("environments:tiny/Line-v0", "terminated")])
@pytest.mark.long
def test_a_function_that_is_a_number_nowhere_is_refused_before_anything_is_written(env, role, tmp_path, refused):
    command = ["train", "pets/default", "--env", env, f"--{role}", "environments:nowhere", "--out", tmp_path / "run"]
    assert f"{role} 'environments:nowhere' returned nan on" in refused(*command)
    assert not any(tmp_path.iterdir())


@pytest.mark.long
def test_what_leaks_is_said(capsys):
    assert main(["train", "pets/default", "--env", "environments:tiny/Ends-v0", *TINY_SET, "--dry-run"]) == 0
    assert "note           'environments:tiny/Ends-v0' keeps state from one episode to" in capsys.readouterr().out
