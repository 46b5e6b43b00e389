"""The humanoids of Roboschool in PyBullet, as the package `pybullet_envs_gymnasium` has ported them (extra `bullet`)."""

import os
from typing import Any

import numpy as np

from foretell.errors import UserError

try:
    import pybullet
    from pybullet_envs_gymnasium.gym_locomotion_envs import HumanoidBulletEnv, HumanoidFlagrunBulletEnv
    from pybullet_utils.bullet_client import BulletClient
except ImportError as error:
    raise UserError("PyBullet is not installed; run pip install 'foretell[bullet]'") from error


class _Server(BulletClient):
    """A physics server of its own, which is started without a word on the terminal."""

    def __init__(self) -> None:
        self._shapes, self._pid, self._client = {}, os.getpid(), pybullet.connect(pybullet.DIRECT)


class _Repeatable:
    """Only after the first reset is an episode decided by its seed and actions alone, so there are two at first."""

    def reset(self: Any, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
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
