"""Search for action sequences."""

from typing import Annotated

from pydantic import Discriminator, Tag

from foretell.planning import mpc
from foretell.planning.base import Bounds, Memory, Objective, Plan, Planner, Refiner
from foretell.planning.cem import CEM
from foretell.planning.mppi import MPPI
from foretell.planning.shooting import RandomShooting
from foretell.settings import kind_of

AnyPlanner = Annotated[
    Annotated[CEM, Tag("cem")] | Annotated[RandomShooting, Tag("random")] | Annotated[MPPI, Tag("mppi")],
    Discriminator(kind_of("cem")),
]
"""The section `planner` of a preset; its `kind` selects."""

__all__ = [
    "CEM",
    "MPPI",
    "AnyPlanner",
    "Bounds",
    "Memory",
    "Objective",
    "Plan",
    "Planner",
    "RandomShooting",
    "Refiner",
    "mpc",
]
