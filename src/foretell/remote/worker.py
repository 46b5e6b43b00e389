"""What every process of a run on Ray does: it unpacks the run, and measures how busy it is."""

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cloudpickle
import gymnasium
import jax

from foretell.compilation import prepare_jax
from foretell.errors import UserError, brief
from foretell.training.events import RunInfo


def packed(run: RunInfo) -> bytes:
    """A run, pickled with its environment's registry entry, for another process. Raises `UserError`."""
    entry = gymnasium.registry.get(run.task.spec.env_id.rpartition(":")[2])
    try:
        return cloudpickle.dumps((run, entry))
    except Exception as error:  # of any kind, raised by the user's class
        raise UserError(f"'{run.task.spec.env_id}' cannot be sent to processes of Ray ({brief(error)})") from error


class Worker:
    """A process of a run on Ray: an actor, an evaluator or a learner."""

    def __init__(self, packed: bytes) -> None:
        """Unpack the run, and use the device that Ray has assigned to this process."""
        import ray

        share = ray.get_runtime_context().get_assigned_resources().get("GPU", 0.0)
        if 0.0 < share < 1.0:
            os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{0.9 * share:.3f}")
        prepare_jax(on_cpu=not share)
        self.run: RunInfo
        self.run, entry = cloudpickle.loads(packed)
        if entry is not None:
            gymnasium.registry.setdefault(entry.id, entry)
        self._busy, self._since, self._done = 0.0, time.monotonic(), 0

    @contextmanager
    def working(self, count: int) -> Iterator[None]:
        """Count the time within the block as busy, and `count` units as done."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._busy += time.monotonic() - start
            self._done += count

    def measured(self) -> dict[str, Any]:
        """Where this process is, and its work and busy share since the last call of this."""
        now = time.monotonic()
        seconds = max(now - self._since, 1e-9)
        row = {
            "node": platform.node(),
            "pid": os.getpid(),
            "device": jax.devices()[0].platform,
            "done": self._done,
            "per_second": round(self._done / seconds, 2),
            "busy": round(self._busy / seconds, 3),
        }
        self._busy, self._since, self._done = 0.0, now, 0
        return row


class Member:
    """The handle of a `Worker` in the main process; it can restart the worker."""

    def __init__(self, name: str, make: Callable[[], Any]) -> None:
        """Start the process.

        Args:
            name: name of the process in `processes.csv`.
            make: starts the process.
        """
        self.name, self._make, self.restarts = name, make, 0
        self._start()
        self._ages: list[int] = []

    def restart(self) -> None:
        """Restart the process; if it is alive, it is killed first."""
        import ray

        ray.kill(self.handle)
        self._start()
        self.restarts += 1

    def _start(self) -> None:
        self.handle = self._make()
        self.started = self.handle.__ray_ready__.remote()
        """A future that is done when the process has started."""

    def used(self, age: int) -> None:
        """Record the staleness of a policy or model that the process has used."""
        self._ages.append(age)

    def age(self) -> dict[str, float]:
        """Mean and maximum of the staleness since the last call of this."""
        ages, self._ages = self._ages or [0], []
        return {"age_mean": round(sum(ages) / len(ages), 3), "age_max": max(ages)}
