"""The packages of environments that `environments.py` tries."""

from typing import Any, NamedTuple

Entry = tuple[str, ...]
"""The name of an environment, and the settings that it needs, `key=value` without spaces."""


class Package(NamedTuple):
    """A package of environments, in one of the groups of packages that can be installed together."""

    requirement: str
    group: str
    environments: tuple[Entry, ...]


def _in(module: str, *names: str | Entry) -> tuple[Entry, ...]:
    """Environments of a module."""
    entries = ((name,) if isinstance(name, str) else name for name in names)
    return tuple((f"{module}:{name}", *options) for name, *options in entries)


def _weights(count: int) -> str:
    return f"task.reward_weights=[{','.join(['1.0'] * count)}]"


_SHORT = "train.trials=30"
"""For episodes that end after a step or two: the run must last until it is killed."""
_FLAT = 'task.wrappers=[{"PyFlyt.gym_envs:FlattenWaypointEnv":{"context_length":2}}]'
_STEERED = 'task.options.config={"action":{"type":"ContinuousAction"}}'
GROUPS: dict[str, dict[str, Any]] = {
    "newest": {"constraints": True},
    "gymnasium 1.2": {"constraints": False, "also": ("gymnasium==1.2.3", "mujoco==3.6.0")},
}
"""Groups; whether the versions in `constraints.txt` are used for what Foretell itself needs, and what else is pinned.

Several packages do not work with MuJoCo 4, though their requirements allow it."""
PACKAGES = (
    Package(
        "gymnasium[mujoco]==1.4.0",
        "newest",
        (("Pendulum-v1",), ("Reacher-v5",), ("MountainCarContinuous-v0",), ("HalfCheetah-v5",), ("Hopper-v5",)),
    ),
    Package(
        "glucosim==0.1.1",
        "newest",
        _in("glucosim", "glucosim/ClosedLoop-v0", "glucosim/BasalControl-v0", "glucosim/BolusAdvisor-v0"),
    ),
    Package(
        "anesthesim==0.1.0",
        "newest",
        _in(
            "anesthesim",
            "anesthesim/PropofolControl-v0",
            "anesthesim/CombinedAnesthesia-v0",
            "anesthesim/RemifentanilDosing-v0",
        ),
    ),
    Package(
        "cardiosim==0.1.0",
        "newest",
        _in(
            "cardiosim",
            "cardiosim/PacingControl-v0",
            "cardiosim/AntiarrhythmicDosing-v0",
            ("cardiosim/DefibrillationTiming-v0", _SHORT),
        ),
    ),
    Package("antibiosim==0.1.0", "newest", _in("antibiosim", ("antibiosim/DoseOptimization-v0", _SHORT))),
    Package("gym-sailing==0.2.1", "newest", _in("gym_sailing", "Motorboat-v0", "Sailboat-v0")),
    Package("gym-pusht==0.1.8", "newest", _in("gym_pusht", "gym_pusht/PushT-v0")),
    Package("lettuce-greenhouse-gym==0.1.3", "newest", _in("lettuce_greenhouse_gym", "LettuceGreenhouse-v0")),
    Package(
        "panda-gym==3.0.7",
        "newest",
        _in("panda_gym", "PandaReachDense-v3", "PandaPush-v3", "PandaPickAndPlaceJoints-v3", "PandaSlideDense-v3"),
    ),
    Package(
        "PyFlyt==0.21.0",
        "newest",
        _in(
            "PyFlyt.gym_envs", "PyFlyt/QuadX-Hover-v1", "PyFlyt/Rocket-Landing-v1", ("PyFlyt/QuadX-Waypoints-v1", _FLAT)
        ),
    ),
    Package(
        "mo-gymnasium==1.3.2",
        "newest",
        _in(
            "mo_gymnasium",
            ("mo-mountaincarcontinuous-v0", _weights(2)),
            ("mo-halfcheetah-v5", _weights(2)),
            ("mo-hopper-v5", _weights(3)),
        ),
    ),
    Package(
        "pybullet-envs-gymnasium==0.6.0",
        "newest",
        _in("pybullet_envs_gymnasium", "InvertedPendulumBulletEnv-v0", "ReacherBulletEnv-v0", "HopperBulletEnv-v0"),
    ),
    Package(
        "gymnasium-jsbsim==0.1.1",
        "newest",
        _in("gymnasium_jsbsim", "JSBSim-HeadingControlTask-Cessna172P-Shaping.STANDARD-NoFG-v0"),
    ),
    Package(
        "gym-electric-motor==3.0.3",
        "newest",
        _in("gym_electric_motor", "Cont-CC-PMSM-v0", "Cont-SC-SeriesDc-v0", "Cont-TC-SCIM-v0"),
    ),
    Package(
        "highway-env==1.12.1",
        "newest",
        _in("highway_env", "parking-v0", "lane-keeping-v0", ("highway-v0", _STEERED), "racetrack-v0"),
    ),
    Package("gym-softrobot==0.3.0", "newest", _in("gym_softrobot", "SoftPendulum-v0")),
    Package(
        "myosuite==2.12.1",
        "gymnasium 1.2",
        _in("myosuite", "myoElbowPose1D6MRandom-v0", "myoFingerReachFixed-v0"),
    ),
    Package(
        "shimmy[dm-control]==2.0.1",
        "gymnasium 1.2",
        _in(
            "shimmy",
            "dm_control/cartpole-swingup-v0",
            "dm_control/reacher-easy-v0",
            "dm_control/cheetah-run-v0",
            "dm_control/finger-spin-v0",
        ),
    ),
    Package(
        "gymnasium-robotics==1.4.2",
        "gymnasium 1.2",
        _in(
            "gymnasium_robotics",
            "FetchReach-v4",
            "PointMaze_UMaze-v3",
            "AntMaze_UMaze-v5",
            "AdroitHandDoor-v1",
            "FrankaKitchen-v1",
            "HandReach-v3",
            "FetchPushDense-v4",
        ),
    ),
    Package(
        "metaworld==3.0.0",
        "gymnasium 1.2",
        _in(
            "metaworld",
            ("Meta-World/MT1", "task.options.env_name=reach-v3"),
            ("Meta-World/MT1", "task.options.env_name=door-open-v3"),
        ),
    ),
    Package("gym-aloha==0.1.5", "gymnasium 1.2", _in("gym_aloha", "gym_aloha/AlohaTransferCube-v0")),
)
