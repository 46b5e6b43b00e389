"""Where the parts of a run work: in this process, or in others."""

from typing import Protocol, runtime_checkable

from foretell.training.evaluator import Evaluating, Evaluator
from foretell.training.events import RunInfo
from foretell.training.interactor import Interacting, Interactor
from foretell.training.learner import Learner, Learning
from foretell.training.stopwatch import Stopwatch


@runtime_checkable
class Places(Protocol):
    """Makes the parts of a run."""

    def interactor(self, run: RunInfo, watch: Stopwatch) -> Interacting:
        """What acts in its environments."""

    def learner(self, run: RunInfo) -> Learning:
        """What learns."""

    def evaluator(self, run: RunInfo) -> Evaluating:
        """What plays its evaluation episodes."""


class Here:
    """In this process."""

    def interactor(self, run: RunInfo, watch: Stopwatch) -> Interacting:
        return Interactor(run, watch)

    def learner(self, run: RunInfo) -> Learning:
        return Learner(run.agent, run.seed)

    def evaluator(self, run: RunInfo) -> Evaluating:
        return Evaluator(run)
