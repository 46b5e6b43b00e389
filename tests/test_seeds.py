"""Several seeds of a preset in one process: whole runs, and the command with runs that are written instead."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest

import foretell
from foretell import seeds
from foretell.cli import main
from foretell.errors import UserError
from foretell.output import STDOUT
from foretell.runs.directory import RunDirectory
from foretell.seeds import train_seeds
from foretell.training.interrupt import Interrupted
from tiny import LINE, TINY, TINY_SET, benchmark, by_hand, written_run

EXPANSION = {name: keys for name, keys in benchmark("tiny_runs").EXPANSION.items() if name != "task"}
STEPS = {"steps": 40, "steps_per_learning": 5, "random_steps": 20, "eval_episodes": 1, "eval_every": 20, "log_every": 5}
AGENTS = {
    "pets": ("pets/default", [TINY, {"train": {"eval_episodes": 1}}]),
    "steve": ("steve/default", [EXPANSION, {"train": {**STEPS, "capacity": 60}}]),
}
EVALUATED = SimpleNamespace(train=SimpleNamespace(eval_episodes=0))
WHOLE = ("episode", "env_steps", "kind", "length", "end")


def compare(found, alone):
    """Counters are equal; numbers differ by no more than batched matrix products do."""
    pairs = list(zip(found.episodes, alone.episodes, strict=True))
    for one, other in pairs:
        assert [one[name] for name in WHOLE] == [other[name] for name in WHOLE]
    np.testing.assert_allclose([a["return"] for a, _ in pairs], [b["return"] for _, b in pairs], rtol=1e-4)
    for number in range(len(pairs)):
        own, theirs = (np.load(run.directory / "data" / f"episode_{number:04d}.npz") for run in (found, alone))
        np.testing.assert_allclose(own["actions"], theirs["actions"], rtol=1e-3, atol=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("agent", ["pets", *by_hand("steve")])
def test_every_seed_has_the_results_of_a_run_by_itself(agent, tmp_path):
    preset, overrides = AGENTS[agent]
    found = train_seeds(preset, 2, out=tmp_path / "together", env=LINE, overrides=overrides, quiet=True)
    for seed, run in enumerate(found):
        assert run.seed == seed and run.directory == tmp_path / "together" / str(seed)
        alone = foretell.train(preset, seed=seed, out=tmp_path / "alone", env=LINE, overrides=overrides, quiet=True,
                               overwrite=True)  # fmt: skip
        compare(run, alone)
        loaded = foretell.load(run.directory)
        np.testing.assert_array_equal(loaded.act(np.zeros(2)), run.act(np.zeros(2)))


def trained_by(monkeypatch, *, fails=(), stops=()):
    """Runs are written instead of trained; these seeds fail, those are interrupted. The calls that were made."""
    calls = []

    def train(preset, *, seed, out, quiet, **asked):
        calls.append((seed, asked))
        if seed in fails:
            raise UserError("the gripper is jammed")
        if seed in stops:
            raise Interrupted("episode 1, step 2", out)
        written_run(out, preset, "train", [(5, 1.0)])
        return SimpleNamespace(directory=out, episodes=RunDirectory(out).read_episodes(), settings=EVALUATED, seed=seed)

    def resume(out, **asked):
        return train("resumed", seed=int(out.name), out=out.parent / "again" / out.name, **asked)

    monkeypatch.setattr(seeds, "train", train)
    monkeypatch.setattr(seeds, "resume", resume)
    return calls


def asked(out, *words):
    return ["train", "pets/default", "--env", LINE, "--out", str(out), *words, *TINY_SET]


@pytest.mark.long
def test_the_command_trains_seeds_from_the_first_one_on(monkeypatch, tmp_path, capsys):
    calls = trained_by(monkeypatch)
    assert main(asked(tmp_path, "--seeds", "2", "--seed", "5", "--overwrite")) == 0
    assert [(seed, options["env"], options["overwrite"]) for seed, options in calls] == [
        (5, LINE, True),
        (6, LINE, True),
    ]
    said = capsys.readouterr().out
    assert f"run         {tmp_path / '5'}" in said and f"run         {tmp_path / '6'}" in said


@pytest.mark.long
def test_a_seed_that_fails_is_named_at_the_end(monkeypatch, tmp_path, refused):
    calls = trained_by(monkeypatch, fails=[1])
    assert refused(*asked(tmp_path, "--seeds", "3")) == (
        "1 of 3 seeds failed, the first of them 1: the gripper is jammed (the others are finished or saved, and the "
        "same command tries again)"
    )
    assert [seed for seed, _ in calls] == [0, 1, 2]


@pytest.mark.long
def test_an_interrupted_command_says_how_to_go_on(monkeypatch, tmp_path, capsys):
    trained_by(monkeypatch, stops=[0, 1])
    assert main(asked(tmp_path, "--seeds", "2")) == 130
    assert "stopped and saved; the same command continues all seeds" in capsys.readouterr().out


def test_output_names_the_seed(capsys):
    screen = seeds._screen(seeds._Prefixed(STDOUT, "seed 3  "))
    screen.print("trial 1\ntrial 2", soft_wrap=True)
    assert capsys.readouterr().out == "seed 3  trial 1\nseed 3  trial 2\n"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"seeds": 0}, "seeds must be a whole number from 1 to 1000, not 0"),
        ({"seeds": []}, "seeds must not be empty: give their number, or a list such as [0, 1, 2]"),
        ({"seeds": [3, 1, 3]}, "the seed 3 is given twice; keep one"),
        ({"seeds": [-1]}, "seed must be a whole number from 0 to 2147483647, not -1"),
        (
            {"overrides": "train.pretrained=runs/x"},
            "train.pretrained=runs/x cannot be trained with several seeds",
        ),
        ({"preset": "pets/default+true-model"}, "the true model steps simulators and cannot run for several seeds"),
        ({"preset": "auto"}, "auto stands for a preset only in"),
    ],
)
def test_mistakes(options, sentence, tmp_path):
    options = {"preset": "pets/default", "seeds": 2, "env": LINE, "out": tmp_path / "runs", **options}
    with pytest.raises(UserError) as raised:
        train_seeds(options.pop("preset"), options.pop("seeds"), quiet=True, **options)
    assert str(raised.value).startswith(sentence) and not (tmp_path / "runs").exists()


def test_a_run_with_other_settings_is_not_continued(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "0")
    with pytest.raises(UserError, match=r"holds a run with train.trials=2, not 3; replace it with --overwrite, or"):
        train_seeds("pets/default", 1, out=tmp_path, env=LINE, overrides=[TINY, "train.trials=3"], quiet=True)


def test_options_that_exclude_each_other(refused, tmp_path):
    assert "--video films one run" in refused(*asked(tmp_path, "--seeds", "2", "--video"))
    study = ["study", "pets/default", "--env", LINE, "--out", str(tmp_path / "study"), "--vectorise", "--jobs", "2"]
    assert refused(*study) == "--vectorise trains in a single process, so leave out --jobs"
