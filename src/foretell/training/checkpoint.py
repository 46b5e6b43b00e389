"""Checkpoints of a whole run, written aside and renamed by Orbax; a damaged one is set aside and the one before used."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from foretell.errors import UserError


class Checkpoints:
    """The newest few checkpoints of one run, numbered in the order they were saved."""

    def __init__(self, directory: Path, *, keep: int | None = None) -> None:
        """For writing, keeping the newest `keep`; or, without it, for reading, when nothing on disk is touched."""
        self._writes = keep is not None
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, cleanup_tmp_directories=self._writes, create=self._writes, read_only=not self._writes
        )
        self._directory = directory.resolve()
        self._manager = ocp.CheckpointManager(self._directory, options=options)

    def save(self, number: int, tree: Any) -> None:
        """Copy `tree` now, write it in the background. Raises `UserError` if the disk refuses."""
        try:
            self._manager.save(number, args=ocp.args.StandardSave(tree))
        except OSError as error:
            raise UserError(f"cannot write the checkpoint {self._directory / str(number)}: {error.strerror}") from error

    def restore(self, like: Any, warn: Callable[[str], None]) -> Any:
        """The newest checkpoint that can be read, in the structure of `like`; damaged ones are renamed when writing.

        Raises `UserError` if there is none.
        """
        for number in sorted(self._manager.all_steps(), reverse=True):
            try:
                return self._manager.restore(number, args=ocp.args.StandardRestore(like))
            except Exception as error:  # Orbax raises many types for damage
                reason = " ".join(str(error).split())[:120]
                warn(f"checkpoint {number} is damaged, using the one before ({reason})")
                if self._writes:
                    self._set_aside(number)
        raise UserError(f"no readable checkpoint in {self._directory}")

    def close(self) -> None:
        """Return when everything saved is on disk."""
        self._manager.wait_until_finished()
        self._manager.close()

    def _set_aside(self, number: int) -> None:
        (self._directory / str(number)).rename(self._directory / f"damaged-{number}")
        self._manager.reload()
