"""Foretell: model-based reinforcement learning for continuous control.

`train`, `train_seeds`, `resume`, `load`, `film`, `study` and `write_report` are the Python interface, `Callback` and
`StopTraining` what a callback needs, `Ray` spreads a run over processes, and `register` makes a class of one's own
available by name. The environments are registered with Gymnasium as `foretell/...`.
"""

from foretell.starting import end_quietly, is_the_command

if is_the_command():
    end_quietly()  # while what follows is imported

from importlib import import_module
from typing import Any

import gymnasium

from foretell.errors import UserError

__version__ = "0.1.0"
__all__ = [
    "Callback",
    "Ray",
    "Run",
    "StopTraining",
    "UserError",
    "film",
    "load",
    "register",
    "resume",
    "study",
    "train",
    "train_seeds",
    "write_report",
]
_HOMES = {
    "Callback": "training.events",
    "Ray": "remote.settings",
    "StopTraining": "training.events",
    "register": "registry",
    "Run": "run",
    "study": "experiments.study",
    "train_seeds": "seeds",
    "write_report": "page.report",
}
"""Where what is not in `foretell.api` comes from."""

gymnasium.register("foretell/Cartpole-v0", entry_point="foretell.tasks.cartpole:CartpoleEnv")
gymnasium.register("foretell/Reacher3D-v0", entry_point="foretell.tasks.reacher:ReacherEnv")
gymnasium.register("foretell/Pusher-v0", entry_point="foretell.tasks.pusher:PusherEnv")
gymnasium.register("foretell/HalfCheetah-v0", entry_point="foretell.tasks.halfcheetah:HalfCheetahEnv")
gymnasium.register("foretell/HalfCheetahTorso-v0", entry_point="foretell.tasks.cheetah_torso:HalfCheetahTorsoEnv")
for _name in ("Swimmer", "HalfCheetah", "Hopper", "Ant"):
    gymnasium.register(f"foretell/MBMF{_name}-v0", entry_point=f"foretell.tasks.nagabandi_simulators:{_name}Env")
for _module, _names in {
    "planar": ("HalfCheetah", "Walker2d", "Hopper", "Swimmer"),
    "ant": ("Ant",),
    "humanoid": ("Humanoid",),
    "pusher": ("Pusher",),
    "acrobot": ("Acrobot",),
}.items():
    for _name in _names:
        _entry = f"foretell.tasks.observable.{_module}:{_name}Env"
        gymnasium.register(f"foretell/Observable{_name}-v0", entry_point=_entry)
for _name in ("BulletHumanoid", "BulletFlagrun"):
    gymnasium.register(f"foretell/{_name}-v0", entry_point=f"foretell.tasks.bullet:{_name}", max_episode_steps=1000)


def __getattr__(name: str) -> Any:
    """Import the interface when it is first used: `foretell --help` must not wait for JAX."""
    if name not in __all__:
        raise AttributeError(f"module 'foretell' has no attribute '{name}'")
    return getattr(import_module(f"foretell.{_HOMES.get(name, 'api')}"), name)


def __dir__() -> list[str]:
    return __all__
