"""`foretell watch`: the page of runs while they are trained, served to browsers on this machine alone."""

import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from os.path import isdir
from pathlib import Path
from threading import Lock
from typing import Any

from foretell.errors import UserError, brief
from foretell.page.content import content
from foretell.page.document import html, plotly_script
from foretell.page.records import Record, find_runs, grouped, read_record
from foretell.page.tables import Table, duration
from foretell.runs import arguments
from foretell.runs.trees import value_at

_ADDRESS = "127.0.0.1"
_REST = 10
"""A page is made anew after so many times the seconds that the last one took, at least:"""
_LEAST = 2.0
_STAMPED = ("config.yaml", "episodes.csv", "metrics.csv", "diagnostics.csv")


class Watcher:
    """The page of the runs in some folders, as their files are now."""

    def __init__(self, paths: Sequence[str | Path], smooth: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Look nowhere yet.

        Args:
            paths: of runs, of studies, or of folders in which there may be some later.
            smooth: points to average over.
            clock: seconds.
        """
        self._paths, self._smooth, self._clock = paths, smooth, clock
        self._read: dict[Path, tuple[Any, Record]] = {}
        self._made = ""
        self._due = -float("inf")
        self._lock = Lock()

    def page(self) -> str:
        """The page; the last one, if that is fresh enough."""
        with self._lock:
            started = self._clock()
            if started >= self._due:
                self._made = self._make()
                self._due = self._clock() + max(_LEAST, _REST * (self._clock() - started))
            return self._made

    def _make(self) -> str:
        notes: list[str] = []
        records = [record for path in self._runs(notes) if (record := self._record(path, notes)) is not None]
        shown = content(grouped(records), (), notes, self._smooth, 0)
        return html(shown._replace(progress=progress(records), pictures=(), diagnoses={}, absent={}), live=True)

    def _runs(self, notes: list[str]) -> list[Path]:
        found: dict[Path, None] = {}
        for path in self._paths:
            try:
                found.update(dict.fromkeys(find_runs([path])))
            except UserError:
                notes.append(f"There is no run in '{path}' yet.")
        return list(found)

    def _record(self, path: Path, notes: list[str]) -> Record | None:
        """A run, read anew if its files have changed; as it was, while a row is being written."""
        stamp = [_stamp(path / name) for name in _STAMPED]
        known = self._read.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        try:
            record = read_record(path)
        except (UserError, OSError) as error:
            if known is None:
                notes.append(f"'{path}' cannot be read yet ({brief(error)}).")
            return None if known is None else known[1]
        self._read[path] = stamp, record
        return record


def progress(records: Sequence[Record], now: Callable[[], float] = time.time) -> Table:
    """How far each run is, and when it last wrote something."""
    return Table(
        ["run", "done", "latest return", "latest file written"], [_progress(record, now()) for record in records]
    )


def watch(paths: Sequence[str | Path], *, port: int = 8866, smooth: int = 10) -> ThreadingHTTPServer:
    """A server of the page; call its `serve_forever`, and `server_close` at the end.

    Args:
        paths: of runs, of studies, or of folders with either.
        port: on this machine; 0: any that is free.
        smooth: points to average over.

    Raises:
        UserError: if a folder does not exist, or the port cannot be used.
    """
    for path in paths:
        if not isdir(path):
            raise UserError(f"no directory '{path}'")
    watcher = Watcher(paths, arguments.whole_number("smooth", smooth, 1))
    arguments.whole_number("port", port, 0, 65535)
    try:
        return ThreadingHTTPServer((_ADDRESS, port), _handler(watcher))
    except OSError as error:
        raise UserError(f"cannot use port {port} ({brief(error)}); choose another --port") from error


def _handler(watcher: Watcher) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers with the page and with Plotly's script, and with nothing else."""

        def do_GET(self) -> None:
            """Called by the library, by this name."""
            host = self.headers.get("Host", "").rpartition(":")[0]
            if host not in (_ADDRESS, "localhost"):  # a page of somebody else whose name leads here
                self.send_error(403)
            elif self.path == "/":
                self._answer(watcher.page(), "text/html", "no-store")
            elif self.path == "/plotly.js":
                self._answer(plotly_script(), "text/javascript", "max-age=86400")
            else:
                self.send_error(404)

        def _answer(self, text: str, kind: str, cache: str) -> None:
            body = text.encode()
            self.send_response(200)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", cache)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    return Handler


def _progress(record: Record, now: float) -> list[str]:
    steps, trials = value_at(record.settings, "train.steps"), value_at(record.settings, "train.trials")
    rows = record.episodes
    done = rows[-1]["env_steps"] if rows else 0
    if not isinstance(steps, int):
        done, steps = sum(row["kind"] == "train" for row in rows), trials
    unit = "trials" if steps is trials else "steps"
    wanted = f"{steps:,}" if isinstance(steps, int) else "an unknown number of"
    latest = max((_stamp(record.directory.path / name) or 0.0 for name in _STAMPED), default=0.0)
    last = f"{rows[-1]['return']:.5g} ({rows[-1]['kind']})" if rows else "-"
    return [record.name, f"{done:,} of {wanted} {unit}", last, f"{duration(max(now - latest, 0.0))} ago"]


def _stamp(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
