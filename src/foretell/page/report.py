"""`foretell report`: what happened in runs, as one page or as a figure."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from foretell.errors import UserError, located
from foretell.page.chosen import Believed, beliefs
from foretell.page.content import content
from foretell.page.document import html
from foretell.page.images import write_images
from foretell.page.records import find_runs, grouped, read_record
from foretell.page.references import references
from foretell.runs import arguments
from foretell.runs.directory import writing
from foretell.runs.trust import opens_runs

FORMATS = ("html", "png", "pdf")


@opens_runs
def write_report(
    paths: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    *,
    format: str | None = None,
    smooth: int = 10,
    videos: int = 2,
    model_seconds: float = 60.0,
    seed: int = 0,
    say: Callable[[str], object] = lambda text: None,
    trust: bool = False,
) -> Path:
    """Write a report of runs, and of all runs of studies.

    Args:
        paths: one or several run directories, study directories, or folders with either.
        out: the file; by default `report.html`, or with the ending of `format`.
        format: `html` for a page, `png` or `pdf` for the learning curves alone; by default as the file ends.
        smooth: points to average over, for smoothed curves.
        videos: newest videos of each run in the page, at most.
        model_seconds: wall time for what the models believed, about: of the best run of each preset and environment
            that has a checkpoint, as far as the time is enough; 0: none.
        seed: of the episodes that are played for it, and of all noise.
        say: called with what is being done.
        trust: run code that the runs' settings name, even if they are not one's own.

    Returns:
        The file.

    Raises:
        UserError: if an argument is wrong, if there is no run, or if one cannot be read.
    """
    arguments.switch(trust=trust)
    smooth = arguments.whole_number("smooth", smooth, 1)
    videos, seed = arguments.whole_number("videos", videos, 0), arguments.seed_number(seed)
    model_seconds, say = arguments.number("model_seconds", model_seconds, 0.0), _saying(say)
    path = _path(out, arguments.optional_text("format", format))
    groups = grouped([read_record(run) for run in find_runs(arguments.paths("paths", paths))])
    if path.suffix != ".html":
        if not any(group.with_points for group in groups):
            raise UserError("none of the runs has finished an evaluation episode or a trial, so there is no curve")
        write_images(groups, references(), smooth, path)
        return path
    notes, without = list[str](), dict[str, list[str]]()
    believed = list(beliefs(groups, model_seconds, seed, notes, without, say)) if model_seconds > 0 else []
    say("writing the page")
    text = html(content(groups, believed, notes, smooth, videos, _unbelieving(model_seconds, believed, without)))
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return path


def _unbelieving(seconds: float, believed: Sequence[Believed], without: Mapping[str, Sequence[str]]) -> str:
    """Why the models of runs are not asked, as one sentence; empty if all are."""
    if without:
        return "; ".join(f"{', '.join(groups)}: {why}" for why, groups in without.items()) + "."
    if seconds > 0:
        return "" if believed else "No model could be asked; the notes above say why."
    return "Left out: --model-seconds 0."


def _path(out: str | Path | None, format: str | None) -> Path:
    """The file to write. Raises `UserError` for an unknown format, or a path without a name."""
    path = None if out is None else arguments.path("out", out)
    chosen = format or (path.suffix.removeprefix(".") if path is not None else "html")
    if chosen not in FORMATS:
        what = "format" if format else "the ending of the report"
        raise UserError(f"{what} must be one of {', '.join(FORMATS)}, not '{chosen}'")
    if path is None:
        return Path(f"report.{chosen}")
    if not path.name:
        raise UserError(f"out must be the path of a file, not '{path}'")
    return path if path.suffix == f".{chosen}" else path.with_name(f"{path.name}.{chosen}")


def _saying(say: Any) -> Callable[[str], object]:
    """The function of the user, whose failures name file and line. Raises `UserError` if it is none."""
    if not callable(say):
        raise UserError(f"say must be a function of a text, not {say!r}")

    def said(text: str) -> None:
        try:
            say(text)
        except Exception as error:
            raise UserError(f"the function say failed ({located(error)})") from error

    return said
