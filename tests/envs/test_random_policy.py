"""Episodes of random actions, and the command that plays them."""

import csv
from itertools import islice

import numpy as np
import pytest

from foretell.cli import main
from foretell.envs import Environments, empty_episodes, random_policy
from foretell.tasks import TaskSettings, make_task
from tiny import LINE

ENDS, CRASHES = "environments:tiny/Ragged-v0", "environments:tiny/Crashes-v0"


def played(env, count=4, seed=0, **options):
    return list(random_policy.random_episodes(make_task(TaskSettings(env=env, **options)), count, seed=seed))


def by_hand(env, number, seed=0, **options):
    """Return, length and end of one episode."""
    task = make_task(TaskSettings(env=env, **options))
    envs, episodes, total = Environments(task, 1, seed), empty_episodes(task.spec, 1), 0.0
    envs.begin(episodes, {0: number})
    for step in range(task.spec.horizon):
        action = envs.random_actions(episodes)[0]
        assert (np.abs(action) <= 1).all()
        _, reward, terminated, *_ = envs.copies[0].step(action)
        episodes.length[0], total = step + 1, total + float(reward)
        if terminated:
            break
    return total, step + 1, terminated


@pytest.mark.parametrize(
    ("env", "options"), [(LINE, {}), (ENDS, {}), ("mve-hopper", {"horizon": 30}), ("mve-acrobot", {"horizon": 30})]
)
def test_returns_and_lengths_are_those_of_the_actions(env, options):
    found = played(env, **options)
    for number, episode in enumerate(found):
        total, length, terminated = by_hand(env, number, **options)
        assert episode == (pytest.approx(total), length, terminated, None)
    assert len({episode.total for episode in found}) == 4 or env == "mve-acrobot"  # which is not swung up


def test_results_do_not_depend_on_the_number_of_cores(monkeypatch):
    found = []
    for cores in (1, 2, 3):
        monkeypatch.setattr(random_policy, "_cores", lambda cores=cores: cores)
        found.append(played("mve-swimmer", horizon=15, count=5))
    assert found[0] == found[1] == found[2]


def test_a_seed_decides_them():
    assert played(LINE, seed=1) == played(LINE, seed=1) != played(LINE, seed=2)
    assert played(LINE, count=2) == played(LINE, count=4)[:2]


@pytest.mark.long
def test_the_rest_need_not_be_waited_for(monkeypatch):
    begun, begin = [], Environments.begin
    monkeypatch.setattr(
        Environments, "begin", lambda self, *args, **more: begun.append(1) or begin(self, *args, **more)
    )
    task = make_task(TaskSettings(env=LINE))
    episodes = random_policy.random_episodes(task, 10_000, seed=0)
    assert len(list(islice(episodes, 2))) == 2
    episodes.close()
    assert len(begun) < 10_000


def test_the_command_prints_and_writes_them(tmp_path, capsys):
    out = tmp_path / "deep" / "returns.csv"
    assert main(["random", "--env", ENDS, "--episodes", "5", "--seed", "3", "--out", str(out)]) == 0
    *lines, summary, extremes, written = capsys.readouterr().out.splitlines()
    found = played(ENDS, count=5, seed=3)
    totals = [episode.total for episode in found]
    assert [line.split()[:4] for line in lines] == [
        ["episode", str(i), "return", f"{total:.2f}"] for i, total in enumerate(totals)
    ]
    assert summary == f"mean {np.mean(totals):.2f}, std {np.std(totals, ddof=1):.2f} over 5 episodes"
    assert extremes == f"min {min(totals):.2f}, max {max(totals):.2f}" and written == f"written to {out}"
    rows = list(csv.DictReader(out.open()))
    assert [float(row["return"]) for row in rows] == totals
    assert [(int(row["episode"]), int(row["length"])) for row in rows] == [(i, e.length) for i, e in enumerate(found)]
    assert {row["terminated"] for row in rows} == {"1"}


def test_the_task_of_a_preset(capsys):
    setting = ["--set", "task.options.reset=paper", "task.horizon=3"]
    assert main(["random", "mbmf/swimmer-mpc", "--episodes", "2", *setting]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith("  3 steps")


def test_an_environment_in_place_of_a_preset_s(capsys):
    assert main(["random", "pets/cartpole", "--env", LINE, "--episodes", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == f"mean {played(LINE, 1)[0].total:.2f}, std 0.00 over 1 episodes"


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ([], "name a preset or an environment: foretell random pets/cartpole, or --env Pendulum-v1"),
        (["pets/cartpol"], "no preset 'pets/cartpol'; did you mean 'pets/cartpole'?"),
        (["pets/default"], "name the environment: --env ID, for example --env Pendulum-v1"),
        (["--env", "mve-hoper"], "no task 'mve-hoper'; did you mean 'mve-hopper'?"),
        (["--env", LINE, "--episodes", "0"], "episodes must be at least 1, not 0"),
        (
            ["--env", LINE, "--episodes", "x"],
            "argument --episodes: invalid int value: 'x'; see `foretell random --help`",
        ),
        (["--env", LINE, "--seed", "-1"], "seed must be a whole number from 0 to 2147483647, not -1"),
        (["--env", LINE, "--set", "task.horzon=3"], "no setting 'task.horzon'; did you mean 'task.horizon'?"),
        (["--env", LINE, "--sed", "3"], "foretell random does not take '--sed'; did you mean '--seed'?"),
        (["--env", CRASHES], f"'{CRASHES}' failed in step(): RuntimeError: the gripper is jammed"),
    ],
)
def test_mistakes(argv, sentence, refused):
    assert refused("random", *argv).startswith(sentence)


@pytest.mark.long
def test_a_file_that_cannot_be_written_is_told_before_anything_is_played(tmp_path, refused):
    sentence = refused("random", "--env", LINE, "--out", tmp_path)
    assert sentence == f"cannot write '{tmp_path}': Is a directory"
