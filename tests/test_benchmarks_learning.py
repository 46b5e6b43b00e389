"""The comparison of agents at equal steps: which runs there are, how they are started, and what is stored and shown."""

import sys
from pathlib import Path

import pytest

from foretell.errors import UserError
from foretell.runs.arguments import overrides
from foretell.runs.presets import resolve
from tiny import benchmark

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def learning():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield benchmark("learning")


@pytest.fixture
def curves(learning):
    """Two seeds of an agent that learns, and one that does not."""
    points = [[(1_000, -900.0, 5.0), (2_000, -150.0, 9.0)], [(1_000, -190.0, 5.0), (2_000, -210.0, 7.0)]]
    found = {learning.Run("pendulum", "sac", seed): [learning.Point(*p) for p in points[seed]] for seed in (0, 1)}
    return found | {learning.Run("pendulum", "sbx-sac", 0): [learning.Point(2_000, -1200.0, 3.0)]}


def test_runs_are_chosen_by_name(learning):
    assert [run.name for run in learning.runs(["pendulum/*pets"], 1)] == [
        "pendulum/pets", "pendulum/rl-blox-pets", "pendulum/mbrl-lib-pets",
    ]  # fmt: skip
    assert [run.seed for run in learning.runs(["reacher/sac"], 3)] == [0, 1, 2]
    everything = {run.name for run in learning.runs(["*"], 1)}
    assert len(everything) == 42 and "reacher/rl-blox-pets" not in everything
    with pytest.raises(UserError, match="nothing to learn is called 'reacher/sacc'; did you mean 'reacher/sac'"):
        learning.runs(["reacher/sacc"], 1)


def test_every_run_of_ours_has_settings_that_exist(learning, tmp_path):
    for run in learning.runs(["*"], 1):
        if run.agent in learning.OURS:
            words = learning.command(run, tmp_path)
            sets = words[words.index("--set") + 1 : words.index("--env")]
            settings = resolve(words[4], overrides([*sets, f"task.env={words[-1]}"]))
            assert settings.train.steps == run.steps
            assert run.agent in learning.PLANNERS or settings.train.eval_every == learning.TASKS[run.task].every


def test_planners_stop_earlier(learning):
    assert [run.steps for run in learning.runs(["pendulum/sac", "pendulum/*pets"], 1)] == [2_000, 4_000, 2_000, 2_000]


def test_a_point_is_a_round_of_evaluation_or_a_trial(learning):
    rows = [
        {"kind": "train", "env_steps": 200, "return": -5.0, "wall_seconds": 1.0},
        {"kind": "eval", "env_steps": 200, "return": -3.0, "wall_seconds": 2.0},
        {"kind": "eval", "env_steps": 200, "return": -1.0, "wall_seconds": 3.0},
    ]
    assert learning.points(rows, planner=False) == [(200, -2.0, 3.0)]
    assert learning.points(rows, planner=True) == [(200, -5.0, 1.0)]


def test_what_is_stored_is_read_again_in_the_order_of_tasks(learning, curves, tmp_path):
    path = tmp_path / "learning.csv"
    assert learning.read(path) == {}
    learning.write(path, dict(reversed(curves.items())))
    assert learning.read(path) == curves and list(learning.read(path)) == list(curves)


def test_the_table_names_goal_end_and_time(learning, curves):
    lines = learning.markdown(curves).splitlines()
    assert lines[2:] == [
        "| pendulum, -200 | sac | 2 | 2,000, 1,000 | -362.5 | -525.0 | 8 |",
        "| pendulum, -200 | sbx-sac | 1 | never | -1,200.0 | -1,200.0 | 3 |",
    ]


def test_the_figure_has_the_latest_value_at_each_number_of_steps(learning, curves, tmp_path):
    first = next(iter(curves.values()))
    assert learning._on([500, 1_000, 1_999, 2_000, 4_000], first).tolist() == [-900, -900, -900, -150, -150]
    learning.draw(curves, tmp_path / "learning.png")
    assert (tmp_path / "learning.png").stat().st_size > 10_000


PROGRAM = """
import sys
agent, env, seed, steps, every, episodes, out = sys.argv[1:]
if seed == "1":
    sys.exit("no more memory")
with open(out, "w") as file:
    file.write(f"{steps},{len(env)}.5,2.25\\n")
"""


def test_a_peer_writes_points_or_says_why_not(learning, monkeypatch, tmp_path):
    program = tmp_path / "learns.py"
    program.write_text(PROGRAM)
    monkeypatch.setitem(learning.PEERS, "sbx-sac", ("sbx-learning", str(program)))
    monkeypatch.setattr(learning, "python_of", lambda folder: sys.executable)
    with pytest.raises(RuntimeError, match=r"not installed; run python benchmarks/peers/install.py sbx-learning"):
        learning.learned(learning.Run("swing-up", "sbx-sac", 0), tmp_path)
    (tmp_path / "sbx-learning.json").write_text('{"versions": {}}')
    found = learning.learned(learning.Run("swing-up", "sbx-sac", 0), tmp_path)
    assert found == [(3_000, 20.5, 2.25)]
    with pytest.raises(RuntimeError, match="no more memory"):
        learning.learned(learning.Run("swing-up", "sbx-sac", 1), tmp_path)
