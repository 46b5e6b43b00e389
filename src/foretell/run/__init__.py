"""A run on disk with its trained agent, as Python sees it."""

from foretell.run.examined import Run
from foretell.run.trained import within_memory

__all__ = ["Run", "within_memory"]
