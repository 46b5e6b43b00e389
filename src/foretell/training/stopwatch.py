"""Where a run's wall time goes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from foretell.compilation import compiled

_PHASES = ("plan", "step", "fit")
_latest = 0.0


def now() -> float:
    """Seconds that never go back. The clocks of virtual machines do, by microseconds."""
    global _latest
    _latest = max(_latest, time.perf_counter())
    return _latest


class Stopwatch:
    """Seconds by phase since the last row of metrics, and in all."""

    def __init__(self) -> None:
        self.resume(0.0)
        self._compiled = compiled()
        self._phases = dict.fromkeys(_PHASES, 0.0)
        self.steps = 0
        """Environment steps since the last row of metrics."""

    def resume(self, seconds: float) -> None:
        """Go on from so much wall time."""
        self._before, self._started, self._saved = seconds, time.monotonic(), time.monotonic()

    @property
    def seconds(self) -> float:
        """Wall time of the run, time before a resume included."""
        return self._before + time.monotonic() - self._started

    @property
    def since_saved(self) -> float:
        """Seconds since the last checkpoint."""
        return time.monotonic() - self._saved

    @property
    def step_seconds(self) -> float:
        """Seconds to plan and execute an environment step, since the last row of metrics."""
        return (self._phases["plan"] + self._phases["step"]) / max(self.steps, 1)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what is done within to a phase."""
        start = now()
        try:
            yield
        finally:
            self._phases[name] += now() - start

    def move(self, seconds: float, origin: str, to: str) -> None:
        """Count seconds to another phase than the one they are spent in."""
        self._phases[origin] -= seconds
        self._phases[to] += seconds

    def columns(self) -> dict[str, float]:
        """For a row of metrics."""
        programs, seconds = compiled()
        return {
            **{f"{phase}_seconds": spent for phase, spent in self._phases.items()},
            "compile_count": programs - self._compiled[0],
            "compile_seconds": seconds - self._compiled[1],
        }

    def lap(self) -> None:
        """A row of metrics has been written."""
        self._phases, self.steps = dict.fromkeys(_PHASES, 0.0), 0

    def saved(self) -> float:
        """A checkpoint is being written; the wall time to store in it."""
        self._saved = time.monotonic()
        return self.seconds
