"""The race: its rows, turns, table and stored results, with stubs in place of all sides."""

import json
import sys
from importlib import import_module
from pathlib import Path

import pytest

from foretell.errors import UserError
from foretell.runs.presets import resolve
from tiny import benchmark

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
STUB = """
import sys
sys.path.insert(0, {peers!r})
from turns import serve

def make(step, fails_at=None, **_):
    count = 0
    def measure():
        nonlocal count
        count += 1
        with open({log!r}, "a") as log:
            log.write(f"{{step}} ")
        if count == fails_at:
            raise ValueError("no more")
        return {{"seconds": step * count, "p99": 2.0}}
    measure.limit = lambda: {{"flop": 8.0, "shape_rate": 2.0, "machine_rate": 16.0}} if step == 1 else {{}}
    return measure

print("printed by a library")
serve({{"stub": make}})
"""


@pytest.fixture(scope="module", autouse=True)
def on_path():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield


@pytest.fixture(scope="module")
def racing():
    """The modules of the harness."""
    return {name: import_module(f"racing.{name}") for name in ("rows", "sides", "table")}


@pytest.fixture
def stub(racing, tmp_path):
    """Makes the process of a side; the order of turns is in the file `log`."""
    script = tmp_path / "stub.py"
    script.write_text(STUB.format(peers=str(BENCHMARKS / "peers"), log=str(tmp_path / "log")))

    def begin(row, name):
        if name == "missing":
            raise RuntimeError("not installed")
        settings = {"ours": {"step": 1}, "peer": {"step": 3}, "broken": {"step": 5, "fails_at": 2}}[name]
        return racing["sides"].Side([sys.executable, "-S", str(script), "stub", json.dumps(settings)], {})

    return begin


@pytest.fixture
def record(racing, stub):
    row = racing["rows"].Row("a/b", "stub", {}, ("peer", "broken", "missing"))
    sides = racing["sides"].race(row, 3, stub)
    return {"settings": {"x": 1}, "pairs": 3, "sides": sides, "load": [0.5, 1.0], "versions": {"peer": {"pip": "1"}}}


def test_sides_take_turns_and_a_failing_one_is_left_out(record, tmp_path):
    assert (tmp_path / "log").read_text().split() == ["1", "3", "5", "1", "3", "5", "1", "3"]
    sides = record["sides"]
    assert sides["ours"]["seconds"] == [1, 2, 3] and sides["peer"]["seconds"] == [3, 6, 9]
    assert sides["broken"] == {"error": "ValueError: no more"} and sides["missing"] == {"error": "not installed"}
    assert sides["ours"]["setup"] >= 0 and sides["peer"]["memory"] > 1e6


def test_the_table_has_ratios_of_pairs_and_shares_of_the_limit(racing, record):
    table = racing["table"]
    assert table.ratios(record, "peer") == [3, 3, 3]
    assert table.shares(record) == (8 / 2 / 2, 8 / 2 / 16)  # 8 FLOP in a median of 2 s
    lines = table.lines("a/b", record)
    assert lines[0][:8] == ("a/b", "2 s, p99 2 s", "peer", "6 s, p99 2 s", "3.00", "3.00 to 3.00", "200 %", "25 %")
    assert [line[2:4] for line in lines[1:]] == [("broken", "ValueError: no more"), ("missing", "not installed")]
    assert [table.seconds_text(value) for value in (1.234, 0.01234, 5e-6)] == ["1.23 s", "12.3 ms", "5 µs"]


def test_results_are_stored_and_kept_while_settings_agree(racing, record, tmp_path):
    table, path = racing["table"], tmp_path / "folder" / "race.json"
    machine = {"cores": 2, "matmul": 1e11, "memory": 1e10, "jax": "jax"}
    assert table.read(path) == {}
    table.write(path, {"a/b": record}, machine)
    assert table.read(path) == {"a/b": record}
    assert not table.is_done(record, {"x": 1}, 3), "a side that failed is tried again"
    sound = {**record, "sides": {"ours": record["sides"]["ours"]}}
    assert table.is_done(sound, {"x": 1}, 3)
    assert not table.is_done(sound, {"x": 1}, 4) and not table.is_done(sound, {"x": 2}, 3)
    assert not table.is_done(None, {"x": 1}, 3)
    text = table.markdown({"a/b": record}, machine)
    assert "matrix multiply 100 GFLOP/s, memory 10.0 GB/s" in text and "Peers: pip 1." in text
    table.draw({"a/b": record}, tmp_path / "race.png")
    assert (tmp_path / "race.png").read_bytes().startswith(b"\x89PNG")


def test_a_second_call_measures_what_is_missing(racing, record, tmp_path, monkeypatch):
    race, measured = benchmark("race"), []
    sound = {**record, "sides": {"ours": record["sides"]["ours"]}}
    monkeypatch.setattr(race, "measured", lambda: {"cores": 2, "matmul": 1e11, "memory": 1e10, "jax": "jax"})

    def measure(row, pairs, venvs):
        measured.append(row.name)
        return {**sound, "settings": race.settings_of(row)}

    monkeypatch.setattr(race, "measure", measure)
    for names in (["start/help"], ["start/help", "plan/cartpole"]):
        monkeypatch.setattr(sys, "argv", ["race", "--rows", *names, "--pairs", "3", "--out", str(tmp_path / "out")])
        race.main()
    assert measured == ["start/help", "plan/cartpole"]
    assert set(racing["table"].read(tmp_path / "out.json")) == set(measured)


def test_an_unknown_row_is_refused_with_the_nearest(racing):
    with pytest.raises(UserError, match="no row of the race is called 'plan/rlblox'; did you mean 'plan/rl-blox'"):
        racing["rows"].chosen(["plan/rlblox"], False)


def test_rows_are_chosen_by_patterns(racing):
    names = lambda *arguments: [row.name for row in racing["rows"].chosen(*arguments)]  # noqa: E731
    assert names(["fit/*"], False) == ["fit/200", "fit/2000", "fit/20000"]
    assert "fit/100000" in names([], True) and not any(name.startswith("growth/") for name in names([], True))
    assert "growth/plan/width/512" in names(["growth/*"], False)


def test_every_row_names_settings_that_exist(racing):
    for row in racing["rows"].rows().values():
        assert set(row.peers) <= racing["rows"].SCRIPTS.keys()
        if "preset" in row.settings:
            resolve(row.settings["preset"], [row.settings.get("overrides", {})])


def test_what_the_guard_has_stored_are_shares_of_its_workloads():
    guard = import_module("racing.guard")
    stored = json.loads(guard.STORED.read_text())
    assert stored["shares"].keys() <= guard.WORKLOADS.keys() and stored["cores"] and stored["load"] >= 0
    assert all(0 < share <= 1 for share in stored["shares"].values())
