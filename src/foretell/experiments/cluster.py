"""Executes runs on a Ray cluster, or on this machine with Ray: one trial of Ray Tune for each run.

Ray keeps nothing of a run. A run resumes from its own directory, so a trial that is lost with its node is started again
on another one and goes on from the newest checkpoint. All nodes must see the directory of the study under one path, or
have a store to which runs are copied.
"""

import logging
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from queue import Empty, Queue
from threading import Event, Thread
from typing import Any, NamedTuple

from foretell.errors import UserError, brief
from foretell.experiments.directory import Member
from foretell.experiments.executor import Ended, Started, first_command
from foretell.experiments.store import Store
from foretell.experiments.sweep_file import Stop
from foretell.experiments.trial import Stops, execute
from foretell.remote.connection import connected
from foretell.runs.trust import code_names

_FAILURES = 20
"""How often a trial is started again after its node or its process was killed."""
_QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}
"""Environment variables of Tune: no files of theirs, no tables, no warnings about files."""


class Cluster(NamedTuple):
    """The Ray cluster, and what each run takes of it."""

    address: str | None = None
    """Of an existing cluster, such as `auto`; by default the one of this machine, which is started if there is none."""
    cpus: float = 1.0
    """Processor cores of a run."""
    gpus: float = 0.0
    """GPUs of a run; several runs share one with a fraction."""


def run_on_ray(
    members: Sequence[Member],
    stop: Event,
    *,
    cluster: Cluster,
    rule: Stop | None = None,
    past: Callable[[], Sequence[Member]] = list,
    store: Store | None = None,
    tick: float = 0.5,
) -> Iterator[Started | Ended | None]:
    """Execute all runs on a Ray cluster, an executor as `run_locally`.

    Args:
        members: the runs.
        stop: asks all of them to stop.
        cluster: where, and what each run takes.
        rule: stops runs early.
        past: the finished runs with which the rule compares them.
        store: where runs are copied; by default all nodes see their directories.
        tick: seconds after which None is yielded if nothing has happened.

    Raises:
        UserError: if Ray is missing, cannot be reached, or lacks what a run takes.
    """
    if not members:
        return
    if store is not None:
        store.push_study(members[0].log.parent.parent)
    with _connected(cluster) as stops:
        events: Queue[Started | Ended | Exception] = Queue()
        jobs = [_job(member, store, done=True) for member in (past() if rule is not None else ())]
        jobs += [_job(member, store, done=False) for member in members]
        work = Thread(target=_tune, args=(jobs, members, events, cluster, rule, stops, store), daemon=True)
        work.start()
        while work.is_alive() or not events.empty():
            if stop.is_set():
                stops.ask.remote()  # again and again, since the actor forgets it with its node
            try:
                event = events.get(timeout=tick)
            except Empty:
                yield None
                continue
            if isinstance(event, Exception):
                raise UserError(f"Ray Tune failed ({brief(event)})")
            if store is not None and isinstance(event, Ended):
                _take(store, event.member)
            yield event


def _take(store: Store, member: Member) -> None:
    """Copy a run that has ended, and its output, from the store."""
    store.pull(_name(member), member.path)
    if store.has(f"logs/{member.log.name}"):
        store.download("logs", member.log.parent, [member.log.name])


@contextmanager
def _connected(cluster: Cluster) -> Iterator[Any]:
    """Connect to Ray, or start it on this machine; yields the actor that says whether runs are to stop."""
    os.environ.update({name: value for name, value in _QUIET.items() if name not in os.environ})
    with connected(cluster.address, "--ray"):
        import ray

        _check_resources(cluster, ray.nodes())
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=True
        )
        yield ray.remote(num_cpus=0, max_restarts=-1)(Stops).options(scheduling_strategy=here).remote()


def _check_resources(cluster: Cluster, nodes: Sequence[dict[str, Any]]) -> None:
    """Raises `UserError` unless a node has what a run takes."""
    for name, asked in (("CPU", cluster.cpus), ("GPU", cluster.gpus)):
        most = max((node["Resources"].get(name, 0.0) for node in nodes if node["Alive"]), default=0.0)
        if asked > most and not os.environ.get("FORETELL_AUTOSCALING"):
            raise UserError(f"--{name.lower()}s {asked:g} is more than any node of the cluster has, {most:g}")


def _job(member: Member, store: Store | None, *, done: bool) -> dict[str, Any]:
    """What a worker must know of a run."""
    run, log, settings = member.path.resolve(), member.log.resolve(), member.arm.settings
    return {
        "words": first_command(member._replace(path=run, log=log)),
        "run": str(run),
        "log": str(log),
        "group": str(settings.task.env),
        "done": done,
        "cwd": os.getcwd(),
        "trust": any(code_names(settings.model_dump(mode="json"))),
        "store": store.uri if store else None,
        "name": _name(member),
    }


