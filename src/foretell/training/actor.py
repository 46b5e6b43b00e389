"""Acting in a run: one compiled program that begins episodes and chooses actions, and the steps that follow."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from foretell.agents import Agent
from foretell.agents.base import Carry, Extras, PolicyParams
from foretell.envs import Environments, Episodes
from foretell.envs.live import raise_reported, serving
from foretell.keys import Stream, key_for
from foretell.training.programs import programs


class Actor:
    """Chooses the actions of a batch of environments, with the policy's parameters alone."""

    def __init__(self, agent: Agent, seed: int, *, explore: bool) -> None:
        self._seed = np.int32(seed)
        function = partial(begin_and_act, agent, Stream.ACT, explore=explore)
        self._program = programs().in_background("act" if explore else "evaluate", function)

    def compile(self, policy: PolicyParams, carry: Carry, episodes: Episodes) -> None:
        """Begin to compile."""
        self._program.compile(policy, carry, *self._arguments(episodes))

    def act(
        self,
        policy: PolicyParams,
        carry: Carry,
        envs: Environments,
        episodes: Episodes,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> tuple[Float[np.ndarray, "environments action"], Carry, Extras]:
        """Actions for where the environments are. Raises `UserError`.

        Args:
            policy: what acting needs.
            carry: of the episodes under way.
            envs: the environments, for an agent that plans with copies of them.
            episodes: those under way.
            meanwhile: called while the actions are computed.
        """
        raise_reported()  # what has failed in learning since then
        with serving(envs.copies):
            actions, carry, extras = self._program(policy, carry, *self._arguments(episodes))
            meanwhile()
            return np.asarray(actions), carry, extras

    def _arguments(self, episodes: Episodes) -> tuple:
        # Episodes in the first environment follow each other, so their number and time are never the same twice.
        numbers = (self._seed, np.int32(episodes.number[0]), np.int32(episodes.clock))
        return episodes.latest, episodes.length == 0, *numbers


def begin_and_act(
    agent: Agent,
    stream: Stream,
    policy: PolicyParams,
    carry: Carry,
    obs: Float[Array, "batch obs"],
    fresh: Bool[Array, "batch"],
    seed: Int[Array, ""],
    *counters: Int[Array, ""],
    explore: bool,
) -> tuple[Float[Array, "batch action"], Carry, Extras]:
    """Begin an episode in the `fresh` rows, then act in all.

    Args:
        agent: whose policy it is.
        stream: what the random key is for.
        policy: what acting needs.
        carry: of the episodes under way.
        obs: the latest observations.
        fresh: rows in which an episode begins.
        seed: the run's.
        counters: numbers that are never the same twice.
        explore: whether to collect data.
    """
    key = key_for(seed, stream, *counters)
    begun = agent.begin(policy, obs, jax.random.fold_in(key, 2**31 - 3))
    carry = jax.tree.map(lambda new, old: jnp.where(_rows(fresh, new), new, old), begun, carry)
    return agent.act(policy, carry, obs, key, explore=explore)


def _rows(mask: Bool[Array, "batch"], leaf: Array) -> Bool[Array, "batch ..."]:
    return mask.reshape(-1, *[1] * (leaf.ndim - 1))
