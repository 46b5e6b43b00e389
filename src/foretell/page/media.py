"""Videos and pictures of a run, as texts that a page holds itself."""

from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from foretell.page.records import Record

_TYPES = {".mp4": "video/mp4", ".png": "image/png"}
_MOST_BYTES = 8_000_000
"""Size of a file that is put into a page, at most."""


class Medium(NamedTuple):
    """A video or a picture."""

    run: str
    name: str
    uri: str
    """Its content as a `data:` address."""


def videos(record: Record, most: int) -> list[Medium]:
    """The newest videos of a run, at most so many."""
    found = record.directory.videos.rglob("*.mp4") if record.directory.videos.is_dir() else iter(())
    newest = sorted(found, key=lambda path: (path.stat().st_mtime, path.name), reverse=True)
    return _media(record, newest[:most], record.directory.videos)


def pictures(record: Record) -> list[Medium]:
    """The figures of `foretell diagnose` and `foretell inspect`."""
    directory = record.directory
    inspected = [directory.figures / name for name in ("prediction.png", "horizon_weights.png")]
    diagnosed = sorted(directory.diagnosis.glob("*.png")) if directory.diagnosis.is_dir() else []
    return _media(record, [path for path in [*diagnosed, *inspected] if path.is_file()], directory.path)


def data_uri(content: bytes, mime: str) -> str:
    """Bytes as a `data:` address."""
    return f"data:{mime};base64,{b64encode(content).decode()}"


def _media(record: Record, paths: Sequence[Path], folder: Path) -> list[Medium]:
    small = [path for path in paths if path.stat().st_size <= _MOST_BYTES]
    return [
        Medium(record.name, str(path.relative_to(folder)), data_uri(path.read_bytes(), _TYPES[path.suffix]))
        for path in small
    ]
