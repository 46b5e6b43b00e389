"""The true model: the simulator itself as a world model.

What a planner achieves with it bounds from above what it can achieve with any model, and separates a planner's failure
from a model's.

The states that imagined trajectories are in live outside of the compiled program, as bare environments in *slots*; a
carry names them. A rollout takes its slots in `begin` and goes on from wherever they are.
"""

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key
from pydantic import Field

from foretell.envs.slots import Slots, Stepped, prototype_of
from foretell.errors import UserError
from foretell.models.base import Metrics, ModelState, Params, Step
from foretell.models.settings import Imagination, ModelSettings, Unknown
from foretell.registry import register
from foretell.replay import Replay, Transitions
from foretell.tasks.base import Task


@register("model", "true-model")
class TrueDynamics(ModelSettings):
    """The simulator itself. It learns nothing, and ignores the sections `fit` and `imagination`."""

    needs_data: ClassVar[bool] = False
    trains_stepwise: ClassVar[bool] = True

    kind: str = "true-model"
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Environments that are stepped in parallel; null: one for each core."""

    def count(self) -> int:
        """Threads, as many as there are cores for this process if not set."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return self.threads or cores

    def build(self, task: Task, *, fit: Any, imagination: Imagination, unknown: Unknown) -> "TrueModel":
        """The true model of a task.

        Args:
            task: the task.
            fit: ignored.
            imagination: ignored.
            unknown: ignored.

        Raises:
            UserError: if the environment cannot be copied.
        """
        del fit, imagination, unknown
        prototype_of(task)
        return TrueModel(task, self.count())


@dataclass(frozen=True)
class TrueModel:
    """The simulator as a world model, exact at any number of threads. Time limits do not end what it imagines.

    Rollouts begin in the states that observations describe if the task can restore them (`Task.restore`); noise then
    follows from the key. Otherwise they begin in the state of the one environment that is acted in
    (`foretell.envs.live`), whatever the observations, with its random generator: they foresee its noise. The state of
    wrappers is not restored.

    A rollout is linear: a carry can be stepped once, and only until four other rollouts have begun. Each needs a key of
    its own. A failure is reported (`live.report`), and everything that follows from it is NaN.

    Memory holds four times particles x batch copies of the environment, of half a megabyte each with MuJoCo.
    """

    task: Task
    threads: int
    """Environments stepped side by side."""

    needs_data: ClassVar[bool] = False
    particles: ClassVar[int] = 1

    def init(self, key: Key[Array, ""]) -> tuple[()]:
        return ()

    def params(self, state: ModelState) -> tuple[()]:
        return ()

    def begin(
        self, params: Params, obs: Float[Array, "batch obs"], key: Key[Array, ""], particles: int
    ) -> Int[Array, "particles batch 3"]:
        """The carry of `particles` trajectories from each observation: generation, slot and time of each."""
        del params
        everywhere, words = jnp.broadcast_to(obs, (particles, *obs.shape)), jax.random.key_data(key)
        carry = jax.ShapeDtypeStruct((particles, len(obs), 3), jnp.int32)
        # The key, here and below, so that XLA neither moves calls out of loops nor takes two for the same.
        return jax.pure_callback(self._slots.on_begin, carry, everywhere, words, vmap_method="broadcast_all")

    def step(
        self,
        params: Params,
        carry: Int[Array, "particles batch 3"],
        action: Float[Array, "particles batch action"],
        key: Key[Array, ""],
    ) -> tuple[Int[Array, "particles batch 3"], Step]:
        """One step of all environments. As in a run, actions beyond the bounds are the nearest within.

        Environments that have terminated stand still, with a reward of 0.
        """
        del params
        rows, size = carry.shape[:2], self.task.spec.obs_size
        vectors, numbers = (jax.ShapeDtypeStruct(rows + own, jnp.float32) for own in ((size,), ()))
        shapes = Stepped(vectors, numbers, numbers, jax.ShapeDtypeStruct(carry.shape, jnp.int32))
        words = jax.random.key_data(key)
        act = _not_differentiable(action)
        found = jax.pure_callback(self._slots.on_step, shapes, carry, act, words, vmap_method="broadcast_all")
        return found.carry, Step(found.obs, found.reward[None], found.terminated)

    def fit(self, state: ModelState, replay: Replay, key: Key[Array, ""]) -> tuple[ModelState, Metrics]:
        return state, {}

    def prepare(self, state: ModelState, replay: Replay) -> ModelState:
        return state

    def update(self, state: ModelState, replay: Replay, key: Key[Array, ""]) -> tuple[ModelState, Metrics]:
        return state, {"model_loss": jnp.zeros(()), "model_skipped": jnp.zeros(())}

    def error(self, params: Params, data: Transitions, weight: Float[Array, "rows"]) -> Float[Array, ""]:
        return jnp.zeros(())

    @cached_property
    def _slots(self) -> Slots:
        return Slots(self.task, self.threads)


@jax.custom_jvp
def _not_differentiable(action: Float[Array, "*rows action"]) -> Float[Array, "*rows action"]:
    return action


@_not_differentiable.defjvp
def _refuse(primals: tuple, tangents: tuple) -> tuple:
    """Raises `UserError`: a simulator has no derivatives."""
    raise UserError(
        "model.kind=true-model has no gradients, which this agent or planner needs; choose a planner that only "
        "compares candidates, such as cem, or a learned model"
    )
