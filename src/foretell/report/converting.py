"""The conversion of a policy to ONNX, in a process of its own: the converter leaves JAX changed.

`python -m foretell.report.converting` reads a pickled policy from its standard input and writes the model to its
standard output.
"""

import logging
import os
import subprocess
import sys
from typing import Any

import cloudpickle
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from foretell.agents import Agent
from foretell.agents.base import PolicyParams
from foretell.errors import UserError
from foretell.tasks import TaskSpec


def converted(agent: Agent, params: PolicyParams, spec: TaskSpec, *, batch: int) -> bytes:
    """The ONNX model of a policy for so many observations at once. Raises `UserError` if the conversion fails."""
    policy = cloudpickle.dumps((agent, jax.device_get(params), spec, batch))
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, "-m", "foretell.report.converting"]
    found = subprocess.run(command, input=policy, capture_output=True, env=env)
    if found.returncode:
        lines = found.stderr.decode(errors="replace").strip().splitlines()
        raise UserError(f"this policy cannot be converted to ONNX ({lines[-1] if lines else found.returncode})")
    return found.stdout


def within(spec: TaskSpec, action: Float[Array, "batch action"]) -> Float[Array, "batch action"]:
    """The nearest actions within the bounds."""
    return jnp.clip(action, jnp.array(spec.action_low, jnp.float32), jnp.array(spec.action_high, jnp.float32))


def _model(agent: Agent, params: PolicyParams, spec: TaskSpec, batch: int) -> Any:
    """The model, made in this process."""
    from jax2onnx import to_onnx

    key = jax.random.key(0)  # without exploration a policy draws nothing

    def act(obs: Float[Array, "batch obs"]) -> Float[Array, "batch action"]:
        return within(spec, agent.act(params, (), obs, key, explore=False)[0])

    rows = jax.ShapeDtypeStruct((batch, spec.obs_size), jnp.float32)
    return to_onnx(act, [rows], model_name="foretell", input_names=["obs"], output_names=["action"])


if __name__ == "__main__":
    logging.getLogger("jax2onnx").setLevel(logging.ERROR)  # it warns of parts that no policy needs
    given, answer = sys.stdin.buffer.read(), os.dup(1)
    os.dup2(2, 1)  # whatever is printed meanwhile is not part of the model
    with os.fdopen(answer, "wb") as file:
        file.write(_model(*cloudpickle.loads(given)).SerializeToString())
