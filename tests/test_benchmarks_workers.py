"""What `benchmarks/workers.py` compares steps the same environments."""

import importlib
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from foretell.envs.simulators import Simulators, begin_episode, take_step
from foretell.envs.workers import make_simulators
from foretell.tasks import TaskSettings, make_task


@pytest.fixture(scope="module")
def workers():
    """It stays importable, for the processes that are sent its classes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
        yield importlib.import_module("workers")


@pytest.mark.long
def test_threads_and_processes_return_the_same_as_one_after_the_other(workers):
    task, found = make_task(TaskSettings(env="Sleeps-v0")), []
    for make in (Simulators, partial(workers.Threads, workers=2), partial(make_simulators, workers=2)):
        with closing(make(task, 3)) as simulators:
            first = simulators.call(begin_episode, {row: (row, None) for row in range(3)})
            steps = simulators.call(take_step, {row: (np.zeros(6, np.float32),) for row in range(3)})
            found.append(np.stack([*first, *(step.obs for step in steps)]))
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])


@pytest.mark.long
def test_a_rate_is_that_of_all_environments_together(workers):
    task = make_task(TaskSettings(env="Sleeps-v0"))
    assert 0 < workers.rate(Simulators, task, steps=1, rounds=1) < 1 / workers.STEP_SECONDS
