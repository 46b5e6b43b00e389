"""The pages on writing a planner, an agent and a world model: their files, commands and tests work as they stand.

And what `CONTRIBUTING.md` says is there is there.
"""

import re
import shlex
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import yaml

import foretell
from foretell import registry
from foretell.cli import main

ROOT = Path(__file__).parent.parent
PAGES, SOURCE = ROOT / "docs" / "how-to", ROOT / "src" / "foretell"
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
EXAMPLE = ROOT / "tests" / "plugin" / "foretell_example"
FILES = {"planner": "gradient.py", "agent": "random_search.py", "model": "ridge.py"}
"""Where the plug-in of the tests has what a page shows."""
PETS = ("planner.horizon=2", "planner.population=2", "task.horizon=5", "train.trials=1", "train.random_steps=0")
REWARDS = ("reward_model.hidden=[4]", "reward_fit.min_steps=1")
SMALL = {
    "planner": (*PETS, "planner.iterations=1", "model.hidden=[4]", "fit.min_steps=1", *REWARDS),
    "agent": ("task.horizon=5", "train.trials=16"),
    "model": (*PETS, *REWARDS, "planner.elites=1", "planner.kept_elites=0", "model.cosines=5"),
}
"""What makes the runs of a page's commands small."""
STEVE = ("model.cosines=5", "task.horizon=5", "train.steps=40", "train.random_steps=20", "reward_model.hidden=[4]")
STEVE += ("updates.pretraining=1", "updates.per_step=0.1", "learner.hidden=[4]", "learner.batch_size=4")
pages = pytest.mark.parametrize("page", FILES)


def blocks(page: str, language: str = "") -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```\n", (PAGES / f"your-own-{page}.md").read_text(), re.S | re.M)
    return [text for its_language, text in found if its_language == language]


def files(page: str) -> dict[str, str]:
    """The files that a page shows, by the name in their first line."""
    shown = [text for language in ("python", "yaml", "toml") for text in blocks(page, language)]
    return {text.partition("\n")[0].removeprefix("# "): text for text in shown}


def commands(page: str) -> list[list[str]]:
    lines = "".join(blocks(page)).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines]


def smaller(page: str, argv: list[str]) -> list[str]:
    """The same command with less to do."""
    if argv[0] in ("eval", "inspect"):
        return [*argv, "--episodes", "1"]
    if argv[0] == "resume":
        return [*argv, "--set", "train.trials=2"]
    return [*argv, "--set", *(STEVE if argv[1] == "steve/default" else SMALL[page])]


@pytest.fixture
def written(page, tmp_path, monkeypatch):
    """The page's files in the working directory. What they register is forgotten afterwards."""
    known = {section: dict(registry.kinds(section)) for section in registry._registered}
    monkeypatch.setattr(registry, "_registered", known)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.chdir(tmp_path)
    for name, text in files(page).items():
        (tmp_path / name).write_text(text)
    yield tmp_path
    for name in files(page):
        sys.modules.pop(name.removesuffix(".py"), None)


@pages
def test_the_file_on_the_page_is_the_plug_in_s(page):
    assert files(page)[f"my_{page}.py"] == f"# my_{page}.py\n{(EXAMPLE / FILES[page]).read_text()}"


@pytest.mark.long
@pages
def test_its_commands_work(page, written, capsys):
    for argv in commands(page):
        assert main(smaller(page, argv)) == 0, argv
        capsys.readouterr()


@pytest.mark.long
@pages
def test_its_test_passes(page, written):
    module = import_module(f"test_my_{page}")
    for name, test in vars(module).copy().items():
        if name.startswith("test_"):
            test(*[written] * test.__code__.co_argcount)


@pytest.mark.parametrize("page", ["planner"])
def test_the_entry_point_is_declared_as_the_plug_in_s(page):
    group, line = files(page)["pyproject.toml"].splitlines()[1:3]
    assert group == '[project.entry-points."foretell.plugins"]' and line.endswith('= "my_planner"')
    assert "[foretell.plugins]" in next(EXAMPLE.parent.glob("*.dist-info/entry_points.txt")).read_text()


@pytest.mark.parametrize("page", ["agent"])
def test_an_odd_number_of_environments_is_refused_in_one_sentence(page, written):
    odd = {"train": {"environments": 3, "trials": 3}}
    with pytest.raises(
        foretell.UserError, match=r"^train.environments \(3\) must be even: changes are tried in pairs$"
    ):
        foretell.train("random_search.yaml", overrides=odd, quiet=True)


@pytest.mark.parametrize("page", ["model"])
def test_a_model_that_does_not_learn_rewards_says_what_to_set(page, written):
    with pytest.raises(foretell.UserError, match=r"learns the dynamics alone; set reward_model.members=2$"):
        foretell.train("steve/default", env="Pendulum-v1", overrides={"model": {"kind": "my_model:Ridge"}}, quiet=True)


@pytest.mark.slow
@pytest.mark.parametrize(("page", "least"), [("planner", -400), ("model", -400)])
def test_the_pendulum_is_swung_up_in_the_first_trial(page, least, written):
    """As the pages say. Random actions earn about -1,200."""
    argv = commands(page)[0]
    main([*argv, "--quiet", "--set", "train.trials=3"])
    assert min(foretell.load(argv[argv.index("--out") + 1]).returns) > least


@pytest.mark.slow
@pytest.mark.parametrize("page", ["agent"])
def test_random_search_balances_the_pendulum(page, written):
    """As the page says."""
    main([*commands(page)[0], "--quiet"])
    results = foretell.load("runs/search").evaluate(5)
    assert np.mean([result.total for result in results]) > 900


def test_the_preset_on_the_page_is_like_the_plug_in_s():
    mine, theirs = yaml.safe_load(files("agent")["random_search.yaml"]), EXAMPLE / "point_mass.yaml"
    assert mine["search"] == yaml.safe_load(theirs.read_text())["search"]


def additions() -> list[list[str]]:
    """The rows of the table of what can be added, without backquotes."""
    lines = CONTRIBUTING.partition("| section |")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip().replace("`", "") for cell in line.split("|")[1:-1]] for line in lines]


def test_all_that_can_be_registered_is_in_the_table_of_what_can_be_added():
    assert {section for section, *_ in additions()} == {*registry._registered, "a callback"} - {"fit"}


@pytest.mark.long
def test_the_files_in_that_table_are_there():
    """Where the name of a new thing stands, they are there for the name of one that exists."""
    names = {"planner": "cem", "model": "steve", "learner": "td3", "agent": "trpo", "task": "cartpole"}
    for section, *cells in additions():
        code, package, chosen, page = (cell.replace("NAME", names.get(section, "best")) for cell in cells)
        assert section == "a callback" or f'@register("{section}", "' in (SOURCE / code).read_text()
        assert not package or Path(code).stem in (SOURCE / package).read_text()
        assert not page or (ROOT / page).is_file()
        assert not chosen.startswith("presets/") or (SOURCE / chosen).parent.is_dir()


@pytest.mark.long
def test_the_commands_for_contributors_are_there():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert {word for word in re.findall(r"`make ([a-z-]+)`", CONTRIBUTING)} <= set(targets)
    for path in re.findall(r"\]\(([^)#]+)\)|pytest(?: -m slow)? (tests/\w+)", CONTRIBUTING):
        assert (ROOT / (path[0] or path[1])).exists(), path
