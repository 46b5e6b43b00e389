"""Foretell: model-based reinforcement learning for continuous control.

`train`, `resume`, `load` and `film` are the whole Python interface; the environments are registered with Gymnasium as
`foretell/...`.
"""

from typing import Any

import gymnasium

from foretell.errors import UserError

__version__ = "0.1.0"
__all__ = ["Run", "UserError", "film", "load", "resume", "train"]

gymnasium.register("foretell/Cartpole-v0", entry_point="foretell.tasks.cartpole:CartpoleEnv")
gymnasium.register("foretell/Reacher3D-v0", entry_point="foretell.tasks.reacher:ReacherEnv")
gymnasium.register("foretell/Pusher-v0", entry_point="foretell.tasks.pusher:PusherEnv")
gymnasium.register("foretell/HalfCheetah-v0", entry_point="foretell.tasks.halfcheetah:HalfCheetahEnv")
gymnasium.register("foretell/HalfCheetahTorso-v0", entry_point="foretell.tasks.cheetah_torso:HalfCheetahTorsoEnv")
for _name in ("Swimmer", "HalfCheetah", "Hopper", "Ant"):
    gymnasium.register(f"foretell/MBMF{_name}-v0", entry_point=f"foretell.tasks.nagabandi_simulators:{_name}Env")
for _name in ("BulletHumanoid", "BulletFlagrun"):
    gymnasium.register(f"foretell/{_name}-v0", entry_point=f"foretell.tasks.bullet:{_name}", max_episode_steps=1000)


def __getattr__(name: str) -> Any:
    """Import the interface when it is first used: `foretell --help` must not wait for JAX."""
    if name not in __all__:
        raise AttributeError(f"module 'foretell' has no attribute '{name}'")
    from foretell import api

    return getattr(api, name)
