"""Actor-critic learners. Each registers itself as a kind of the section `learner`."""

from foretell.values.learners.base import Actor, Learner, LearnerState
from foretell.values.learners.ddpg import DDPG
from foretell.values.learners.sac import SAC
from foretell.values.learners.td3 import TD3

__all__ = ["DDPG", "SAC", "TD3", "Actor", "Learner", "LearnerState"]
