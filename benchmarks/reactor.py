"""The stirred-tank reactor of pc-gym, with the set points of its own first example."""

import gymnasium
import numpy as np
from pcgym import make_env

STEPS = 100


def cstr() -> gymnasium.Env:
    """Keep the concentration at 0.85 and then at 0.9 mol/l by the temperature of the coolant, 295 to 302 K.

    An episode lasts 99 steps of 15 s; the reward is minus a thousand times the squared error.
    """
    return make_env(
        {
            "model": "cstr",
            "N": STEPS,
            "tsim": 25.0,
            "SP": {"Ca": [0.85] * (STEPS // 2) + [0.9] * (STEPS // 2)},
            "r_scale": {"Ca": 1e3},
            "x0": np.array([0.8, 330.0, 0.8]),
            "a_space": {"low": np.array([295.0]), "high": np.array([302.0])},
            "o_space": {"low": np.array([0.7, 300.0, 0.8]), "high": np.array([1.0, 350.0, 0.9])},
        }
    )
