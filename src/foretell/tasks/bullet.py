"""Roboschool's humanoids in PyBullet, as ported by the package `pybullet_envs_gymnasium` (extra `bullet`)."""

import os
from typing import Any

import gymnasium
import numpy as np

from foretell.errors import UserError

try:
    import pybullet
    from pybullet_envs_gymnasium.gym_locomotion_envs import HumanoidBulletEnv, HumanoidFlagrunBulletEnv
    from pybullet_utils.bullet_client import BulletClient
except ImportError as error:
    raise UserError("PyBullet is not installed; run pip install 'foretell[bullet]'") from error


class _Server(BulletClient):
    """A physics server of its own that prints nothing on the terminal."""

    def __init__(self) -> None:
        self._shapes: dict[Any, Any] = {}
        self._pid, self._client = os.getpid(), pybullet.connect(pybullet.DIRECT)


class _Repeatable(gymnasium.Env):
    """Resets twice at first: only from the second reset on an episode depends on its seed and actions alone."""

    physicsClientId: int

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        if self.physicsClientId < 0:
            self._p = _Server()
            self._p.setPhysicsEngineParameter(deterministicOverlappingPairs=1)
            self.physicsClientId, self.ownsPhysicsClient = self._p._client, True
            super().reset(seed=seed)
        return super().reset(seed=seed, options=options)


class BulletHumanoid(_Repeatable, HumanoidBulletEnv):
    """Run straight ahead."""


class BulletFlagrun(_Repeatable, HumanoidFlagrunBulletEnv):
    """Run to a flag that moves."""
