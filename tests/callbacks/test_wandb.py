"""Weights & Biases, without network: a stand-in that shows what is logged, and the real one offline."""

import sys
from types import SimpleNamespace

import pytest
from played import Played

import foretell
from foretell.callbacks import LearningCurve, WandB
from foretell.errors import UserError
from tiny import LINE, TINY, interrupted_at


class StandIn(SimpleNamespace):
    """What the callback uses of wandb."""

    class Error(Exception):
        pass

    def __init__(self):
        super().__init__(calls=[], rows=[], finished=0, Image=str)

    def init(self, **arguments):
        self.calls.append(arguments)
        return SimpleNamespace(
            id=arguments["id"] or "fresh",
            log=self.rows.append,
            define_metric=lambda name, step_metric: self.calls.append((name, step_metric)),
            finish=lambda: setattr(self, "finished", self.finished + 1),
        )


@pytest.fixture
def wandb(monkeypatch):
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    return stand_in


def test_settings_metrics_and_returns_are_logged_over_steps(tmp_path, wandb):
    run = Played(tmp_path / "run", lambda: [LearningCurve(), WandB("swing", tags=["first"])])
    run.episode("random", 1.5)
    run.learn(train_loss=0.25)
    run.end()
    arguments, steps = wandb.calls
    assert arguments["project"] == "swing" and arguments["tags"] == ["first"] and arguments["name"] == "toy, seed 3"
    assert arguments["config"] == {"preset": "toy", "seed": 3} and arguments["dir"] == str(tmp_path / "run")
    assert arguments["group"] == "toy on tiny/Line-v0" and arguments["job_type"] == "train"
    assert steps == ("*", "env_steps")
    assert wandb.rows == [
        {"env_steps": 5, "returns/random": 1.5, "lengths/random": 5},
        {"env_steps": 5, "progress/learn": 1, "losses/train_loss": 0.25},
        {"env_steps": 5, "figures/learning_curve": str(run.directory.curve)},
    ]
    assert wandb.finished == 1


def test_a_resumed_run_continues_the_run_whose_id_is_on_disk(tmp_path, wandb):
    run = Played(tmp_path / "run", lambda: [WandB()])
    assert wandb.calls[0]["id"] is None and wandb.calls[0]["resume"] == "allow"
    run.resume(run.save())
    assert wandb.calls[2]["id"] == "fresh"


def test_arguments_take_precedence(tmp_path, wandb):
    Played(tmp_path / "run", lambda: [WandB(name="mine", id="given")])
    assert wandb.calls[0]["name"] == "mine" and wandb.calls[0]["id"] == "given"
    assert (tmp_path / "run" / "wandb" / "id.txt").read_text() == "given\n"


def test_it_has_to_be_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError) as mistake:
        WandB()
    assert str(mistake.value) == "W&B is not installed; run pip install 'foretell[wandb]'"


def test_a_refusal_is_one_sentence(tmp_path, wandb):
    def refuse(**arguments):
        raise wandb.Error("no API key")

    wandb.init = refuse
    with pytest.raises(UserError, match=r"^W&B does not start \(Error: no API key\); run `wandb login`, or set"):
        Played(tmp_path / "run", lambda: [WandB()])


@pytest.mark.long
def test_without_wandb_in_use_nothing_of_it_is_there(trained):
    assert not (trained / "wandb").exists()


# The real one.


@pytest.fixture
def offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    for name, value in {
        "MODE": "offline",
        "SILENT": "true",
        "CONFIG_DIR": str(tmp_path),
        "CACHE_DIR": str(tmp_path),
    }.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path))


@pytest.mark.long
def test_a_run_interrupted_and_resumed_is_one_wandb_run(tmp_path, offline):
    out = tmp_path / "run"
    with interrupted_at("step", 8):
        foretell.train("pets/default", out=out, env=LINE, overrides=TINY, quiet=True, callbacks=[WandB("tests")])
    name = (out / "wandb" / "id.txt").read_text().strip()
    foretell.resume(out, quiet=True, callbacks=[WandB("tests")])
    assert (out / "wandb" / "id.txt").read_text().strip() == name
    logs = list((out / "wandb").glob("offline-run-*/run-*.wandb"))
    assert {path.name for path in logs} == {f"run-{name}.wandb"} and all(path.stat().st_size > 0 for path in logs)


@pytest.mark.slow
def test_a_run_that_replaces_another_is_a_new_wandb_run(tmp_path, offline):
    names = []
    for _ in range(2):
        arguments = {"out": tmp_path / "run", "env": LINE, "overrides": TINY, "quiet": True}
        foretell.train("pets/default", **arguments, overwrite=True, callbacks=[WandB("tests")])
        names.append((tmp_path / "run" / "wandb" / "id.txt").read_text())
    assert names[0] != names[1]
