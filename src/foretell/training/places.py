"""Where a run acts, learns and evaluates: in this process, or in others."""

from typing import Protocol, runtime_checkable

from foretell.training.evaluator import Evaluating, Evaluator
from foretell.training.events import RunInfo
from foretell.training.interactor import Interacting, Interactor
from foretell.training.learner import Learner, Learning
from foretell.training.stopwatch import Stopwatch


@runtime_checkable
class Places(Protocol):
    """Makes the interactor, the learner and the evaluator of a run."""

    def interactor(self, run: RunInfo, watch: Stopwatch) -> Interacting:
        """The object that acts in the run's environments."""

    def learner(self, run: RunInfo) -> Learning:
        """The object that learns."""

    def evaluator(self, run: RunInfo) -> Evaluating:
        """The object that plays the evaluation episodes."""


class Here:
    """Makes all three in this process."""

    def interactor(self, run: RunInfo, watch: Stopwatch) -> Interacting:
        return Interactor(run, watch)

    def learner(self, run: RunInfo) -> Learning:
        return Learner(run.agent, run.seed)

    def evaluator(self, run: RunInfo) -> Evaluating:
        return Evaluator(run)
