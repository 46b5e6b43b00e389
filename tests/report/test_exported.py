"""An exported agent acts as the run does, and JAX alone runs it."""

import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import jax
import jax.export
import numpy as np
import pytest

import foretell
from foretell.cli import main
from foretell.errors import UserError
from foretell.report import converting, exported
from foretell.report.exported import form_of
from tiny import LINE, TINY

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "export.md").read_text()
SMALL = {
    "sac/default": {"train": {"steps": 8, "random_steps": 6}, "learner": {"hidden": [4], "batch_size": 2}},
    "pets/default": {},
}
with_onnx = pytest.mark.skipif(
    not (find_spec("jax2onnx") and find_spec("onnxruntime")), reason="the extra 'onnx' is not installed"
)


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


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """A policy that does not standardise observations."""
    out, again = tmp_path_factory.mktemp("raw") / "run", {"learner": {"standardize": False}}
    return foretell.train("sac/default", out=out, env=LINE, overrides=[SMALL["sac/default"], again], quiet=True)


def computed(path, obs):
    """What ONNX Runtime computes with a model."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [(one.name, one.type, one.shape) for one in session.get_inputs()] == [("obs", "tensor(float)", [*obs.shape])]
    return session.run(["action"], {"obs": obs})[0]


@with_onnx
@pytest.mark.long
@pytest.mark.parametrize(("kind", "standardises", "batch"), [("policy", True, 1), ("raw", False, 3)])
def test_a_policy_as_onnx_computes_the_actions_of_the_run(kind, standardises, batch, request, tmp_path):
    run = request.getfixturevalue(kind)
    assert (run._controller.state.learner.policy.input_mean is not None) == standardises
    path = run.export(tmp_path / "agent.onnx", batch=batch)
    for obs in np.random.default_rng(0).uniform(-3, 3, (5, batch, 2)).astype(np.float32):
        run.reset()
        np.testing.assert_allclose(computed(path, obs), run.act(obs), rtol=0, atol=1e-6)


@with_onnx
@pytest.mark.long
def test_the_program_on_the_page_needs_onnx_runtime_alone(policy, tmp_path):
    policy.export(tmp_path / "agent.onnx")
    code = re.findall(r"```python\n(.*?)```", PAGE, re.S)[1]
    code += "\nimport sys\nassert not {'foretell', 'jax'} & {*sys.modules}\n"
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\[\[-?[\d.e-]+\]\]\n", found.stdout)


@pytest.mark.long
def test_the_pages_commands_export(trained, policy, tmp_path, monkeypatch, capsys):
    """With small runs where the page has others. What needs the extra or trains is left out without it."""
    monkeypatch.chdir(tmp_path)
    found = re.findall(r"^```(\w*)\n(.*?)^```\n", PAGE, re.S | re.M)
    lines = "".join(text for language, text in found if not language).splitlines()
    commands = [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("foretell export ")]
    runs = {"runs/pets-default/Pendulum-v1/0": trained, "runs/sac-default/Pendulum-v1/0": policy.directory}
    assert len(commands) == 6
    for words in commands:
        if words[1] not in runs or (set(words) & {"onnx", "agent.onnx"} and not find_spec("jax2onnx")):
            continue
        out = [] if "--out" in words else ["--out", "agent.onnx" if "onnx" in words else "agent.stablehlo"]
        words = [str(runs.get(word, word)) for word in words if word != "cuda"]
        assert main([*words, *out]) == 0
    assert (tmp_path / "arms.stablehlo").stat().st_size and capsys.readouterr().out.count("written to ") >= 3


@pytest.mark.parametrize(
    ("chosen", "name", "found"),
    [
        (None, None, "stablehlo"),
        (None, "robot.onnx", "onnx"),
        (None, "robot.ONNX", "onnx"),
        (None, "robot.bin", "stablehlo"),
        ("onnx", "robot.bin", "onnx"),
        ("stablehlo", "robot.onnx", "stablehlo"),
    ],
)
def test_the_format_is_chosen_or_guessed_from_the_ending(chosen, name, found):
    assert form_of(chosen, None if name is None else Path(name), None)[0] == found


def test_an_unknown_format_is_refused():
    with pytest.raises(UserError, match=r"^format cannot be 'onx'; choose of: stablehlo, onnx$"):
        form_of("onx", None, None)


def test_a_planner_is_not_exported_to_onnx(trained, tmp_path, refused):
    said = "ONNX holds policies, but this agent plans; export it as stablehlo, or train a policy that imitates it"
    assert refused("export", trained, "--out", tmp_path / "a.onnx") == f"{said} (preset imitation/default)"
    assert not list(tmp_path.iterdir())


def test_platforms_of_onnx_cannot_be_chosen(trained, tmp_path, refused):
    said = "platforms cannot be chosen for ONNX, whose files run on all of them; leave it out"
    assert refused("export", trained, "--out", tmp_path / "a.onnx", "--platforms", "cpu") == said


def test_a_missing_converter_is_named_with_its_installation(policy, tmp_path, monkeypatch):
    monkeypatch.setattr(exported, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"^the converter to ONNX is not installed; run pip install 'foretell\[onnx\]'$"
    ):
        policy.export(tmp_path / "agent.onnx")
    assert not list(tmp_path.iterdir())


def test_what_the_converter_says_last_is_the_reason(policy, monkeypatch):
    """Whatever it is; a process that fails stands for it."""
    failed = subprocess.CompletedProcess([], 1, b"", b"Traceback\nValueError: no such operator\n")
    monkeypatch.setattr(converting.subprocess, "run", lambda *args, **options: failed)
    monkeypatch.setattr(exported, "find_spec", lambda name: name)
    with pytest.raises(UserError, match=r"^this policy cannot be converted to ONNX \(ValueError: no such operator\)$"):
        policy.export(format="onnx")
