"""The page on tasks says of each what the task itself says."""

import re
from inspect import signature
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest

from foretell import registry

TASKS = registry.kinds("task")
PAGE = (Path(__file__).parent.parent.parent / "docs" / "tasks.md").read_text()


def table(first):
    """The cells of the rows of the table with this head, by the first."""
    lines = PAGE[PAGE.index(f"| {first} |") :].split("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {row[0].strip("`"): row[1:] for row in rows}


@pytest.mark.long
def test_all_tasks_are_on_it():
    assert sorted(table("name")) == list(TASKS)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.long
def test_sizes_times_and_options(name):
    task, (_, obs, action, steps, seconds, _, options) = TASKS[name](), table("name")[name]
    assert [task.spec.obs_size, task.spec.action_size, task.spec.horizon] == [int(obs), int(action), int(steps)]
    with task.make() as env:
        assert env.unwrapped.dt == pytest.approx(float(seconds))
    assert re.findall(r"`(\w+)`", options) == list(signature(TASKS[name]).parameters)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.long
def test_values_of_options(name):
    for option, parameter in signature(TASKS[name]).parameters.items():
        values = table("option")[option][0]
        if get_origin(parameter.annotation) is Literal:
            assert re.findall(r"`([\w-]+)`", values) == list(get_args(parameter.annotation))
            assert parameter.default == get_args(parameter.annotation)[0]
        elif option == "path":
            offered = re.findall(r"`([\w-]+)`", table("option")["path"][1])
            assert set(get_args(get_args(parameter.annotation)[0])) <= set(offered)
        else:
            assert values.split(", ")[0] == str(parameter.default).lower()
