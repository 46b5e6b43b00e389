"""The tables and data of a run that continues, compared with its checkpoint and made again where they are spoilt.

A checkpoint notes the CRC-32 of `episodes.csv` and `metrics.csv`. Each file in `data/` holds, besides the steps, all
numbers of the episode's row but its wall time, so that either can be checked by the other.
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
    """What a run had written at its checkpoint."""

    episodes: int
    """Rows of `episodes.csv`."""
    metrics: int
    """Rows of `metrics.csv`."""
    numbers: Collection[int]
    """Of the finished episodes."""
    sums: Mapping[str, int]
    """CRC-32 of the tables, by the name of the file; empty if the checkpoint is from before they were noted."""


def table_sums(directory: RunDirectory) -> dict[str, int]:
    """The CRC-32 of each table as it is."""
    return {path.name: zlib.crc32(_read(path)) for path in (directory.episodes, directory.metrics)}


def repair(directory: RunDirectory, extent: Extent, warn: Callable[[str], None]) -> list[int]:
    """Make tables again as they were at the checkpoint, as far as that is possible; say what was done.

    Args:
        directory: of the run.
        extent: what was there at the checkpoint.
        warn: called with a sentence for everything that was not as it should be.

    Returns:
        The numbers of episodes without data.

    Raises:
        UserError: if the disk refuses.
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
    """Keep the whole rows of a spoilt table."""
    lines = _read(path).splitlines(keepends=True)
    columns = lines[0].count(b",") if lines else 0
    whole = [line for line in lines[: count + 1] if line.endswith(b"\n") and line.count(b",") == columns]
    lost = count + 1 - len(whole)
    warn(f"'{path}' is not as it was at the checkpoint{f'; {lost} of {count} rows are lost' if lost > 0 else ''}")
    if whole != lines[: count + 1]:
        _replace(path, b"".join(whole))


def _mend_episodes(
    directory: RunDirectory, extent: Extent, rows: Iterable[Row], files: Mapping[int, Row], warn: Callable[[str], None]
) -> None:
    """Write `episodes.csv` anew, from its rows that fit the data and, for the others, from the data."""
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
    text = f"; {listed(sorted(made))} made again from the data, wall times estimated" if made else ""
    lost = extent.episodes - len(table)
    lacks = f"; {lost} of {extent.episodes} rows are lost" if lost > 0 else ""
    warn(f"'{directory.episodes}' is not as it was at the checkpoint{text}{lacks}")


def _set_aside(directory: RunDirectory, numbers: Iterable[int], warn: Callable[[str], None]) -> None:
    """Rename data that are not of this run."""
    for number in numbers:
        path = directory.episode_path(number)
        with writing(path):
            path.rename(path.with_name(f"foreign-{path.name}"))
        warn(f"'{path}' is not of this run and was renamed to 'foreign-{path.name}'")


def _is_intact(path: Path, count: int, sums: Mapping[str, int]) -> bool:
    """Whether the first rows of a table are those at the checkpoint."""
    lines = _read(path).splitlines(keepends=True)[: count + 1] if count else []
    if path.name in sums:
        return zlib.crc32(b"".join(lines)) == sums[path.name]
    return not count or (len(lines) == count + 1 and lines[-1].endswith(b"\n"))


def _rows(path: Path, count: int) -> Iterable[Row]:
    """The first rows that can be read."""
    lines = _read(path).decode(errors="replace").splitlines()[1:]
    for line in csv.reader(lines[:count]):
        try:
            yield parse_episode(dict(zip(EPISODE_COLUMNS, line, strict=True)))
        except (TypeError, ValueError):
            continue


def _described(directory: RunDirectory, number: int) -> Row | None:
    """What the data of an episode say about its row; None if they cannot be read."""
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
    """Episodes by their numbers."""
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
