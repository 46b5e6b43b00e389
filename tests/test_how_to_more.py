"""The pages on a reward of one's own, on resuming and on trying several values: what they show works."""

import re
import shlex
import shutil
from functools import partial
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import foretell
from foretell.cli import main
from foretell.experiments import study as module
from foretell.experiments.executor import run_locally
from tiny import finished_run

PAGES = Path(__file__).parent.parent / "docs" / "how-to"


def blocks(page, language=""):
    found = re.findall(r"^```(\w*)\n(.*?)^```\n", (PAGES / f"{page}.md").read_text(), re.S | re.M)
    return [text for its_language, text in found if its_language == language]


def commands(page):
    return [shlex.split(line, comments=True)[1:] for line in "".join(blocks(page)).splitlines()]


def own_reward():
    space = {}
    exec(blocks("your-own-reward", "python")[0], space)
    return space["reward"]


def test_the_reward_on_the_page_is_the_pendulum_s():
    env, reward = gymnasium.make("Pendulum-v1"), own_reward()
    obs, _ = env.reset(seed=0)
    for action in ([1.5], [-2.0], [0.3]):
        following, real, *_ = env.step(np.array(action, np.float32))
        assert float(reward(obs, np.array(action), following)) == pytest.approx(real, rel=1e-4)
        obs = following


@pytest.mark.long
def test_the_reward_on_the_page_is_checked(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_reward.py").write_text(blocks("your-own-reward", "python")[0])
    (argv,) = [words for words in commands("your-own-reward") if "--dry-run" in words]
    assert main(argv) == 0 and not (tmp_path / "runs").exists()


@pytest.mark.long
def test_the_commands_on_resuming_work(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, tmp_path / "runs" / "pets-cartpole" / "0")
    *first, last = commands("resume")
    small = {"train.trials=20": "train.trials=3", "5": "1"}
    for words in first:
        assert main([small.get(word, word) for word in words]) == 0, words
    assert len(foretell.load("runs/pets-cartpole/0").returns) == 3
    assert last[1] == "pets/cartpole"
    config = "runs/pets-cartpole/0/config.yaml"
    assert main([*last[:1], config, *last[2:], "train.trials=1", "train.random_steps=0", "--quiet"]) == 0
    assert len(foretell.load("runs/second").episodes) == 1
    exec(blocks("resume", "python")[0].replace("21", "4"), {"foretell": foretell})
    assert capsys.readouterr().out.splitlines()[-1] == "4"


@pytest.mark.long
def test_the_commands_on_several_values_work(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "run_locally", partial(run_locally, run=finished_run, tick=0.01))
    (tmp_path / "runs").mkdir()
    for text in blocks("sweep", "yaml"):
        Path(text.partition("\n")[0].removeprefix("# ")).write_text(text)
    for words in commands("sweep"):
        assert main(words) == 0, words
    table = (PAGES / "sweep.md").read_text().partition("In addition, it has:")[2]
    assert set(re.findall(r"`(trials\.\w+)`", table)) <= {path.name for path in Path("runs/horizon").iterdir()}
    trials = Path("runs/search/trials.csv").read_text().splitlines()[1:]
    assert [row.partition(",")[0] for row in trials] == ["planning"] * 6 + ["policy"] * 6
    assert len(list(Path("runs/horizon").glob("*/1"))) == 6
