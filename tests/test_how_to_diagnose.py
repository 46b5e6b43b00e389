"""The page on diagnostics: its commands work, and what it names is there."""

import csv
import re
import shlex
from pathlib import Path

import pytest

from foretell.cli import main
from foretell.diagnostics import verdicts

PAGE = (Path(__file__).parent.parent / "docs" / "how-to" / "diagnose.md").read_text()
SMALL = (
    "learner.hidden=[8]",
    "learner.batch_size=8",
    "model.hidden=[8]",
    "model.aux_hidden=[8]",
    "updates.pretraining=1",
    "updates.per_step=0.1",
    "task.horizon=20",
    "train.random_steps=40",
    "train.steps=260",
    "train.eval_episodes=1",
    "train.eval_every=100",
)


def commands():
    lines = re.search(r"^```\n(.*?)^```\n", PAGE, re.S | re.M).group(1).splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines]


def smaller(argv):
    if argv[0] == "train":
        return [*argv, *SMALL]
    if argv[0] == "plot":
        return argv
    return [*argv, "--episodes", "2", "--starts", "4"]


@pytest.mark.slow
def test_its_commands_work_and_write_what_it_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = set()
    for argv in commands():
        assert main(smaller(argv)) == 0, argv
        names |= {path.name for path in Path("runs/mve/diagnostics").glob("*")}
    out = capsys.readouterr().out
    assert "planned actions, replayed in the simulator" in out
    files = set(re.findall(r"`(\w+\.(?:csv|png))`", PAGE.partition("## Open-loop")[0]))
    assert names | {"calibration.csv", "calibration.png"} == files
    with Path("runs/mve/diagnostics/open_loop.csv").open() as file:
        assert all(f"`{name}`" in PAGE for name in csv.DictReader(file).fieldnames if name != "steps")
    assert {grade for grade in ("good", "fair", "poor") if f"\n  {grade}  " in out}
    with Path("runs/mve/diagnostics/summary.csv").open() as file:
        named = {re.sub(r"_\d+$", "", row["name"]) for row in csv.DictReader(file)}
    quoted = {re.sub(r"_(\d+|K|k)$", "", name) for name in re.findall(r"`(\w+)`", PAGE)}
    assert {name for name in named if not name.endswith("_oracle")} - quoted == set()
    for name in ("policy_loss", "critic_grad_2", "action_noise"):
        assert f"`{name}`" in PAGE and f"{name} " in out
    assert Path("runs/mve.png").is_file() and Path("runs/mve/trial-10/summary.csv").is_file()


def test_thresholds_are_those_of_the_code():
    section = PAGE.partition("## Verdicts\n")[2].partition("\n## ")[0]
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| ") and "---" not in line][1:]
    found = [(float(row[1]), float(row[2])) for row in rows]
    skill = verdicts._SKILL, verdicts._NO_SKILL
    uncertainty = (verdicts._COVERED, verdicts._FAR), (verdicts._SIZE, verdicts._WRONG_SIZE)
    others = (verdicts._TELLS, verdicts._HARDLY), (verdicts.SMALL_BIAS, verdicts.LARGE_BIAS)
    assert found == [skill, *uncertainty, *others, skill]


@pytest.mark.long
def test_the_number_of_steps_that_it_leaves_out_is_right():
    share, left = re.search(r"`--tail ([\d.]+)` leaves out.*?\(the last (\d+) steps", PAGE, re.S).groups()
    assert 0.99 ** int(left) > float(share) >= 0.99 ** (int(left) + 1)
