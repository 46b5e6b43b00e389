"""Search for action sequences. Each planner registers itself as a kind of the section `planner`."""

from foretell.planning import mpc
from foretell.planning.base import Bounds, Objective, Plan, Planner, Refiner, WarmStart, worst_if_not_finite
from foretell.planning.cem import CEM
from foretell.planning.imagined import objective_of
from foretell.planning.mppi import MPPI
from foretell.planning.shooting import RandomShooting

__all__ = [
    "CEM",
    "MPPI",
    "Bounds",
    "Objective",
    "Plan",
    "Planner",
    "RandomShooting",
    "Refiner",
    "WarmStart",
    "mpc",
    "objective_of",
    "worst_if_not_finite",
]