def _name(member: Member) -> str:
    """Of a run in the store: that in the directory of the study."""
    return f"{member.arm.folder}/{member.seed}"


def _tune(
    jobs: Sequence[dict[str, Any]],
    members: Sequence[Member],
    events: Queue,
    cluster: Cluster,
    rule: Stop | None,
    stops: Any,
    store: Store | None,
) -> None:
    """Run Ray Tune to its end."""
    from ray import tune

    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    of_run = {str(member.path.resolve()): member for member in members}
    numbers = list(range(len(jobs)))

    def put(trial: Any, event: Callable[[Member], Started | Ended]) -> None:
        job = jobs[trial.config["number"]]
        if not job["done"]:
            events.put(event(of_run[job["run"]]))

    trainable = tune.with_parameters(
        execute, jobs=jobs, cpus=cluster.cpus, gpus=cluster.gpus, stops=stops, rule=rule is not None
    )
    try:
        with _storage(members[0], store) as storage:
            tune.Tuner(
                tune.with_resources(trainable, {"cpu": cluster.cpus, "gpu": cluster.gpus}),
                param_space={"number": tune.grid_search(numbers)},
                tune_config=tune.TuneConfig(scheduler=scheduler_of(rule, jobs), reuse_actors=rule is None),
                run_config=tune.RunConfig(
                    name="study", verbose=0, callbacks=[_listener(put)], **storage,
                    failure_config=tune.FailureConfig(max_failures=_FAILURES),
                ),
            ).fit()  # fmt: skip
    except Exception as error:  # to be raised where the events are read
        events.put(error)


@contextmanager
def _storage(member: Member, store: Store | None) -> Iterator[dict[str, Any]]:
    """A folder that all nodes share, which Tune needs while it runs."""
    if store is not None:
        with store.folder(".tune") as path:
            yield {"storage_path": path, "storage_filesystem": store.files}
        return
    folder = member.log.resolve().parent / ".tune"
    try:
        yield {"storage_path": str(folder)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _listener(put: Callable[[Any, Callable[[Member], Started | Ended]], None]) -> Any:
    """The callback of Tune that passes on what happens to trials."""
    from ray.tune import Callback

    class Listener(Callback):
        put: Callable[[Any, Callable[[Member], Started | Ended]], None]

        def __getstate__(self) -> dict[str, Any]:
            return {}  # Tune stores its callbacks, but needs no old one

        def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
            self.put(trial, lambda member: Started(member, ()))

        def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
            self.put(trial, lambda member: _ended(member, trial.last_result or {}))

        def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
            text = f"its process or node was killed {_FAILURES + 1} times"
            self.put(trial, lambda member: Ended(member, 1, text))

    listener = Listener()  # Tune stores the class too, which must therefore not refer to the queue
    listener.put = put
    return listener


def _ended(member: Member, result: dict[str, Any]) -> Ended:
    """How a run has ended, according to its last report; one without an exit code was stopped by the rule."""
    if "code" not in result:
        return Ended(member, 0, "stopped early", result.get("time_total_s", 0.0))
    return Ended(member, result["code"], result["error"], result["seconds"])


def scheduler_of(rule: Stop | None, jobs: Sequence[dict[str, Any]]) -> Any:
    """The scheduler of Tune for a rule: a separate one for the runs of each environment.

    Args:
        rule: None to stop no run early.
        jobs: those of all trials, by the `number` in a trial's `config`; their `group` is the environment.
    """
    from ray.tune.schedulers import FIFOScheduler

    if rule is None:
        return FIFOScheduler()

    make = partial(_of_tune, rule)

    class Separately(FIFOScheduler):
        def __init__(self) -> None:
            super().__init__()
            self._parts: dict[str, Any] = defaultdict(make)

        def _part(self, trial: Any) -> Any:
            return self._parts[jobs[trial.config["number"]]["group"]]

        def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
            self._part(trial).on_trial_add(tune_controller, trial)

        def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
            self._part(trial).on_trial_error(tune_controller, trial)

        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict) -> str:
            return self._part(trial).on_trial_result(tune_controller, trial, result)

        def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict) -> None:
            if "steps" in result:  # not in that of a run that failed before its first point
                self._part(trial).on_trial_complete(tune_controller, trial, result)

        def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
            self._part(trial).on_trial_remove(tune_controller, trial)

    return Separately()


def _of_tune(rule: Stop) -> Any:
    """The scheduler of Tune for a rule."""
    from ray.tune.schedulers import ASHAScheduler, MedianStoppingRule

    common = {"time_attr": "steps", "metric": "return", "mode": "max", "grace_period": rule.after}
    if rule.rule == "median":
        never = float("inf")  # a run is not paused in favour of others, since it would have to start again
        return MedianStoppingRule(**common, min_samples_required=rule.runs, min_time_slice=never)
    return ASHAScheduler(**common, max_t=2**31, reduction_factor=rule.factor)
