"""What the documentation claims about settings must be what the presets say."""

import re
import shlex
from pathlib import Path

import pytest

from foretell import registry
from foretell.cli.parser import parse
from foretell.experiments.files import study_names
from foretell.runs.presets import resolve
from foretell.runs.schema import setting_paths

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if page.parent.name not in ("reference", "_build"))
PAGES.append(DOCS.parent / "README.md")
PATHS = [path.split(".") for settings in registry.kinds("agent").values() for path in setting_paths(settings)]
KNOWN = {".".join(path[:2]) for path in PATHS}
SECTIONS = sorted({path[0] for path in PATHS if len(path) > 1})


def flat(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def settings(preset):
    return dict(flat(resolve(preset).model_dump(mode="json")))


def documented_departures(task):
    """The rows of the table that is headed by the two presets."""
    text = (DOCS / "algorithms" / "pets.md").read_text()
    table = text.partition(f"| setting | `pets/{task}-paper` | `pets/{task}` |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `([\w.]+)` \| ([^|]*) \| ([^|]*) \|", table, re.M)
    return {name: (paper.strip(), default.strip()) for name, paper, default in rows}


@pytest.mark.parametrize("task", ["cartpole", "halfcheetah"])
@pytest.mark.long
def test_every_departure_of_a_default_from_the_paper_is_documented_and_no_other(task):
    paper, default = settings(f"pets/{task}-paper"), settings(f"pets/{task}")
    departures = {name: (paper[name], default[name]) for name in paper if paper[name] != default[name]}
    del departures["description"]
    shown = {name: tuple(show(value) for value in pair) for name, pair in departures.items()}
    assert documented_departures(task) == shown


def show(value):
    if isinstance(value, bool) or value is None:
        return str(value).lower() if value is not None else "null"
    if isinstance(value, list):
        return ", ".join(show(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
@pytest.mark.long
def test_presets_settings_and_files_that_a_page_names_exist(page):
    text = page.read_text()
    for preset in re.findall(
        r"(?<![/:])\b(?:pets|steve|mve|ddpg|td3|sac|trpo|mbmpc|mbmf|imitation)/[a-z+0-9-]+\b(?![./])", text
    ):
        if preset not in study_names():
            resolve(preset)
    for name in re.findall(rf"(?:--set |`)((?:{'|'.join(SECTIONS)})\.\w+)", text):
        assert name in KNOWN
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert link.startswith("https://") or (page.parent / link).exists(), link


def anchors(page):
    """The headings of a page, as links name them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.S | re.M)
    found: list[str] = []
    for title in re.findall(r"^#+ (.*)$", text, re.M):
        name = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        found.append(f"{name}-{found.count(name)}" if name in found else name)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_sections_that_a_page_links_to_exist(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.S | re.M)
    for target, section in re.findall(r"\]\(((?!https?:)[^)#\s]*)#([^)\s]+)\)", text):
        assert section in anchors((page.parent / target) if target else page), f"{target}#{section}"


@pytest.mark.parametrize("page", sorted((DOCS / "algorithms").glob("*.md")), ids=lambda p: p.stem)
def test_a_page_on_an_algorithm_is_complete(page):
    """Idea, commands, equations, files with links, numbered details, provenance, metrics and results."""
    text = page.read_text()
    found = re.findall(r"^## (.*)$", text, re.M)
    assert {"Equations", "Where things are", "Implementation details", "Metrics", "Results"} <= {*found}
    before = text.partition("\n## ")[0]
    assert re.search(r"^foretell train ", before, re.M) and re.search(r"\(20\d\d|NeurIPS|TMLR|20\d\d", before)
    details = section(text, "Implementation details")
    items = re.split(r"^\d+\. ", details, flags=re.M)[1:]
    assert len(items) >= 5 and [item for item in items if "](../../src/foretell/" not in item] == []
    assert section(text, "Where things are").count("](../../src/foretell/") >= 4
    assert "provenance.md" in text or page.stem == "trpo"  # whose constants are in a table of its page


def section(text, title):
    """The text below a heading, up to the next one of its level."""
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_of_a_page_are_understood(page):
    text = re.sub(r"\\\n *", " ", page.read_text())
    for line in re.findall(r"^(?:\$ )?foretell (?!--version)(.*)$", text, re.M):
        assert parse(shlex.split(line, comments=True)).command, line


def test_every_fault_that_is_listed_has_a_test():
    rows = re.findall(r"^\| (?!fault|---)(.*) \| (.*) \| (.*) \|$", (DOCS / "reliability.md").read_text(), re.M)
    assert len(rows) >= 40
    for fault, _, tests in rows:
        files = re.findall(r"`(tests/[\w/]+\.py)`", tests)
        assert files and all((DOCS.parent / path).is_file() for path in files), fault
