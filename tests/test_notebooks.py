"""The notebooks of the documentation run, with settings turned down; `make docs` runs them as they are."""

import re
from pathlib import Path

import matplotlib
import pytest

from tiny import LINE, TINY

FOLDER = Path(__file__).parent.parent / "docs" / "notebooks"
FEW = {section: TINY[section] for section in ("model", "fit", "planner")} | {"imagination": TINY["imagination"]}
STEVE = {
    "model": {"members": 2, "reward_members": 2, "hidden": [8], "aux_hidden": [8]},
    "learner": {"hidden": [8], "batch_size": 8, "critics": 2},
    "fit": {"batch_size": 8},
    "updates": {"per_step": 0.2, "pretraining": 2},
    "task": {"env": LINE},
}
PARAMETERS = {
    "cartpole": {"TRIALS": 1, "STEPS": 12, "CHANGES": FEW},
    "world-model": {"CHANGES": {**FEW, "task": {"horizon": 12}, "train": {"trials": 2}}, "MOMENTS": 3},
    "steve": {"STEPS": 40, "EVERY": 10, "ROWS": 8, "CHANGES": STEVE},
}
FIGURES = {"cartpole": 6, "world-model": 6, "steve": 4}


def cells(name):
    """The code of a notebook, cell by cell, with its tags."""
    text = (FOLDER / f"{name}.md").read_text()
    for block in re.findall(r"^```\{code-cell\} ipython3\n(.*?)^```\n", text, re.S | re.M):
        tags = re.match(r":tags: \[(.*)\]\n", block)
        yield block[tags.end() :] if tags else block, tags.group(1) if tags else ""


def test_all_notebooks_are_tried():
    assert {path.stem for path in FOLDER.glob("*.md")} == {*PARAMETERS}


@pytest.mark.long
@pytest.mark.parametrize("name", PARAMETERS)
def test_a_notebook_runs(name):
    matplotlib.use("Agg")
    from matplotlib import pyplot

    space, found = {}, list(cells(name))
    assert [tags for _, tags in found].count("parameters") == 1
    with matplotlib.rc_context():
        pyplot.close("all")
        for code, tags in found:
            exec(compile(code, name, "exec"), space)
            if tags == "parameters":
                assert {*PARAMETERS[name]} <= {*space}
                space.update(PARAMETERS[name])
        numbers = pyplot.get_fignums()
        assert len(numbers) == FIGURES[name] and all(pyplot.figure(one).axes for one in numbers)
        pyplot.close("all")
