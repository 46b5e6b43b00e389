"""Checkpoints of a run's state: arrays on disk, counters as whole numbers in memory."""

from collections.abc import Callable, Mapping

import jax
import numpy as np

from foretell.errors import UserError
from foretell.runs.checkpoint import Checkpoints
from foretell.runs.repair import Extent, listed, repair, table_sums
from foretell.training.clock import Counters, going_on
from foretell.training.events import RunInfo
from foretell.training.mirror import Mirror
from foretell.training.programs import whole
from foretell.training.recovery import recover
from foretell.training.state import RunState

_TABLES, _PHYSICS, _DROPPED = "tables", "physics", "dropped"
"""Names among the notes: checksums of tables, physical states of environments, numbers of dropped episodes."""
_UNKNOWN = -1
"""When the latest round of evaluation was, in checkpoints of earlier versions."""


class Saver:
    """Writes and reads the checkpoints of one run."""

    def __init__(self, run: RunInfo) -> None:
        self._run = run
        self.dropped: set[int] = set()
        """The numbers of episodes that could not be continued when the run was resumed."""
        self.physics: dict[int, np.ndarray] = {}
        """What `Environments.physics` returned when the checkpoint that was read was written."""
        self._checkpoints = Checkpoints(run.directory.checkpoints, keep=run.schedule.checkpoints)
        self._mirror: Mirror | None = None

    @property
    def has_any(self) -> bool:
        """Whether there is any checkpoint, damaged ones included."""
        return self._checkpoints.exist

    def prepare(self, state: RunState) -> None:
        """Copy the replay as it is, so that the first checkpoint does not have to."""
        if state.replay is not None:
            self._mirror = Mirror(whole(state.replay))

    def save(self, state: RunState, seconds: float, physics: Mapping[int, np.ndarray]) -> RunState:
        """Write a checkpoint in the background; the state as it is stored. Raises `UserError` if the disk refuses.

        Args:
            state: what to write; it may change afterwards.
            seconds: wall time of the run so far.
            physics: see `Environments.physics`.
        """
        counters = state.counters._replace(unsaved=0, unsaved_trials=0, seconds=seconds).plus(saved=1)
        state = state._replace(counters=counters)
        states = {str(row): found.tolist() for row, found in physics.items() if np.isfinite(found).all()}
        found = {_TABLES: table_sums(self._run.directory), _PHYSICS: states, _DROPPED: sorted(self.dropped)}
        self._checkpoints.wait()  # what is being written must not change
        self._checkpoints.save(counters.saved, self._on_host(state), {**self._run.notes, **found})
        return state

    def _on_host(self, state: RunState) -> RunState:
        """A copy, whose replay changes when the next one is made."""
        rest: RunState = jax.tree.map(np.array, whole(state._replace(replay=None)))
        replay = whole(state.replay)
        if replay is None:
            return rest
        self._mirror = self._mirror or Mirror(replay)
        return rest._replace(replay=self._mirror.follow(replay))

    def restore(self, like: RunState, warn: Callable[[str], None]) -> RunState:
        """The newest checkpoint that can be read, in the structure of `like`. Raises `UserError` if there is none."""
        try:
            unknown = like._replace(counters=like.counters._replace(evaluated_at=_UNKNOWN))
            state: RunState = self._checkpoints.restore(jax.tree.map(np.asarray, unknown), warn)
        except UserError:
            self.close()
            raise
        collected, episodes = jax.tree.map(np.array, (state.collected, state.episodes))  # to be changed in place
        counters = Counters(*(np.asarray(value).item() for value in state.counters))
        if counters.evaluated_at == _UNKNOWN:  # as if the agent had just been evaluated
            counters = counters._replace(evaluated_at=counters.env_steps)
        state = state._replace(collected=collected, episodes=episodes, counters=counters)
        self._repair(state, warn)
        return state._replace(counters=going_on(self._run.schedule, counters))

    def _repair(self, state: RunState, warn: Callable[[str], None]) -> None:
        """Bring tables and data to what they were."""
        counters, data = state.counters, self._run.directory.data
        notes = self._checkpoints.notes(self._checkpoints.restored)
        self.dropped = {*notes.get(_DROPPED, [])}
        self.physics = {int(row): np.array(numbers) for row, numbers in notes.get(_PHYSICS, {}).items()}
        finished = {*range(counters.begun)} - {*state.episodes.number.tolist()} - self.dropped
        sums = notes.get(_TABLES, {})
        missing = repair(self._run.directory, Extent(counters.episodes, counters.logged, finished, sums), warn)
        made = recover(self._run, state, self._run.directory.read_episodes(), missing) if missing else []
        if made:
            warn(f"'{data}' lacked {listed(made)}, played again from the actions in the checkpoint")
        if lost := [number for number in missing if number not in made]:
            warn(f"'{data}' lacks {listed(lost)}; films and diagnostics will do without")

    def close(self) -> None:
        """Return when everything saved is on disk."""
        self._checkpoints.close()
