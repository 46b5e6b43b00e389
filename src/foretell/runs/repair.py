"""Compares the tables and data of a resumed run with its checkpoint, and rebuilds what was changed or damaged.

A checkpoint stores the CRC-32 of `episodes.csv` and `metrics.csv`. Each file in `data/` holds the steps of an episode
and all values of its row in `episodes.csv` except the wall time, so each of the two can be checked against the other.
"""

import csv
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from foretell.errors import UserError
from foretell.runs.directory import EPISODE_COLUMNS, RunDirectory, parse_episode, replacing, writing

Row = dict[str, Any]
_COMPARED = ("kind", "return", "length", "env_steps", "end", "success")


class Extent(NamedTuple):
    """The content of the tables and data at a checkpoint."""

    episodes: int
    """Number of rows of `episodes.csv`."""
    metrics: int
    """Number of rows of `metrics.csv`."""
    numbers: Collection[int]
    """The numbers of the finished episodes."""
    sums: Mapping[str, int]
    """CRC-32 of the tables, by file name; empty in checkpoints of older versions, which did not store it."""


def table_sums(directory: RunDirectory) -> dict[str, int]:
    """The CRC-32 of each table in its current state."""
    return {path.name: zlib.crc32(_read(path)) for path in (directory.episodes, directory.metrics)}


def repair(directory: RunDirectory, extent: Extent, warn: Callable[[str], None]) -> list[int]:
    """Restore the tables as they were at the checkpoint, as far as possible, and report what was done.

    Args:
        directory: the run directory.
        extent: the content at the checkpoint.
        warn: called with one sentence for each fault.

    Returns:
        The numbers of the episodes whose data are missing.

    Raises:
        UserError: if a file cannot be written.
    """
    if not _is_intact(directory.metrics, extent.metrics, extent.sums):
        _mend_metrics(directory.metrics, extent.metrics, warn)
    intact = _is_intact(directory.episodes, extent.episodes, extent.sums)
    rows = list(_rows(directory.episodes, extent.episodes))
    files = {number: found for number in extent.numbers if (found := _described(directory, number)) is not None}
    if intact:
        foreign = [row["episode"] for row in rows if row["episode"] in files and not _fit(row, files[row["episode"]])]
        _set_aside(directory, foreign, warn)
    else:
        _mend_episodes(directory, extent, rows, files, warn)
        foreign = []
    return sorted({*extent.numbers} - (files.keys() - foreign))


def _mend_metrics(path: Path, count: int, warn: Callable[[str], None]) -> None:
    """Keep the complete rows of a damaged table."""
    lines = _read(path).splitlines(keepends=True)
    columns = lines[0].count(b",") if lines else 0
    whole = [line for line in lines[: count + 1] if line.endswith(b"\n") and line.count(b",") == columns]
    lost = count + 1 - len(whole)
    text = f"; {lost} of {count} rows are lost" if lost > 0 else ""
    warn(f"'{path}' was changed or damaged after the checkpoint{text}")
    if whole != lines[: count + 1]:
        _replace(path, b"".join(whole))


def _mend_episodes(
    directory: RunDirectory, extent: Extent, rows: Iterable[Row], files: Mapping[int, Row], warn: Callable[[str], None]
) -> None:
    """Rewrite `episodes.csv`: keep the rows that agree with the data, and rebuild the others from the data."""
    kept = {row["episode"]: row for row in rows if row["episode"] in extent.numbers}
    kept = {number: row for number, row in kept.items() if number not in files or _fit(row, files[number])}
    made = {number: row for number, row in files.items() if number not in kept and "env_steps" in row}
    order = {number: row.get("row", -1) for number, row in files.items()}
    numbers = sorted(kept.keys() | made, key=lambda number: (order.get(number, -1) < 0, order.get(number, 0), number))
    table, seconds = [], 0.0
    for number in numbers:
        seconds = kept[number]["wall_seconds"] if number in kept else seconds
        row = kept.get(number) or {**made[number], "wall_seconds": seconds}
        table.append(["" if row[name] is None else str(row[name]) for name in EPISODE_COLUMNS])
    lines = [",".join(row) + "\r\n" for row in table]
    _replace(directory.episodes, "".join([",".join(EPISODE_COLUMNS) + "\r\n", *lines]).encode() if table else b"")
    text = f"; {listed(sorted(made))} rebuilt from the data, wall times estimated" if made else ""
    lost = extent.episodes - len(table)
    lacks = f"; {lost} of {extent.episodes} rows are lost" if lost > 0 else ""
    warn(f"'{directory.episodes}' was changed or damaged after the checkpoint{text}{lacks}")


def _set_aside(directory: RunDirectory, numbers: Iterable[int], warn: Callable[[str], None]) -> None:
    """Rename data files that do not belong to this run."""
    for number in numbers:
        path = directory.episode_path(number)
        with writing(path):
            path.rename(path.with_name(f"foreign-{path.name}"))
        warn(f"'{path}' does not belong to this run and was renamed to 'foreign-{path.name}'")


def _is_intact(path: Path, count: int, sums: Mapping[str, int]) -> bool:
    """Whether the first rows of a table are unchanged since the checkpoint."""
    lines = _read(path).splitlines(keepends=True)[: count + 1] if count else []
    if path.name in sums:
        return zlib.crc32(b"".join(lines)) == sums[path.name]
    return not count or (len(lines) == count + 1 and lines[-1].endswith(b"\n"))


def _rows(path: Path, count: int) -> Iterable[Row]:
    """The readable ones of the first `count` rows."""
    lines = _read(path).decode(errors="replace").splitlines()[1:]
    for line in csv.reader(lines[:count]):
        try:
            yield parse_episode(dict(zip(EPISODE_COLUMNS, line, strict=True)))
        except (TypeError, ValueError):
            continue


def _described(directory: RunDirectory, number: int) -> Row | None:
    """The row of an episode according to its data; None if they cannot be read."""
    try:
        found = directory.read_episode(number)
        row = {"episode": number, "kind": str(found["kind"]), "return": float(found["returns"])}
        row["length"] = len(found["rewards"])
        if "row" in found:
            row |= parse_episode({name: str(found[name]) for name in ("env_steps", "end", "success")})
            row["row"] = int(found["row"])
    except (UserError, KeyError, TypeError, ValueError):
        return None
    return row


def _fit(row: Row, found: Row) -> bool:
    return all(row[name] == found[name] for name in _COMPARED if name in found)


def listed(numbers: Sequence[int]) -> str:
    """A list of episode numbers for a message."""
    shown = ", ".join(map(str, numbers[:3]))
    return f"episode{'s' if len(numbers) > 1 else ''} {shown}{f' and {len(numbers) - 3} more' if numbers[3:] else ''}"


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _replace(path: Path, content: bytes) -> None:
    with writing(path):
        with replacing(path) as aside:
            aside.write_bytes(content)
        if not content:
            path.unlink()
