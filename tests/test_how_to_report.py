"""The page on reports: its commands work, and the sections, hints and options that it names are there."""

import re
import shlex
import shutil
from functools import partial
from pathlib import Path

import pytest

import foretell
from foretell.cli import main
from foretell.diagnostics import hints
from foretell.experiments import study as module
from foretell.experiments.executor import Ended, run_locally
from foretell.page import document
from foretell.runs.directory import RunDirectory

PAGE = (Path(__file__).parent.parent / "docs" / "how-to" / "report.md").read_text()


def block(language):
    return re.search(rf"^```{language}\n(.*?)^```\n", PAGE, re.S | re.M).group(1)


@pytest.fixture
def in_place(trained, tmp_path, monkeypatch):
    """Runs of the study are written instead of trained; the first one is a real run of another preset."""

    def written(member, cores, stop):
        if (member.arm.label, member.seed) == ("pets/cartpole", 0):
            shutil.copytree(trained, member.path)
            return Ended(member, 0)
        member.path.mkdir(parents=True)
        RunDirectory(member.path).write_config(member.arm.settings, member.arm.preset, member.seed)
        lines = "episode,env_steps,kind,return,length,wall_seconds\n0,200,random,-3,200,1\n1,400,train,90,200,2\n"
        (member.path / "episodes.csv").write_text(lines)
        return Ended(member, 0)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "run_locally", partial(run_locally, run=written, tick=0.01))


@pytest.mark.long
def test_its_commands_and_its_python_work(in_place, capsys):
    for line in block("").splitlines():
        assert main(shlex.split(line, comments=True)[1:]) == 0, line
    assert "What the model believed" in Path("report.html").read_text() and Path("curves.pdf").is_file()
    assert Path("runs/cartpole/pets-cartpole/0/videos/run-episode-1.mp4").is_file()
    exec(block("python"), {"foretell": foretell})
    assert capsys.readouterr().out.count("report      ") == 4
    assert "data-belief" not in Path("cartpole.html").read_text().partition("<script")[0]


def test_the_sections_and_the_hints_are_those_that_there_are():
    tables = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", PAGE, re.M)
    rows = ["Progress", *(name.strip() for name in tables if name.strip() not in ("section", "hint", "---"))]
    named = re.findall(r'"([\w ]+)": \w+\(data\)', Path(hints.__file__).read_text())
    assert rows == [*document._SECTIONS.values(), *named]
