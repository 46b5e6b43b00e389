"""Environments in worker processes: they go as in this process, fail as in this process, and leave nothing behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Lock

import gymnasium
import numpy as np
import pytest

from environments import STEPS, Line
from foretell.envs import Environments, empty_episodes, workers
from foretell.errors import UserError
from foretell.tasks import Task, TaskSettings, make_task
from tiny import by_hand

RAGGED = "environments:tiny/Ragged-v0"
COUNT = 5


def task_of(env=RAGGED):
    return make_task(TaskSettings(env=env))


@contextmanager
def played(task, processes, steps):
    """Environments after so many steps of random actions, begun again where they are over; their episodes."""
    with closing(Environments(task, COUNT, seed=3, workers=processes)) as envs:
        episodes, begun = empty_episodes(task.spec, COUNT), 0
        for _ in range(steps):
            new = np.flatnonzero((episodes.number < 0) | (episodes.over > 0)).tolist()
            envs.begin(episodes, {row: begun + i for i, row in enumerate(new)}, random=True)
            begun += len(new)
            envs.step(episodes, envs.random_actions(episodes), STEPS)
        yield envs, episodes


def workers_running():
    return [process for process in multiprocessing.active_children() if process.name == "simulators"]


@pytest.fixture(autouse=True)
def nothing_left():
    yield
    assert not workers_running()


def assert_equal(one, other):
    for name, array, same in zip(one._fields, one, other, strict=True):
        np.testing.assert_array_equal(array, same, err_msg=name)


def test_episodes_do_not_depend_on_the_number_of_workers():
    """Also with more environments than workers, in episodes of two to four steps."""
    with played(task_of(), 1, 7) as (_, expected):
        assert len(set(expected.length.tolist())) > 1
        for count in (2, 3):
            with played(task_of(), count, 7) as (_, found):
                assert len(workers_running()) == count
                assert_equal(found, expected)


def test_episodes_are_repeated_by_any_number_of_workers():
    """The next step is then the same; environments whose episode has not begun wait."""
    task = task_of("environments:tiny/Line-v0")
    with played(task, 1, 3) as (own, episodes):
        episodes.clear(1)
        copies = [np.copy(array) for array in episodes]
        with closing(Environments(task, COUNT, 3, workers=2)) as envs:
            again = type(episodes)(*copies)
            envs.repeat(again)
            for side, theirs in ((own, episodes), (envs, again)):
                side.step(theirs, np.full((COUNT, 1), 0.5, np.float32), STEPS)
            assert_equal(again, episodes)
            again.obs[3, 2] += 1e-9
            again.length[3] = 2
            with pytest.raises(UserError, match="did not repeat the first 2 steps of episode 3"):
                envs.repeat(again)


class Breaks(Line):
    """Says where it has broken."""

    def step(self, action):
        if self.resets and self.state[0] > -5:
            raise RuntimeError(f"broken at {self.state[0]}")
        return super().step(action)


def test_a_failure_is_the_sentence_of_a_single_process():
    """If several fail, that of the first. The class is not known to the workers' registry, nor is its name there."""
    gymnasium.register("Breaks-v0", entry_point=lambda: Breaks(), max_episode_steps=STEPS)
    sentences = []
    for count in (1, 3):
        with pytest.raises(UserError) as failure, played(task_of("Breaks-v0"), count, 1):
            pass
        sentences.append(str(failure.value))
    assert sentences[0].startswith("'Breaks-v0' failed in step(): RuntimeError: broken at")
    assert sentences[1] == sentences[0]
    assert "in step\n" in failure.value.__notes__[0]  # where, for those who look


class Fragile(Exception):
    """Cannot be sent as it is."""

    def __init__(self, one, other):
        super().__init__(one + other)


class Unmakeable(Task):
    """A task whose environments cannot be made."""

    spec = task_of().spec

    def make(self, *, render_mode=None):
        raise Fragile("no robot ", "is connected")


def test_environments_that_cannot_be_made_end_the_workers_without_another_failure(monkeypatch):
    made, make = [], workers._Worker
    monkeypatch.setattr(workers, "_Worker", lambda *args: made.append(make(*args)) or made[-1])
    with pytest.raises(RuntimeError, match=r"^Fragile: no robot is connected$"):
        Environments(Unmakeable(), 3, seed=0, workers=2)
    assert [worker.process.exitcode for worker in made] == [0, 0]


def test_a_task_that_cannot_be_sent_is_refused():
    task = task_of()
    task.lock = Lock()
    with pytest.raises(UserError, match=r"cannot be sent to worker processes .*lock.*; set train\.workers=1$"):
        Environments(task, 3, seed=0, workers=2)


@pytest.mark.long
def test_signals_for_all_processes_do_not_end_a_worker_but_its_death_is_reported():
    task = task_of("environments:tiny/Line-v0")
    with played(task, 2, 1) as (envs, episodes):
        actions, victims = np.zeros((COUNT, 1), np.float32), workers_running()
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(victims[0].pid, number)
        envs.step(episodes, actions, STEPS)
        victims[0].kill()
        with pytest.raises(
            UserError, match=r"^a worker process that steps 'environments:tiny/Line-v0' has died \(SIGK"
        ):
            envs.step(episodes, actions, STEPS)


SCRIPT = """
import os, multiprocessing
import gymnasium, numpy as np
from environments import Line
from foretell.envs import Environments, empty_episodes
from foretell.tasks import TaskSettings, make_task

class Slow(Line):
    def step(self, action):
        import time
        time.sleep(0.01)
        return super().step(action)

print("begins", flush=True)
gymnasium.register("Slow-v0", entry_point=Slow, max_episode_steps=10_000)
task = make_task(TaskSettings(env="Slow-v0"))
envs, episodes = Environments(task, 2, 0, workers=2), empty_episodes(task.spec, 2)
envs.begin(episodes, {0: 0, 1: 1})
envs.step(episodes, np.zeros((2, 1), np.float32), 10_000)
print(*(process.pid for process in multiprocessing.active_children()), flush=True)
if os.environ.get("STAY"):
    while True:
        envs.step(episodes, np.zeros((2, 1), np.float32), 10_000)
"""


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, *by_hand(signal.SIGINT, None)], ids=str)
def test_workers_end_with_their_script_which_they_do_not_run(number, tmp_path):
    """However it ends, also if nothing is closed; the script has no `if __name__ == "__main__"`."""
    (tmp_path / "script.py").write_text(SCRIPT)
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py")],
        env={**os.environ, "PYTHONPATH": paths, "STAY": "1" if number else ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "begins\n"
    pids = [int(word) for word in process.stdout.readline().split()]
    assert len(pids) == 2
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    elif number is not None:
        process.send_signal(number)
    assert (process.wait(timeout=20) == 0) == (number is None) and process.stdout.read() == ""
    deadline = time.monotonic() + 10
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline, "workers are still there"
        time.sleep(0.02)
