"""Algorithms: each an arrangement of task, world model, planner and values; one file each."""

from foretell.agents.base import Agent, RunSettings, Schedule, watcher, watching
from foretell.agents.oracle import Oracle, OracleSettings
from foretell.agents.pets import PETS, PETSSettings
from foretell.agents.value_expansion import ValueExpansion, ValueExpansionSettings

AGENTS: dict[str, type[RunSettings]] = {
    "oracle": OracleSettings,
    "pets": PETSSettings,
    "value-expansion": ValueExpansionSettings,
}
"""The settings of every agent, by the name a preset gives in `agent`."""

__all__ = [
    "AGENTS",
    "PETS",
    "Agent",
    "Oracle",
    "OracleSettings",
    "PETSSettings",
    "RunSettings",
    "Schedule",
    "ValueExpansion",
    "ValueExpansionSettings",
    "watcher",
    "watching",
]
