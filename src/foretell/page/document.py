"""The page itself: one HTML file with its style, its scripts, its data and its pictures, which needs no network."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import resources
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

import foretell
from foretell.diagnostics.verdicts import Verdict
from foretell.page.meanings import legend
from foretell.page.media import Medium
from foretell.page.tables import Table
from foretell.page.views import Tree

_SECTIONS = {
    "progress": "Progress",
    "curves": "Learning curves", "results": "Results", "hints": "Hints", "settings": "Settings", "time": "Time",
    "belief": "What the model believed", "diagnostics": "Diagnostics", "videos": "Videos", "made": "How they were made",
}  # fmt: skip


class SharedHint(NamedTuple):
    """A hint, and the runs that give it."""

    name: str
    text: str
    runs: str


class Content(NamedTuple):
    """Everything that the page shows."""

    title: str
    counts: str
    """How much it is about."""
    notes: Sequence[str]
    """What is missing, and why."""
    window: int
    """Points to smooth over."""
    data: Tree
    """What its script draws: `panels`, `times`, `beliefs`, `diagnostics` and the `meanings` of its numbers."""
    results: Table
    runs: Table
    settings: Table
    times: Table
    versions: Table
    hints: Sequence[SharedHint]
    verdicts: Mapping[str, Sequence[Verdict]]
    """On what was measured, by run."""
    diagnoses: Mapping[str, Mapping[str, Table]]
    """Tables by their names, by run."""
    pictures: Sequence[Medium]
    videos: Sequence[Medium]
    absent: Mapping[str, str]
    """Why sections are not there, or of what they say nothing, by section."""
    configurations: Sequence[tuple[str, str]]
    """Names of groups and their settings as text."""
    progress: Table | None = None
    """How far the runs are, in a page that follows them."""


def html(content: Content, *, live: bool = False) -> str:
    """The page. All texts are escaped: names of runs and settings may be anybody's.

    Args:
        content: what it shows.
        live: fetch the page again and again from where it came from, and Plotly's script once.
    """
    there = {
        "progress": content.progress,
        "curves": content.data["panels"], "results": True, "hints": content.hints, "settings": content.settings.rows,
        "time": content.data["times"], "belief": content.data["beliefs"], "videos": content.videos, "made": True,
        "diagnostics": content.diagnoses or content.data["diagnostics"] or content.pictures,
    }  # fmt: skip
    sections = [(name, title) for name, title in _SECTIONS.items() if there[name] or name in content.absent]
    return _template().render(
        **content._asdict(),
        sections=sections,
        titles=_SECTIONS,
        legend=legend,
        version=foretell.__version__,
        css=Markup(_text("page.css")),
        script=Markup(_text("page.js")),
        plotly=Markup("" if live else plotly_script()),
        live=live,
        succeeds=any("success" in group["bands"] for panel in content.data["panels"] for group in panel["groups"]),
    )


@lru_cache
def plotly_script() -> str:
    """The script of Plotly, as its Python package has it."""
    return (resources.files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


@lru_cache
def _template() -> Any:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment.from_string(_text("page.html"))


def _text(name: str) -> str:
    return (resources.files("foretell.page") / name).read_text(encoding="utf-8")
