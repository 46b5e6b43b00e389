"""Steps in the order in which they were taken, for agents that learn from whole trajectories."""

from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Int


class Trajectories(NamedTuple):
    """Steps taken since the last call of `learn`, time first. All environments are stepped together."""

    obs: Float[Array, "time environments obs"]
    action: Float[Array, "time environments action"]
    """As the agent chose it, in the environment's units."""
    reward: Float[Array, "time environments"]
    next_obs: Float[Array, "time environments obs"]
    terminated: Bool[Array, "time environments"]
    """Marks true ends only; a time limit is not one."""
    over: Bool[Array, "time environments"]
    """Marks the last steps of episodes, terminated or truncated."""
    time: Int[Array, "time environments"]
    """Number of the step within its episode, from 0."""
    valid: Bool[Array, "time environments"]
    """Whether the environment took a step: those whose episode is over may wait for the others."""
