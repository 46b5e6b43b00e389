"""Actor-critic learners."""

from typing import Annotated

from pydantic import Discriminator, Tag

from foretell.settings import kind_of
from foretell.values.learners.base import Actor, Learner, LearnerState
from foretell.values.learners.ddpg import DDPG
from foretell.values.learners.sac import SAC
from foretell.values.learners.td3 import TD3

AnyLearner = Annotated[
    Annotated[DDPG, Tag("ddpg")] | Annotated[TD3, Tag("td3")] | Annotated[SAC, Tag("sac")],
    Discriminator(kind_of("ddpg")),
]
"""The section `learner` of a preset; its `kind` selects."""

__all__ = ["DDPG", "SAC", "TD3", "Actor", "AnyLearner", "Learner", "LearnerState"]
