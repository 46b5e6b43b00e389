"""The page on installation: its commands, the Containerfile and the extras that both name."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from foretell.cli import main
from foretell.cli.parser import parse

ROOT = Path(__file__).parent.parent
PAGE, CONTAINERFILE = (ROOT / "docs" / "install.md").read_text(), (ROOT / "Containerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {*PROJECT["optional-dependencies"]}


def commands(program):
    """The words of the commands of a program in the blocks of the page."""
    found = re.findall(r"^```(\w*)\n(.*?)^```\n", PAGE, re.S | re.M)
    lines = "".join(text for language, text in found if not language).splitlines()
    return [words[1:] for line in lines if (words := shlex.split(line, comments=True))[0] == program]


def arguments(text):
    """The `ARG` lines of a Containerfile."""
    return {*re.findall(r"^ARG (\w+)=", text, re.M)}


def test_extras_on_all_pages_exist():
    pages = [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "how-to").glob("*.md"), ROOT / "README.md"]
    named = [
        set(extra.split(",")) for page in pages for extra in re.findall(r"'(?:\.|foretell)\[(.+?)\]'", page.read_text())
    ]
    assert {"gpu", "onnx", "wandb"} <= set().union(*named) <= EXTRAS


def test_the_images_of_the_page_are_built_from_the_file():
    for words in (build := [words for words in commands("docker") if words[0] == "build"]):
        assert (ROOT / words[words.index("-f") + 1]).is_file() and words[-1] == "."
        for name, _, value in (word.partition("=") for word in words[1:] if "=" in word):
            assert name in arguments(CONTAINERFILE)
            assert name != "EXTRAS" or set(value.strip("[]").split(",")) <= EXTRAS
    comments = re.findall(r"^# (docker build [^#]*?)(?:   .*)?$", CONTAINERFILE, re.M)
    assert len(build) == len(comments) == 2


def test_containers_run_commands_of_foretell_where_the_page_says():
    runs = [words for words in commands("docker") if words[0] == "run"]
    assert len(runs) == 2 and '\nENTRYPOINT ["foretell"]\n' in CONTAINERFILE
    for words in runs:
        image = next(i for i, word in enumerate(words) if word in ("foretell", "foretell-gpu"))
        assert parse(words[image + 1 :]).command
        mounts = [words[i + 1].rpartition(":")[2] for i, word in enumerate(words) if word == "-v"]
        assert mounts == ["/work", "/cache"]
    assert "\nWORKDIR /work\n" in CONTAINERFILE and "\nENV XDG_CACHE_HOME=/cache\n" in CONTAINERFILE
    assert "--uid 1000" in CONTAINERFILE and "number 1000" in PAGE


def test_files_that_the_image_needs_are_not_left_out():
    """`.dockerignore` leaves out everything but these."""
    kept = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.M)
    copied = [word for line in re.findall(r"^COPY (.+)$", CONTAINERFILE, re.M) for word in line.split()[:-1]]
    assert {*copied} == {*kept} and all((ROOT / name).exists() for name in kept)
    assert {PROJECT["readme"], *PROJECT["license-files"]} <= {*copied}


def test_pythons_of_image_and_page_are_those_that_the_project_needs():
    needed = tuple(map(int, re.search(r"[\d.]+", PROJECT["requires-python"])[0].split(".")))
    default = tuple(map(int, re.search(r"^ARG PYTHON=([\d.]+)$", CONTAINERFILE, re.M)[1].split(".")))
    assert needed <= default and f"Python {needed[0]}.{needed[1]} or newer" in PAGE


@pytest.mark.long
def test_the_check_of_the_installation_trains_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (words,) = (words for words in commands("foretell") if "--dry-run" in words)
    assert main(words) == 0 and "pets/cartpole" in capsys.readouterr().out and not list(tmp_path.iterdir())
