"""Checkpoints of a run's state: arrays on disk, counters as whole numbers in memory."""

from collections.abc import Callable

import jax
import numpy as np

from foretell.envs import Episodes
from foretell.errors import UserError
from foretell.runs.checkpoint import Checkpoints
from foretell.runs.repair import Extent, repair, table_sums
from foretell.training.clock import Counters
from foretell.training.events import RunInfo
from foretell.training.state import RunState

_TABLES = "tables"
"""Where the checksums of tables are among the notes."""


class Saver:
    """Writes and reads the checkpoints of one run."""

    def __init__(self, run: RunInfo) -> None:
        self._directory, self._notes = run.directory, run.notes
        self._checkpoints = Checkpoints(run.directory.checkpoints, keep=run.schedule.checkpoints)

    @property
    def has_any(self) -> bool:
        """Whether there is any checkpoint, damaged ones included."""
        return self._checkpoints.exist

    def save(self, state: RunState, seconds: float) -> RunState:
        """Write a checkpoint in the background; the state as it is stored. Raises `UserError` if the disk refuses.

        Args:
            state: what to write; it may change afterwards.
            seconds: wall time of the run so far.
        """
        counters = state.counters._replace(unsaved=0, unsaved_trials=0, seconds=seconds).plus(saved=1)
        state = state._replace(counters=counters)
        self._checkpoints.save(counters.saved, state, {**self._notes, _TABLES: table_sums(self._directory)})
        return state

    def restore(self, like: RunState, warn: Callable[[str], None]) -> RunState:
        """The newest checkpoint that can be read, in the structure of `like`. Raises `UserError` if there is none."""
        try:
            state: RunState = self._checkpoints.restore(jax.tree.map(np.asarray, like), warn)
        except UserError:
            self.close()
            raise
        collected, episodes = jax.tree.map(np.array, (state.collected, state.episodes))  # to be changed in place
        counters = Counters(*(np.asarray(value).item() for value in state.counters))
        self._repair(episodes, counters, warn)
        return state._replace(collected=collected, episodes=episodes, counters=counters)

    def _repair(self, episodes: Episodes, counters: Counters, warn: Callable[[str], None]) -> None:
        """Bring tables and data to what they were."""
        finished = {*range(counters.begun)} - {*episodes.number.tolist()}
        sums = self._checkpoints.notes(self._checkpoints.restored).get(_TABLES, {})
        repair(self._directory, Extent(counters.episodes, counters.logged, finished, sums), warn)

    def close(self) -> None:
        """Return when everything saved is on disk."""
        self._checkpoints.close()
