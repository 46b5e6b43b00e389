"""An exported agent acts as the run does, and JAX alone runs it."""

import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.export
import numpy as np
import pytest

import foretell
from foretell.cli import main
from foretell.errors import UserError
from tiny import LINE, TINY

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "export.md").read_text()
SMALL = {
    "sac/default": {"train": {"steps": 8, "random_steps": 6}, "learner": {"hidden": [4], "batch_size": 2}},
    "pets/default": {},
}


def acted(path, observations):
    """The actions of a file for one observation after the other."""
    function = jax.export.deserialize(bytearray(path.read_bytes()))
    carry, actions = [np.zeros(a.shape, a.dtype) for a in function.in_avals[4:]], []
    for i, obs in enumerate(observations):
        begins = np.full(len(obs), i == 0)
        action, *carry = function.call(obs, begins, np.int32(0), np.int32(i), *carry)
        actions.append(np.asarray(action))
    return np.array(actions)


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    out = tmp_path_factory.mktemp("policy") / "run"
    return foretell.train("sac/default", out=out, env=LINE, overrides=SMALL["sac/default"], quiet=True)


@pytest.mark.long
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("agent", ["planner", "policy"])
def test_its_actions_are_those_of_the_run(agent, batch, trained, policy, tmp_path):
    run = foretell.load(trained) if agent == "planner" else policy
    path = run.export(tmp_path / "sub" / "agent", batch=batch)
    observations = np.random.default_rng(0).uniform(-1, 1, (3, batch, run.task.spec.obs_size)).astype(np.float32)
    run.reset()
    expected = np.array([run.act(obs) for obs in observations])
    np.testing.assert_allclose(acted(path, observations), expected, atol=1e-6)
    assert len(np.unique(expected)) > 2  # they depend on what is observed


@pytest.mark.long
def test_the_program_on_the_page_needs_jax_alone(run_copy, capsys):
    assert main(["export", str(run_copy)]) == 0
    assert capsys.readouterr().out == f"written to {run_copy / 'agent.stablehlo'}\n"
    code = re.search(r"```python\n(.*?)```", PAGE, re.S).group(1)
    code += "\nimport sys\nassert 'foretell' not in sys.modules\n"
    found = subprocess.run([sys.executable, "-c", code], cwd=run_copy, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\[\[-?[\d.e-]+\]\]\n", found.stdout)


def test_what_cannot_be_exported(trained, tmp_path):
    run = foretell.load(trained)
    with pytest.raises(UserError, match=r"^platforms cannot be 'gpu'; choose of: cpu, cuda, rocm, tpu$"):
        run.export(tmp_path / "a", platforms="gpu")
    with pytest.raises(UserError, match=r"^batch must be at least 1, not 0$"):
        run.export(tmp_path / "a", batch=0)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^cannot write '.*': "):
        run.export(tmp_path / "file" / "a")


@pytest.mark.long
def test_an_agent_that_plans_with_the_environment_cannot(tmp_path):
    run = foretell.train("pets/default+true-model", out=tmp_path / "run", env=LINE, overrides=TRUE, quiet=True)
    with pytest.raises(UserError, match=r"^this agent plans with a copy of the environment, which a file cannot hold$"):
        run.export()


TRUE = {"planner": TINY["planner"], "train": {"trials": 1, "random_steps": 0}, "task": {"horizon": 2}}
