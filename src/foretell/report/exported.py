"""A trained agent as one file that JAX runs without Foretell: its acting as serialised StableHLO."""

from collections.abc import Sequence

import jax
import jax.export
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from foretell.agents import Agent
from foretell.agents.base import State
from foretell.errors import UserError
from foretell.keys import Stream
from foretell.tasks import TaskSpec
from foretell.training.actor import begin_and_act

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def exported(
    agent: Agent, state: State, spec: TaskSpec, *, batch: int = 1, platforms: Sequence[str] = ("cpu",)
) -> bytearray:
    """The function `(obs, begins, seed, call, *carry) -> (action, *carry)`, with everything the agent has learned.

    Args:
        agent: the agent.
        state: what it has learned.
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
    policy = jax.jit(agent.policy)(state)
    rows = jax.ShapeDtypeStruct((batch, spec.obs_size), jnp.float32)
    carries = jax.eval_shape(agent.begin, policy, rows, jax.random.key(0))
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
            agent, Stream.EVALUATION, policy, before, obs, begins, seed, call, explore=False
        )
        low, high = jnp.array(spec.action_low, jnp.float32), jnp.array(spec.action_high, jnp.float32)
        return jnp.clip(action, low, high), *jax.tree.leaves(after)

    number = jax.ShapeDtypeStruct((), jnp.int32)
    arguments = rows, jax.ShapeDtypeStruct((batch,), bool), number, number, *jax.tree.leaves(carries)
    try:
        return jax.export.export(jax.jit(act), platforms=platforms)(*arguments).serialize()
    except (ValueError, NotImplementedError) as error:
        if "callback" not in str(error):
            raise
        raise UserError("this agent plans with a copy of the environment, which a file cannot hold") from error
