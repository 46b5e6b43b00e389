"""Actor-critic learners. Each registers itself as a kind of the section `learner`."""

from foretell.values.learners.base import Learner
from foretell.values.learners.ddpg import DDPG
from foretell.values.learners.inputs import standardized
from foretell.values.learners.redq import REDQ
from foretell.values.learners.sac import SAC
from foretell.values.learners.sac_v import SACV
from foretell.values.learners.state import Actor, LearnerState, Visits
from foretell.values.learners.td3 import TD3

__all__ = ["DDPG", "REDQ", "SAC", "SACV", "TD3", "Actor", "Learner", "LearnerState", "Visits", "standardized"]
