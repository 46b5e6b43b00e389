"""A run whose parts work in processes of Ray."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from foretell.errors import UserError
from foretell.remote.connection import connected
from foretell.remote.interactors import RemoteEvaluator, RemoteInteractor
from foretell.remote.learner import RemoteLearner
from foretell.remote.learner_process import LearnerProcess
from foretell.remote.worker import Member, packed
from foretell.training.events import RunInfo
from foretell.training.stopwatch import Stopwatch


class RaySettings(NamedTuple):
    """How the parts of a run are spread over processes."""

    address: str | None = None
    """Of a cluster, such as `auto`; by default that of this machine, which is started if there is none."""
    actors: int = 1
    """Processes that act in the environments and step them; at most `train.environments`."""
    evaluators: int = 1
    """Processes that play evaluation episodes; at most `train.eval_environments`."""


class OnRay:
    """Makes the parts of a run as processes of Ray."""

    def __init__(self, settings: RaySettings) -> None:
        self._settings = settings
        self.members: list[Member] = []

    def interactor(self, run: RunInfo, watch: Stopwatch) -> RemoteInteractor:
        return RemoteInteractor(run, self._starter(run), self._settings.actors)

    def learner(self, run: RunInfo) -> RemoteLearner:
        return RemoteLearner(run, self._starter(run))

    def evaluator(self, run: RunInfo) -> RemoteEvaluator:
        return RemoteEvaluator(run, self._starter(run), self._settings.evaluators)

    def _starter(self, run: RunInfo) -> Callable[..., Member]:
        """Starts a process for this run: its class, its name, and its arguments."""

        def start(kind: type, name: str, *arguments: Any) -> Member:
            import ray

            sent, options = ray.put(packed(run)), self._resources(run, kind)
            remote = ray.remote(kind).options(**options)
            member = Member(name, lambda: remote.remote(sent, *arguments))
            self.members.append(member)
            return member

        return start

    def _resources(self, run: RunInfo, kind: type) -> dict[str, Any]:
        """What a process takes of the cluster: a core, or less if there are too few; learners a GPU where there is."""
        import ray

        schedule, total = run.schedule, ray.cluster_resources()
        evaluators = min(self._settings.evaluators, schedule.eval_environments) if schedule.eval_episodes else 0
        processes = 2 + min(self._settings.actors, schedule.environments) + evaluators
        cores = min(1.0, int(100 * total.get("CPU", 1.0) / processes) / 100)
        if kind is not LearnerProcess:
            return {"num_cpus": cores, "scheduling_strategy": "SPREAD"}
        return {"num_cpus": cores, "num_gpus": min(1.0, total.get("GPU", 0.0) / 2)}


def check_divides(run: RunInfo) -> None:
    """Raises `UserError` unless the agent's learning can be divided."""
    if run.agent.halves() is None:
        raise UserError(
            f"--runtime ray is for agents that learn within episodes with value expansion (steve, mve, ddpg, td3, sac), "
            f"not for '{run.preset}'; many runs at once are what `foretell study --ray` is for"
        )


@contextmanager
def on_ray(settings: RaySettings) -> Iterator[OnRay]:
    """Connect to Ray for one run; its processes end with the block. Raises `UserError`."""
    with connected(settings.address, "--runtime ray"):
        places = OnRay(settings)
        try:
            yield places
        finally:
            import ray

            for member in places.members:
                ray.kill(member.handle)
