"""Algorithms: each an arrangement of task, world model, planner and values; one file each."""

from foretell.agents.base import Agent, RunSettings, Schedule, watcher, watching
from foretell.agents.imitation import Imitator, ImitatorSettings
from foretell.agents.mbmpc import MBMPCSettings
from foretell.agents.oracle import Oracle, OracleSettings
from foretell.agents.pets import PETS, PETSSettings
from foretell.agents.trpo import TRPO, TRPOSettings
from foretell.agents.value_expansion import ValueExpansion, ValueExpansionSettings

AGENTS: dict[str, type[RunSettings]] = {
    "imitation": ImitatorSettings,
    "mbmpc": MBMPCSettings,
    "oracle": OracleSettings,
    "pets": PETSSettings,
    "trpo": TRPOSettings,
    "value-expansion": ValueExpansionSettings,
}
"""The settings of every agent, by the name a preset gives in `agent`."""

__all__ = [
    "AGENTS",
    "PETS",
    "TRPO",
    "Agent",
    "Imitator",
    "ImitatorSettings",
    "MBMPCSettings",
    "Oracle",
    "OracleSettings",
    "PETSSettings",
    "RunSettings",
    "Schedule",
    "TRPOSettings",
    "ValueExpansion",
    "ValueExpansionSettings",
    "watcher",
    "watching",
]
