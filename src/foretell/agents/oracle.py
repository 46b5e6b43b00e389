"""The oracle: plan with the true simulator. It learns nothing; it shows what a planner does with a perfect model."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from foretell.agents.base import Metrics, RunSettings
from foretell.errors import UserError
from foretell.planning import AnyPlanner, Bounds, Planner, mpc
from foretell.replay import Replay
from foretell.tasks import Task, TaskSpec
from foretell.worldmodel.oracle import Simulation, Simulators


class OracleSettings(RunSettings):
    """Everything a preset of the oracle may set."""

    learns: ClassVar[bool] = False
    agent: Literal["oracle"] = "oracle"
    planner: AnyPlanner
    simulation: Simulation = Simulation()

    def build(self, task: Task) -> "Oracle":
        return Oracle(task.spec, self.planner, Simulators(task, self.simulation.count()))


class OracleState(NamedTuple):
    """Nothing is learned."""


class Watch:
    """The environment that an oracle sees, and what went wrong since it was last asked."""

    env: gymnasium.Env | None = None
    failure: UserError | None = None


@dataclass(frozen=True)
class Oracle:
    """Model predictive control on the simulator itself, in one environment at a time.

    The exception to the rule that agents are pure: its actions depend on the state of the environment it watches.
    """

    spec: TaskSpec
    planner: Planner
    simulators: Simulators
    seen: Watch = field(default_factory=Watch, compare=False)

    @property
    def bounds(self) -> Bounds:
        return Bounds(jnp.array(self.spec.action_low), jnp.array(self.spec.action_high))

    def watch(self, env: gymnasium.Env | None) -> None:
        """Plan from the state of `env` from now on; None: it is out of sight."""
        self.seen.env = env

    def check(self) -> None:
        """Raises the `UserError` that the last plan met, if any; a compiled program cannot raise it."""
        failure, self.seen.failure = self.seen.failure, None
        if failure is not None:
            raise failure

    def init(self, key: Key[Array, ""]) -> OracleState:
        return OracleState()

    def start(self, batch: int) -> mpc.Control:
        return mpc.start(self.planner, self.bounds, batch)

    def act(
        self,
        state: OracleState,
        memory: mpc.Control,
        obs: Float[Array, "batch obs"],
        key: Key[Array, ""],
        *,
        explore: bool,
    ) -> tuple[Float[Array, "batch action"], mpc.Control]:
        """Plan from where the watched environment is, whatever `obs` says. Raises `UserError` for several rows."""
        del state, explore
        if len(obs) > 1:
            raise UserError(f"the oracle acts in one environment at a time, not for {len(obs)} observations")
        return mpc.act(self.planner, key, lambda obs: self._objective, memory, obs, self.bounds)

    def learn(
        self, state: OracleState, replay: Replay, new: Int[Array, ""], key: Key[Array, ""]
    ) -> tuple[OracleState, Metrics]:
        """Nothing."""
        return state, {}

    def _objective(
        self, key: Key[Array, ""], actions: Float[Array, "candidates horizon action"]
    ) -> Float[Array, "candidates"]:
        """Pure as long as the environment stands still, which it does while its next action is planned."""
        values = jax.ShapeDtypeStruct(actions.shape[:1], jnp.float32)
        return jax.pure_callback(self._simulate, values, actions, vmap_method="sequential")

    def _simulate(self, actions: Array) -> Float[np.ndarray, "candidates"]:
        """Returns from the environment's present state; not numbers where that fails, of which `check` tells."""
        try:
            if self.seen.env is None:
                raise UserError(
                    "the oracle plans with the simulator, so it acts only where it sees one: "
                    "evaluate the run instead of acting by hand"
                )
            return self.simulators.returns(self.simulators.snapshot(self.seen.env), np.asarray(actions))
        except UserError as error:
            self.seen.failure = error
            return np.full(len(actions), np.nan, np.float32)
