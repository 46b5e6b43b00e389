"""Search for action sequences."""

from foretell.planning.cem import CEM, Memory, Objective, Plan

__all__ = ["CEM", "Memory", "Objective", "Plan"]
