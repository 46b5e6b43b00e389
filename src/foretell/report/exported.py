"""A trained agent as one file that runs without Foretell: any agent as StableHLO, which JAX runs, a policy as ONNX."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from foretell.agents import Agent
from foretell.agents.base import PolicyParams, State
from foretell.errors import UserError
from foretell.keys import Stream
from foretell.report.converting import converted, within
from foretell.runs import arguments
from foretell.tasks import TaskSpec
from foretell.training.actor import begin_and_act

FORMATS = ("stablehlo", "onnx")
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def form_of(format: object, out: Path | None, platforms: object) -> tuple[str, list[str]]:
    """The format of a file and the platforms it is for, none of ONNX, which runs on all.

    Args:
        format: one of `FORMATS`; None: as the file's ending says, else StableHLO.
        out: the file, or None.
        platforms: one or several of `PLATFORMS`; None: the CPU.

    Raises:
        UserError: for others.
    """
    if format is None:
        format = "onnx" if out is not None and out.suffix.lower() == ".onnx" else "stablehlo"
    kind = arguments.choice("format", format, FORMATS)
    if kind == "onnx":
        if platforms is not None:
            raise UserError("platforms cannot be chosen for ONNX, whose files run on all of them; leave it out")
        return kind, []
    given = arguments.texts("platforms", "cpu" if platforms is None else platforms)
    if not given:
        raise UserError(f"platforms must name at least one of: {', '.join(PLATFORMS)}")
    return kind, [arguments.choice("platforms", name, PLATFORMS) for name in given]


def content(
    format: str, agent: Agent, state: State, spec: TaskSpec, *, batch: int, platforms: Sequence[str]
) -> bytes | bytearray:
    """What a file of this format holds, see `exported` and `as_onnx`.

    Args:
        format: one of `FORMATS`.
        agent: the agent.
        state: what it has learned.
        spec: of its task.
        batch: how many observations it is given at once.
        platforms: of the machines that will run it, out of `PLATFORMS`; none for ONNX.

    Raises:
        UserError: if the agent does not go into such a file.
    """
    params = jax.jit(agent.policy)(state)
    if format == "onnx":
        return as_onnx(agent, params, spec, batch=batch)
    return exported(agent, params, spec, batch=batch, platforms=platforms)


def as_onnx(agent: Agent, params: PolicyParams, spec: TaskSpec, *, batch: int = 1) -> bytes:
    """The function `obs -> action` of a policy as an ONNX model.

    Args:
        agent: the agent.
        params: what acting needs.
        spec: of its task.
        batch: how many observations it is given at once.

    Returns:
        A model with the input `obs`, float32 `[batch, obs]`, flat as in the data of a run, and the output `action`,
        float32 `[batch, action]`, in the environment's units and within its bounds.

    Raises:
        UserError: if the agent plans, or the converter is not installed.
    """
    rows = jax.ShapeDtypeStruct((batch, spec.obs_size), jnp.float32)
    agent, params = agent.deployed(params)
    if jax.tree.leaves(jax.eval_shape(agent.begin, params, rows, jax.random.key(0))):
        raise UserError(
            "ONNX holds policies, but this agent plans; export it as stablehlo, or train a policy that "
            "imitates it (preset imitation/default)"
        )
    if find_spec("jax2onnx") is None:
        raise UserError("the converter to ONNX is not installed; run pip install 'foretell[onnx]'")
    return converted(agent, params, spec, batch=batch)


def exported(
    agent: Agent, params: PolicyParams, spec: TaskSpec, *, batch: int = 1, platforms: Sequence[str] = ("cpu",)
) -> bytearray:
    """The function `(obs, begins, seed, call, *carry) -> (action, *carry)`, with everything the agent has learned.

    Args:
        agent: the agent.
        params: what acting needs.
        spec: of its task.
        batch: how many observations it is given at once.
        platforms: of the machines that will run it, out of `PLATFORMS`.

    Returns:
        What `jax.export.deserialize` reads. The arguments of its function are

        - `obs`, float32 `[batch, obs]`, flat as in the data of a run,
        - `begins`, bool `[batch]`: where an episode begins,
        - `seed` and `call`, int32: they decide the noise in acting; count the calls,
        - `carry`: what it has returned besides the actions in the call before, zeros in the first.

        The actions `[batch, action]` are in the environment's units and within its bounds.

    Raises:
        UserError: if the agent acts with an environment, which a file cannot hold.
    """
    agent, params = agent.deployed(params)
    rows = jax.ShapeDtypeStruct((batch, spec.obs_size), jnp.float32)
    carries = jax.eval_shape(agent.begin, params, rows, jax.random.key(0))
    structure = jax.tree.structure(carries)

    def act(
        obs: Float[Array, "batch obs"],
        begins: Bool[Array, "batch"],
        seed: Int[Array, ""],
        call: Int[Array, ""],
        *carry: Array,
    ) -> tuple[Array, ...]:
        before = jax.tree.unflatten(structure, carry)
        action, after, _ = begin_and_act(
            agent, Stream.EVALUATION, params, before, obs, begins, seed, call, explore=False
        )
        return within(spec, action), *jax.tree.leaves(after)

    number = jax.ShapeDtypeStruct((), jnp.int32)
    arguments = rows, jax.ShapeDtypeStruct((batch,), bool), number, number, *jax.tree.leaves(carries)
    try:
        return jax.export.export(jax.jit(act), platforms=platforms)(*arguments).serialize()
    except (ValueError, NotImplementedError) as error:
        if "callback" not in str(error):
            raise
        raise UserError("this agent plans with a copy of the environment, which a file cannot hold") from error
