"""Published presets and parts against their tables of provenance, and what these tables must be like."""

from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

from foretell.errors import UserError
from foretell.runs.parts import part_names
from foretell.runs.presets import preset_names, split_name
from foretell.runs.provenance import Row, chain, check, departures, leaves_of, page, read_table, rows_of, table_names
from foretell.tasks import cartpole

OWN = {
    *(name for name in preset_names() if name.endswith("/default")),
    *(f"pets/{task}" for task in ("cartpole", "reacher", "pusher", "halfcheetah")),
    *(f"dhmbpo/{robot}" for robot in ("dmc", "halfcheetah", "hopper", "walker2d", "ant", "humanoid")),
    *(f"mbpo/{robot}" for robot in ("halfcheetah", "hopper", "walker2d", "ant", "humanoid", "invertedpendulum")),
    *(f"mve/{robot}-true-model" for robot in ("hc", "swimmer", "walker2d")),
    *(f"mbmf/cheetah-icem{stage}" for stage in ("", "-mpc", "-imitation")),
    *(f"{preset}-lite" for preset in ("mve/hc", "mve/swimmer", "steve/halfcheetah")),
}
"""Presets that are called neither published nor released nor the paper's."""
OWN_PARTS = {"fine", "no-aggregation", "precise", "sac", "single", "td3", "true-model"}
TABLES = table_names()
leaves = cache(leaves_of)


def test_every_published_preset_and_part_has_a_table():
    assert {split_name(name)[0] for name in TABLES if not name.startswith("parts/")} == set(preset_names()) - OWN
    assert {name.removeprefix("parts/") for name in TABLES if name.startswith("parts/")} == {*part_names()} - OWN_PARTS


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.long
def test_it_is_as_its_table_says(name):
    assert departures(rows_of(name), leaves(name), [row.name for row in read_table(name).rows]) == []


@pytest.mark.parametrize("name", TABLES)
def test_a_table_names_its_source(name):
    assert any(table.source for table in chain(name) if table.name != "shared/neutral")


@pytest.mark.parametrize("name", ["pets/cartpole-paper", "mbmf/swimmer-imitation", "mve/hc-5", "parts/icem"])
def test_a_change_of_any_setting_is_found(name):
    rows = rows_of(name)
    for path, value in leaves(name).items():
        row = rows.get(path)
        if row is not None and row.is_checked:
            found = departures({path: row}, {path: "another"})
            assert found and all(sentence.startswith(f"{path} is another, not ") for sentence in found), (path, value)


def test_a_change_of_a_constant_of_the_code_is_found(monkeypatch):
    monkeypatch.setattr(cartpole, "ACTION_COST", 0.02)
    assert check("pets/cartpole-paper") == ["tasks.cartpole:ACTION_COST is 0.02, not 0.01 as the table says"]
    assert check("pets/halfcheetah-paper") == check("pets/cartpole-paper")


ROWS = {
    "a.x": Row("same", "a.x", 1, 1, "code.py"),
    "a.y": Row("differs", "a.y", 2, 3, "code.py", "it is faster"),
    "b": Row("unused", "b", why="nothing uses it"),
    "how it ends": Row("differs", "how it ends", "well", "better", "code.py", "it is nicer"),
}
LEAVES = {"a.x": 1, "a.y": 3, "b.anything": 7}


@pytest.mark.parametrize(
    ("rows", "leaves", "sentence"),
    [
        ({}, {}, None),
        ({}, {"a.x": 1.0}, None),
        ({}, {"b.anything": 8}, None),
        ({}, {"a.x": True}, "a.x is true, not 1 as the table says"),
        ({}, {"a.y": 2}, "a.y is 2, not 3 as the table says"),
        ({}, {"a.z": [1]}, "a.z = [1] has no row"),
        ({"c": Row("ours", "c", None, 1, why="ours")}, {}, "there is no setting c"),
        ({"a.y": Row("differs", "a.y", 3, 3, "code.py", "no reason")}, {}, "a.y does not differ"),
        ({"a.y": Row("differs", "a.y", 2, 3, "code.py")}, {}, "a.y has no reason"),
    ],
)
def test_what_can_be_wrong_with_a_table(rows, leaves, sentence):
    assert departures({**ROWS, **rows}, {**LEAVES, **leaves}, rows) == ([sentence] if sentence else [])


@pytest.mark.long
def test_what_tables_share_is_used():
    used = defaultdict(set)
    for name in TABLES:
        for table in chain(name):
            used[table.name] |= leaves(name).keys()
    for shared in {name for name in used if name.startswith("shared/")}:
        settings = {row.name for row in read_table(shared).rows if row.is_checked and ":" not in row.name}
        assert settings <= used[shared], shared


def test_the_page_shows_the_tables():
    assert (Path(__file__).parents[2] / "docs" / "provenance.md").read_text() == page()


def test_a_table_that_is_not_there():
    with pytest.raises(
        UserError, match="'pets/cartpole' has no table of provenance; did you mean 'pets/cartpole-paper'"
    ):
        read_table("pets/cartpole")
