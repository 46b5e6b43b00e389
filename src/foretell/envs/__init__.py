"""Batches of environments, their exact repetition, and copies of their states."""

from foretell.envs.environments import Environments, reset
from foretell.envs.episodes import Episodes, empty_episodes
from foretell.envs.simulators import succeeded

__all__ = ["Environments", "Episodes", "empty_episodes", "reset", "succeeded"]
