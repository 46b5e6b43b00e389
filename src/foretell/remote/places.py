"""Acting, evaluation and learning of a run in processes of Ray."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from foretell.output import say
from foretell.remote.connection import connected
from foretell.remote.failures import lost
from foretell.remote.free_loop import FreeLoop
from foretell.remote.interactors import RemoteEvaluator, RemoteInteractor
from foretell.remote.learner import RemoteLearner
from foretell.remote.learner_process import LearnerProcess
from foretell.remote.processes import Processes
from foretell.remote.settings import Ray
from foretell.remote.worker import Member, packed
from foretell.training.events import Callback, RunInfo
from foretell.training.loop import Loop
from foretell.training.stopwatch import Stopwatch

_PATIENCE = 20.0
"""Seconds after which it is said that processes have not started."""


class OnRay:
    """Makes the interactor, learner and evaluator of a run as proxies of Ray processes, see `Places`."""

    def __init__(self, runtime: Ray) -> None:
        self.runtime = runtime
        self._members: list[Member] = []

    def interactor(self, run: RunInfo, watch: Stopwatch) -> RemoteInteractor:
        return RemoteInteractor(run, watch, self.starter(run), self.runtime.actors, lambda: self._learner.version)

    def learner(self, run: RunInfo) -> RemoteLearner:
        self._learner = RemoteLearner(run, self.starter(run))
        return self._learner

    def evaluator(self, run: RunInfo) -> RemoteEvaluator:
        return RemoteEvaluator(run, self.starter(run), self.runtime.evaluators)

    def measured(self) -> list[dict[str, Any]]:
        """A row of `processes.csv` for each process that is alive."""
        import ray

        asked = [(member, member.handle.measured.remote()) for member in self._members]
        rows = []
        for member, answer in asked:
            try:
                rows.append({"process": member.name, **ray.get(answer), "restarts": member.restarts, **member.age()})
            except Exception as error:  # it is restarted when it is needed
                if not lost(error):
                    raise
        return rows

    def report_waiting(self, stop: Event) -> None:
        """Until `stop` is set, say how many processes have not started yet, when it takes long."""
        import ray

        said = 0
        while not stop.wait(_PATIENCE):
            starts = [member.started for member in self._members]
            waiting = len(ray.wait(starts, num_returns=len(starts), timeout=0)[1]) if starts else 0
            if waiting not in (0, said):
                free = ray.available_resources().get("CPU", 0.0)
                say(f"waiting: {waiting} of {len(starts)} processes have not started; Ray has {free:g} free cores")
            said = waiting

    def close(self) -> None:
        """End the processes."""
        import ray

        for member in self._members:
            ray.kill(member.handle)

    def starter(self, run: RunInfo) -> Callable[..., Member]:
        """A function that starts a process for this run, given its class, its name and its arguments."""

        def start(kind: type, name: str, *arguments: Any) -> Member:
            import ray

            sent = ray.put(packed(run))
            remote = ray.remote(kind).options(**self._resources(run, kind))
            member = Member(name, lambda: remote.remote(sent, *arguments))
            self._members.append(member)
            return member

        return start

    def _resources(self, run: RunInfo, kind: type) -> dict[str, Any]:
        """What a process reserves: a core or less, see `share_of_cores`; a learner also a GPU, or half of one."""
        import ray

        nodes = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]
        evaluators = self.runtime.evaluators * bool(run.schedule.eval_episodes)
        cores = share_of_cores(nodes, 2 + self.runtime.actors + evaluators)
        if not issubclass(kind, LearnerProcess):
            return {"num_cpus": cores, "scheduling_strategy": "SPREAD"}
        return {"num_cpus": cores, "num_gpus": min(1.0, ray.cluster_resources().get("GPU", 0.0) / 2)}


def share_of_cores(nodes: Sequence[float], processes: int) -> float:
    """The cores that each process reserves: 1, or the largest multiple of 0.01 with which all fit on these nodes."""
    shares = (hundredths / 100 for hundredths in range(100, 0, -1))
    return next((share for share in shares if sum(int(cores / share) for cores in nodes) >= processes), 0.0)


def make_loop(run: RunInfo, callbacks: Sequence[Callback], elsewhere: OnRay | None) -> Loop:
    """The training loop of a run, here or in processes of Ray."""
    if elsewhere is None:
        return Loop(run, callbacks)
    kind = FreeLoop if run.schedule.free_running else Loop
    return kind(run, [*callbacks, Processes(elsewhere.measured)], elsewhere)


@contextmanager
def places(runtime: Ray | None, *, quiet: bool = False) -> Iterator[OnRay | None]:
    """Connect to Ray for one run; its processes end with the block. Yields None without Ray. Raises `UserError`."""
    if runtime is None:
        yield None
        return
    with connected(runtime.address, "--runtime ray"):
        if not quiet:
            say(f"on Ray: starting learners, actors ({runtime.actors}) and evaluators ({runtime.evaluators})")
        found, stop = OnRay(runtime), Event()
        if not quiet:
            Thread(target=found.report_waiting, args=(stop,), daemon=True).start()
        try:
            yield found
        finally:
            stop.set()
            found.close()
