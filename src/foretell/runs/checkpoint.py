"""Checkpoints of a whole run, written aside and renamed by Orbax; a damaged one is set aside, the one before used."""

import json
import logging
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from threading import Lock
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from foretell.errors import UserError, brief

logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax reports its every step, and again what it raises
_PLAIN = re.compile(r"[\w./ +=@,~^%-]+")
_OS_ERROR = re.compile(r"os_error_code='(\d+)'")
_ORBAX = Lock()
"""Held while Orbax works: it numbers what it does in one place, so that two threads would wait for each other's."""
_ADDED = {"counters.evaluated_at", "counters.added"}
"""Arrays that checkpoints of earlier versions lack; they keep their values."""
_SMALL = 2**16
"""Bytes up to which arrays are stored as one row of bytes, since Orbax takes up to a millisecond for each array."""


class Checkpoints:
    """The newest few checkpoints of one run, numbered in the order they were saved."""

    def __init__(self, directory: Path, *, keep: int | None = None) -> None:
        """For writing, keeping the newest `keep`; or, without it, for reading, when nothing on disk is touched."""
        self._keep = keep
        self.restored: int | None = None
        """The number of the checkpoint that was read last."""
        self._directory = directory.resolve()
        self._proven = False
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._written: Future | None = None
        items = {"run": ocp.StandardCheckpointHandler(), "notes": ocp.JsonCheckpointHandler()}
        self._orbax = ocp.Checkpointer(_WithChecksums(**items))
        if keep is not None:
            self._make_room()
        with ExitStack() as stack:
            self._place = stack.enter_context(_plain(self._directory))
            self._released = stack.pop_all()

    @property
    def exist(self) -> bool:
        """Whether any was ever finished, damaged ones included."""
        return bool(self._numbers()) or any(self._directory.glob("damaged-*"))

    def save(self, number: int, tree: Any, notes: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Write `tree` in the background; the first one is read again there.

        Args:
            number: greater than those before.
            tree: arrays on the host, which must not change until `wait` returns.
            notes: what else is to be known of it, as JSON has it.

        Raises:
            UserError: if the one before could not be written, or not read again.
        """
        self.wait()
        self._written = self._thread.submit(self._write, number, tree, dict(notes))

    def wait(self) -> None:
        """Return when everything saved is on disk. Raises `UserError` if it could not be written, or not read again."""
        written, self._written = self._written, None
        if written is not None:
            written.result()

    def restore(self, like: Any, warn: Callable[[str], None]) -> Any:
        """The newest checkpoint that can be read, in the structure of `like`; damaged ones are renamed when writing.

        Raises `UserError` if there is none, or if it was made with other settings than `like`; then none is renamed.
        """
        damaged: dict[int, str] = {}
        like = jax.tree.map(lambda leaf: leaf if isinstance(leaf, jax.Array) else np.asarray(leaf), like)
        for number in self._numbers():
            try:
                tree = self._read(number, like)
            except UserError:
                raise
            except Exception as error:  # Orbax raises many types for damage
                damaged[number] = brief(error)
            else:
                for bad, reason in damaged.items():
                    warn(f"checkpoint {bad} is damaged, using the one before ({reason})")
                self._set_aside(damaged)
                self.restored, self._proven = number, True
                return tree
        if damaged:
            raise UserError(f"no readable checkpoint in {self._directory} ({next(iter(damaged.values()))})")
        raise UserError(f"no checkpoint in {self._directory} yet")

    def notes(self, number: int | None = None) -> dict[str, Any]:
        """What was noted with a checkpoint, by default the newest whose notes can be read; nothing if there is none."""
        for at in self._numbers() if number is None else [number]:
            try:
                _check_files(self._directory / str(at), "notes")
                return self._item(at, "notes", ocp.args.JsonRestore())
            except Exception:  # Orbax raises many types for damage
                continue
        return {}

    def close(self) -> None:
        """As `wait`; afterwards nothing can be saved."""
        with self._released, self._thread:
            try:
                self.wait()
            finally:
                self._orbax.close()

    def _make_room(self) -> None:
        with self._refusals():
            self._directory.mkdir(parents=True, exist_ok=True)
        for unfinished in self._directory.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(unfinished, ignore_errors=True)

    def _write(self, number: int, tree: Any, notes: dict[str, Any]) -> None:
        with self._refusals():
            items = {"run": ocp.args.StandardSave(_packed(tree)), "notes": ocp.args.JsonSave(notes)}
            with _ORBAX:
                self._orbax.save(self._place / str(number), args=_Items(**items))
            for old in self._numbers()[self._keep :]:
                shutil.rmtree(self._directory / str(old))
        if not self._proven:
            self._prove(number, tree)

    def _numbers(self) -> list[int]:
        """Of the finished checkpoints, the newest first."""
        return sorted((int(path.name) for path in self._directory.glob("*") if path.name.isdecimal()), reverse=True)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Raise what Orbax raises when it cannot write as a `UserError`."""
        try:
            yield
        except Exception as error:  # of many types
            code = _OS_ERROR.search(str(error))  # of tensorstore
            reason = os.strerror(int(code[1])) if code else getattr(error, "strerror", None) or brief(error)
            raise UserError(f"cannot write a checkpoint in '{self._directory}': {reason}") from error

    def _prove(self, number: int, tree: Any) -> None:
        """Raises `UserError` unless a checkpoint can be read."""
        try:
            self._read(number, tree)
        except Exception as error:
            place = self._directory / str(number)
            raise UserError(f"the checkpoint '{place}' was written but cannot be read ({brief(error)})") from error
        self._proven = True

    def _read(self, number: int, like: Any) -> Any:
        if (self._directory / str(number) / "default").is_dir():
            raise UserError(
                f"checkpoint {number} in {self._directory} is of an earlier Foretell, whose runs this one cannot read"
            )
        _check_files(self._directory / str(number))  # before Orbax, whose threads print what they raise
        stored = self._item(number, "run", ocp.args.StandardRestore())
        there, wanted = json.loads(stored["layout"].tobytes()), _layout(_named(like))
        for name in sorted(there.keys() | wanted.keys() - _ADDED):
            if there.get(name) != wanted.get(name):
                raise UserError(
                    f"checkpoint {number} in {self._directory} does not fit the run's settings: '{name}' is "
                    f"{there.get(name)}, not {wanted.get(name)}; undo the change to config.yaml"
                )
        return _unpacked(stored, like)

    def _item(self, number: int, name: str, arguments: ocp.args.CheckpointArgs) -> Any:
        with _ORBAX:
            return self._orbax.restore(self._place / str(number), args=_Items(**{name: arguments}))[name]

    def _set_aside(self, damaged: Iterable[int]) -> None:
        if self._keep is None:
            return
        for number in damaged:
            aside = self._directory / f"damaged-{number}"
            shutil.rmtree(aside, ignore_errors=True)
            (self._directory / str(number)).rename(aside)


@contextmanager
def _plain(directory: Path) -> Iterator[Path]:
    """A path to a folder without characters that Orbax takes for patterns, or for separators of folders."""
    if _PLAIN.fullmatch(str(directory)):
        yield directory
        return
    try:
        where = gettempdir() if _PLAIN.fullmatch(gettempdir()) else "/tmp"
        with TemporaryDirectory(prefix="foretell-", dir=where) as folder:
            link = Path(folder).resolve() / "checkpoints"
            link.symlink_to(directory, target_is_directory=True)
            yield link
    except OSError as error:
        raise UserError(f"cannot use '{directory}': {error.strerror or error}; choose a plainer path") from error


def latest_notes(directory: Path) -> dict[str, Any]:
    """What was noted with the newest checkpoint in a folder; nothing if there is none."""
    if not directory.is_dir():
        return {}
    with closing(Checkpoints(directory)) as checkpoints:
        return checkpoints.notes()


_CHECKSUMS = "checksums.json"


class _WithChecksums(ocp.CompositeCheckpointHandler):
    """Writes a checksum of every file beside them, before the folder gets its final name."""

    def finalize(self, directory: Any) -> None:
        super().finalize(directory)
        (directory / _CHECKSUMS).write_text(json.dumps(_checksums(Path(directory))))


@ocp.args.register_with_handler(_WithChecksums, for_save=True, for_restore=True)
class _Items(ocp.args.Composite):
    """What to save or to read, by name."""


def _check_files(directory: Path, item: str = "") -> None:
    """Raise `ValueError` if any file of a finished checkpoint, or of one of its items, is not as it was written."""
    written, found = json.loads((directory / _CHECKSUMS).read_text()), _checksums(directory, item or "*")
    written = {name: checksum for name, checksum in written.items() if name.startswith(item)}
    if changed := sorted(name for name in written.keys() | found.keys() if written.get(name) != found.get(name)):
        raise ValueError(f"'{changed[0]}' is not as it was written")


def _checksums(directory: Path, items: str = "*") -> dict[str, int]:
    """CRC-32 of the files of all items, or of one."""
    files = sorted(path for path in directory.glob(f"{items}/**/*") if path.is_file())
    return {path.relative_to(directory).as_posix(): zlib.crc32(path.read_bytes()) for path in files}


def _packed(tree: Any) -> dict[str, np.ndarray]:
    """What is stored: large arrays as they are, small ones as one row of bytes, the names and shapes of all."""
    leaves = _named(tree)
    small = b"".join(leaf.tobytes() for leaf in leaves.values() if _is_small(leaf))
    rows = {"layout": json.dumps(_layout(leaves)).encode(), "small": small}
    stored = {name: np.frombuffer(row, np.uint8) for name, row in rows.items() if row}  # Orbax refuses empty arrays
    return stored | {f"large.{name}": leaf for name, leaf in leaves.items() if not _is_small(leaf)}


def _unpacked(stored: Mapping[str, np.ndarray], like: Any) -> Any:
    """The tree that was packed, found by name; leaves are on the device where those of `like` are."""
    wanted, found, start = _named(like), {}, 0
    for name in json.loads(stored["layout"].tobytes()):
        leaf = wanted[name]
        if _is_small(leaf):
            row = stored["small"][start : start + leaf.nbytes] if leaf.size else b""
            found[name], start = np.ndarray(leaf.shape, leaf.dtype, bytes(row)).copy(), start + leaf.nbytes
        else:
            found[name] = stored[f"large.{name}"]
    tree = jax.tree.unflatten(jax.tree.structure(like), [found.get(name, leaf) for name, leaf in wanted.items()])
    return jax.tree.map(lambda leaf, value: jnp.asarray(value) if isinstance(leaf, jax.Array) else value, like, tree)


def _named(tree: Any) -> dict[str, np.ndarray]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf) for path, leaf in leaves}


def _layout(leaves: Mapping[str, np.ndarray]) -> dict[str, str]:
    return {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in leaves.items()}


def _is_small(leaf: np.ndarray) -> bool:
    return leaf.nbytes <= _SMALL
