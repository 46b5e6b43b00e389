"""Algorithms: each an arrangement of task, world model, planner and values; one file each."""

from foretell.agents.base import Agent, Pretrained, RunSettings, Schedule
from foretell.agents.imitation import Imitator, ImitatorSettings
from foretell.agents.mbmpc import MBMPCSettings
from foretell.agents.pets import PETS, PETSSettings
from foretell.agents.policy_optimization import PolicyOptimization, PolicyOptimizationSettings
from foretell.agents.trpo import TRPO, TRPOSettings
from foretell.agents.value_expansion import ValueExpansion, ValueExpansionSettings

__all__ = [
    "PETS",
    "TRPO",
    "Agent",
    "Imitator",
    "ImitatorSettings",
    "MBMPCSettings",
    "PETSSettings",
    "PolicyOptimization",
    "PolicyOptimizationSettings",
    "Pretrained",
    "RunSettings",
    "Schedule",
    "TRPOSettings",
    "ValueExpansion",
    "ValueExpansionSettings",
]
