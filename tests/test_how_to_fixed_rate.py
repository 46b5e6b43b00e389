"""The page on a robot at a fixed rate: its program runs as it stands, and nothing in it compiles after the warm-up."""

import gc
import re
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import foretell
from environments import Line
from foretell.errors import UserError
from tiny import benchmark, nothing_compiled

PAGE = (Path(__file__).parent.parent / "docs" / "how-to" / "fixed-rate.md").read_text()


@pytest.fixture(scope="module")
def agent(trained):
    return foretell.load(trained)


@pytest.mark.long
def test_its_program_runs_and_no_step_compiles(trained, monkeypatch, capsys):
    code = re.search(r"```python\n(.*?)```", PAGE, re.S).group(1)
    preparation, loop = code.replace("PERIOD, STEPS = 0.05", "PERIOD, STEPS = 0.001").split("robot = ")
    names = {}
    monkeypatch.setattr(foretell, "load", lambda path, load=foretell.load: load(trained), raising=False)
    make = gymnasium.make
    robot = lambda env_id, **options: Line() if env_id == "Pendulum-v1" else make(env_id, **options)  # noqa: E731
    monkeypatch.setattr(gymnasium, "make", robot)
    try:
        exec(preparation, names)
        assert gc.get_freeze_count()
        with nothing_compiled():
            exec(f"robot = {loop}", names)
    finally:
        gc.unfreeze()
    assert re.fullmatch(r"\d+ of 200 steps were late\n", capsys.readouterr().out)


@pytest.mark.long
def test_after_a_warm_up_a_batch_compiles_nothing(agent):
    agent.warm_up(3)
    agent.reset()
    with nothing_compiled():
        for _ in range(2):
            agent.act(np.zeros((3, 2)))
            agent.act(np.zeros((3, 2)).tolist())
            agent.reset([True, False, False])


def test_a_batch_has_an_observation(agent):
    with pytest.raises(UserError, match="batch must be at least 1, not 0"):
        agent.warm_up(0)


@pytest.mark.long
def test_the_benchmark_times_every_call_and_leaves_the_garbage_collection_as_it_was(agent):
    latency = benchmark("latency")
    times, seconds = latency.measured(agent, 3, "frozen")
    assert len(times) == 3 and (times > 0).all() and seconds > 0
    assert gc.isenabled() and not gc.get_freeze_count()
    assert latency.row(np.array([1e-3, 2e-3, 9e-3]))[0::3] == ["2.00", "9.00"]
