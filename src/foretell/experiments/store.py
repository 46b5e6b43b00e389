"""Copies a study to an object store, such as S3, and back, for machines that share no file system.

The store has the files of a study under the same names as its directory. The file `stored.json` of a run lists its
files and is written last, so an interrupted copy leaves the one before. Nothing here waits for JAX, since every worker
of a cluster imports it.
"""

import json
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from stat import S_ISREG
from tempfile import TemporaryDirectory
from types import MappingProxyType

from foretell.errors import UserError, brief

_LIST = "stored.json"
_AT_ONCE = 16
"""Files that are copied at the same time."""
_SKIPPED = (_LIST, ".lock")
_UNFINISHED = (".tmp", ".orbax-checkpoint-tmp")
"""In names of files and folders that are being written."""

Seen = Mapping[str, tuple[int, int]]
"""Size (bytes) and time of the last change (nanoseconds) of files, by name."""
_NOTHING: Seen = MappingProxyType({})


class Store:
    """A folder of an object store."""

    def __init__(self, uri: str) -> None:
        """Open a store. Args: uri: such as `s3://bucket/folder` or `gs://bucket/folder`. Raises `UserError`."""
        from pyarrow.fs import FileSystem

        self.uri = uri
        with self._used():
            self.files, path = FileSystem.from_uri(uri)
            self.files.create_dir(path)
        self.path = PurePosixPath(path)

    def push(self, local: Path, name: str = "", seen: Seen = _NOTHING, pattern: str = "**/*") -> Seen:
        """Copy the files of a folder that have changed since the last call.

        Args:
            local: the folder, such as a run directory; files may be added, changed and removed meanwhile.
            name: its name in the store; '' for the study.
            seen: what the last call returned; empty for the first.
            pattern: which files.

        Returns:
            The files that the store lists now; `seen` if one was removed before it was copied.

        Raises:
            UserError: if the store refuses.
        """
        files = _seen_in(local, pattern)
        if files == seen:
            return seen
        before = set(seen) or self._listed(name)
        try:
            self.upload(local, name, [file for file in files if files[file] != seen.get(file)])
        except FileNotFoundError:
            return seen
        with TemporaryDirectory() as folder:
            (Path(folder) / _LIST).write_text(json.dumps(sorted(files)))
            self.upload(Path(folder), name, [_LIST])
        with self._used():
            for file in before - files.keys():
                self.files.delete_file(str(self.path / name / file))
        return files

    def pull(self, name: str, local: Path) -> None:
        """Replace a run directory by that of the store, unless there is none, or the local one is as new.

        Raises `UserError` if the store refuses.
        """
        stored, here = self._listed(name), set(_seen_in(local))
        if _newest(stored) < _newest(here) or not stored - here:
            return
        aside = local.with_name(f"{local.name}.tmp")
        shutil.rmtree(aside, ignore_errors=True)
        self.download(name, aside, stored)
        shutil.rmtree(local, ignore_errors=True)
        aside.rename(local)

    def push_study(self, local: Path) -> None:
        """Copy the files of a study, but none of its runs. Raises `UserError` if the store refuses."""
        self.push(local, pattern="*")

    def pull_study(self, local: Path, check: Callable[[Path], None]) -> None:
        """Copy the files that the directory of a study lacks, but none of its runs.

        Args:
            local: the directory of the study.
            check: raises `UserError` unless it may be continued; called for a folder with the files of the store.

        Raises:
            UserError: if it may not be continued, or if the store refuses.
        """
        stored = self._listed("")
        with TemporaryDirectory() as folder:
            self.download("", Path(folder), stored)
            try:
                check(Path(folder))
            except UserError as error:
                raise UserError(str(error).replace(folder, self.uri).replace("--out", "--store")) from None
            for file in [file for file in stored if not (local / file).exists()]:
                (local / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(Path(folder) / file, local / file)

    def upload(self, local: Path, name: str, files: Collection[str]) -> None:
        """Copy files of a folder. Raises `UserError` if the store refuses, `FileNotFoundError` if a file is gone."""
        from pyarrow.fs import LocalFileSystem, copy_files

        gone = []

        def one(file: str) -> None:
            try:
                copy_files(str(local / file), str(self.path / name / file), LocalFileSystem(), self.files)
            except FileNotFoundError:
                if (local / file).exists():
                    raise
                gone.append(file)

        with self._used():
            for folder in {(self.path / name / file).parent for file in files}:
                self.files.create_dir(str(folder))
            _at_once(one, files)
        if gone:
            raise FileNotFoundError(gone[0])

    def download(self, name: str, local: Path, files: Collection[str]) -> None:
        """Copy files to a folder. Raises `UserError` if the store refuses."""
        from pyarrow.fs import LocalFileSystem, copy_files

        def one(file: str) -> None:
            (local / file).parent.mkdir(parents=True, exist_ok=True)
            copy_files(str(self.path / name / file), str(local / file), self.files, LocalFileSystem())

        with self._used():
            _at_once(one, files)

    def has(self, name: str) -> bool:
        """Whether there is such a file. Raises `UserError` if the store refuses."""
        with self._used():
            return self.files.get_file_info(str(self.path / name)).is_file

    @contextmanager
    def folder(self, name: str) -> Iterator[str]:
        """The path of a folder that is removed at the end."""
        path = str(self.path / name)
        try:
            yield path
        finally:
            with suppress(OSError):
                self.files.delete_dir(path)

    def _listed(self, name: str) -> set[str]:
        """The files of a folder of the store; none if there is no list."""
        if not self.has(str(PurePosixPath(name, _LIST))):
            return set()
        with self._used(), self.files.open_input_file(str(self.path / name / _LIST)) as file:
            return set(json.loads(file.read()))

    @contextmanager
    def _used(self) -> Iterator[None]:
        """Raise failures of the store as `UserError`."""
        try:
            yield
        except (OSError, ValueError) as error:
            raise UserError(f"cannot use the store '{self.uri}' ({brief(error)})") from None


class Copy:
    """The copy of one run in a store; without a store, nothing happens."""

    def __init__(self, uri: str | None, name: str, run: Path, log: Path) -> None:
        """Args: uri: of the store; name: of the run there; run: its directory; log: file with its output."""
        self._uri = uri
        self._store: Store | None = None
        self._name, self._run, self._log = name, run, log
        self._seen = _NOTHING
        self._copied = -1, 0

    def pull(self) -> None:
        """Take the run from the store if it is newer there. Raises `UserError`."""
        if self._uri:
            self._store = Store(self._uri)
            self._store.pull(self._name, self._run)
            self._copied = self._checkpoint(), 0

    def update(self, points: int = 0) -> None:
        """Copy the run to the store if it has a new checkpoint, or another number of points.

        If the store refuses, this is left for the next call.
        """
        if self._store and self._copied != (state := (self._checkpoint(), points)):
            with suppress(UserError):
                seen = self._store.push(self._run, self._name, self._seen)
                self._copied = self._copied if seen is self._seen else state
                self._seen = seen

    def _checkpoint(self) -> int:
        return _newest([f"checkpoints/{path.name}" for path in self._run.glob("checkpoints/*")])

    def finish(self) -> None:
        """Copy the run, which no process is changing, and its output. Raises `UserError`."""
        if self._store:
            self._store.push(self._run, self._name, self._seen)
            self._store.upload(self._log.parent, "logs", [self._log.name])


def _seen_in(folder: Path, pattern: str = "**/*") -> dict[str, tuple[int, int]]:
    """The finished files of a folder."""
    found = {}
    for path in folder.glob(pattern):
        name = path.relative_to(folder).as_posix()
        with suppress(FileNotFoundError):
            state = path.stat()
            if S_ISREG(state.st_mode) and path.name not in _SKIPPED and not any(part in name for part in _UNFINISHED):
                found[name] = state.st_size, state.st_mtime_ns
    return found


def _newest(files: Collection[str]) -> int:
    """The number of the newest checkpoint among the files of a run; -1 without any."""
    folders = (file.split("/")[1] for file in files if file.startswith("checkpoints/"))
    return max((int(folder) for folder in folders if folder.isdigit()), default=-1)


def _at_once(function: Callable[[str], None], files: Collection[str]) -> None:
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        list(threads.map(function, files))
