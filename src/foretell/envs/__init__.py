"""Batches of environments, their exact repetition, and copies of their states."""

from foretell.envs.environments import Environments, reset, succeeded
from foretell.envs.episodes import Episodes, empty_episodes

__all__ = ["Environments", "Episodes", "empty_episodes", "reset", "succeeded"]
