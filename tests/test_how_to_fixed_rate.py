"""The page on a robot at a fixed rate: its program runs as it stands, and nothing in it compiles after the warm-up."""

import gc
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import jax
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
def test_the_program_without_foretell_runs_and_no_step_compiles(agent, tmp_path, monkeypatch, capsys):
    code = re.findall(r"```python\n(.*?)```", PAGE, re.S)[1]
    preparation, loop = code.replace("PERIOD, STEPS = 0.05", "PERIOD, STEPS = 0.001").split("robot = ")
    agent.export(tmp_path / "agent.stablehlo")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gymnasium, "make", lambda env_id: Line())
    names = {}
    try:
        exec(preparation, names)
        with nothing_compiled():
            exec(f"robot = {loop}", names)
    finally:
        gc.unfreeze()
        jax.config.update("jax_cpu_enable_async_dispatch", True)
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
    times, seconds = latency.measured([latency.acting(agent)], agent.task, 3, "frozen")
    assert times.shape == (1, 3) and np.isfinite(times).all() and np.isfinite(seconds)
    assert gc.isenabled() and not gc.get_freeze_count()
    assert latency.row(np.array([1e-3, 2e-3, 9e-3]))[0::3] == ["2.000", "9.000"]
    assert latency.row(np.full(9, 2e-3))[4:] == ["1.0", "1.0"]


@pytest.mark.long
def test_the_benchmark_calls_the_file_of_a_planner_in_turn_with_the_run(trained, tmp_path):
    latency, agent = benchmark("latency"), foretell.load(trained)
    files = latency.files(agent, tmp_path)
    assert [*files] == ["StableHLO"]
    acts = [latency.acting(agent), *files.values()]
    obs = latency.observations(agent.task, 3)
    for i, one in enumerate(obs):
        expected, found = (act(one, i == 0) for act in acts)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert latency.latencies(acts, agent.task, 2).shape == (2, 2)
    named = latency.with_loop({"run.act": acts[0]}, agent.task)
    assert [*named] == ["run.act", "a loop"] and named["a loop"](obs[0], True) is None


def test_the_loop_of_the_benchmark_takes_as_long_as_it_should():
    latency = benchmark("latency")
    act, times = latency.loop(2e-3), []
    for _ in range(20):
        start = time.perf_counter()
        act(None, False)
        times.append(time.perf_counter() - start)
    assert 5e-4 < min(times) < 8e-3


def test_a_controller_computes_on_the_calling_thread(trained, monkeypatch):
    """If JAX has not used the CPU yet; here that is only asked for."""
    asked = {}
    monkeypatch.setattr(jax.config, "update", asked.__setitem__)
    foretell.load(trained)
    assert asked["jax_cpu_enable_async_dispatch"] is False


@pytest.mark.slow
def test_it_does_so_in_a_new_process(trained):
    """A callback within a program is called on the thread that computes."""
    code = f"""
import threading
import foretell, jax
foretell.load({str(trained)!r}, quiet=True)
seen = []
jax.jit(lambda x: jax.debug.callback(lambda _: seen.append(threading.get_ident()), x))(1.0)
jax.effects_barrier()
assert seen == [threading.get_ident()]
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
