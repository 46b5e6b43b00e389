"""Actions that last several steps of an environment, as in most work on the DeepMind Control Suite."""

from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Float


class RepeatedActions(gymnasium.Wrapper):
    """Executes each action several times in a row, and returns the sum of the rewards.

    Where the episode ends in between, the rest is not executed. Videos show every last step, at a lower rate.
    """

    def __init__(self, env: gymnasium.Env, count: int) -> None:
        """Wrap an environment.

        Args:
            env: the environment.
            count: steps of the environment for each action.
        """
        super().__init__(env)
        self._count = count
        if rate := (env.metadata or {}).get("render_fps"):
            self.metadata = {**env.metadata, "render_fps": max(1, round(rate / count))}

    def step(self, action: Float[np.ndarray, "action"]) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """All steps of one action."""
        total = 0.0
        for _ in range(self._count):
            obs, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return obs, total, terminated, truncated, info
