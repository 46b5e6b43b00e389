"""Each command of the command line, working."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from environments import Line
from foretell import __version__, api
from foretell.cli import main
from foretell.report import video
from foretell.runs.parts import AXES, part_names
from foretell.runs.presets import families, preset_names
from foretell.tasks import TaskSettings, make_task
from tiny import LINE, TINY, TINY_SET, snapshot

ALL = (
    "train",
    "resume",
    "study",
    "sweep",
    "studies",
    "eval",
    "inspect",
    "film",
    "export-mat",
    "presets",
    "show",
    "random",
)
ALL += ("toy",)


def foretell(*argv, **env) -> subprocess.CompletedProcess:
    """A real process, its working directory and environment those of a user."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "foretell", *argv]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path, **env})


@pytest.mark.parametrize("argv", [["--help"], *([command, "-h"] for command in ALL)], ids=" ".join)
def test_help_names_what_there_is(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    out, err = capsys.readouterr()
    assert stop.value.code == 0 and not err and out.startswith("usage: foretell")
    if argv == ["--help"]:
        assert all(command in out for command in ALL)


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out == f"foretell {__version__}\n"


@pytest.mark.long
def test_what_only_tells_does_not_wait_for_jax():
    code = f"""
import sys
from foretell.cli import main
for argv in {[["presets"], ["presets", "pets"], ["--version"], ["--help"], ["dance"]]}:
    try:
        main(argv)
    except SystemExit:
        pass
    print("it is", "jax" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert [line for line in done.stdout.splitlines() if line.startswith("it is")] == ["it is False"] * 5


# Presets and settings.


def test_presets_lists_every_preset_and_every_part_by_axis(capsys):
    assert main(["presets"]) == 0
    presets, _, parts = capsys.readouterr().out.partition("\n\n")
    assert [line.split()[0] for line in presets.splitlines()] == preset_names()
    head, *axes = parts.split("\n\n")
    assert "preset with +" in head and "one of each axis" in head
    assert [axis.partition(":")[0] for axis in axes] == list(AXES)
    names = [line.split()[0] for axis in axes for line in axis.splitlines()[1:]]
    assert sorted(names) == part_names() and len(names) == len(part_names())
    assert all(len(line.split()) > 3 for line in presets.splitlines())


@pytest.mark.parametrize("family", families())
def test_presets_lists_one_family(family, capsys):
    assert main(["presets", family]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == [name for name in preset_names() if name.startswith(f"{family}/")] and names


def test_presets_lists_the_parts_alone(capsys):
    assert main(["presets", "parts"]) == 0
    out = capsys.readouterr().out
    assert "icem" in out and "pets/default" not in out


@pytest.mark.parametrize(("family", "meant"), [("pet", "pets"), ("mbmp", "mbmpc"), ("part", "parts")])
def test_a_family_that_is_not_there(family, meant, refused):
    assert refused("presets", family) == f"no family '{family}'; did you mean '{meant}'?"


def test_show_prints_settings_that_are_a_preset(capsys, tmp_path):
    assert main(["show", "pets/cartpole+de", "--set", "planner.population=50"]) == 0
    text = capsys.readouterr().out
    assert "  population: 50" in text and "# * 40  " in text
    (tmp_path / "mine.yaml").write_text(text)
    assert main(["show", str(tmp_path / "mine.yaml")]) == 0
    again = capsys.readouterr().out
    assert yaml.safe_load(again) == yaml.safe_load(text) and "# *" not in again


@pytest.mark.parametrize("what", ["planner", "planner.cem", "planner.elites", "train", "propagation", "pets", "icem"])
def test_show_prints_the_reference(what, capsys):
    assert main(["show", what]) == 0
    assert capsys.readouterr().out.startswith((what.partition(".")[0], "imagination.", "agent pets", "part icem"))


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["plannr"], "there is no preset, section, setting or part 'plannr'; did you mean 'planner'?"),
        (["pets/cartpol"], "no preset 'pets/cartpol'; did you mean 'pets/cartpole'?"),
        (["pets/cartpole+mmpi"], "no part 'mmpi' for a preset; did you mean 'mppi'?"),
        (["pets/cartpole", "--set", "plannr={}"], "no setting 'plannr'; did you mean 'planner'?"),
        (["planner", "--set", "planner.horizon=3"], "--set changes the settings of a preset, and 'planner' is none"),
        ([], "the following arguments are required: WHAT; see `foretell show --help`"),
    ],
)
def test_a_mistake_in_what_is_to_be_shown(argv, sentence, refused):
    assert refused("show", *argv) == sentence


# Training.


def test_a_dry_run_tells_what_would_be_trained_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["train", "pets/default+de", "--env", LINE, "--seed", "4", "--dry-run", "--set", "planner.population=50"]
    assert main(command) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["preset"].endswith("; DE, an ensemble of deterministic networks")
    assert lines["environment"] == f"{LINE}, observations [2], actions [1], 5 steps per episode"
    assert (lines["agent"], lines["seed"]) == ("pets", "4")
    assert lines["directory"] == "runs/pets-default+de/environments-tiny-Line-v0/4"
    assert lines["settings"] == "as in pets/default, but for"
    assert lines["task.env:"] == f"{LINE} (not null)"
    assert lines["model.probabilistic:"] == "false (not true)" and lines["planner.population:"] == "50 (not 60)"
    assert not any(tmp_path.iterdir())


@pytest.mark.long
def test_a_dry_run_tells_of_stages_and_of_a_run_that_is_there(run_copy, capsys):
    assert main(["train", "mbmf/cheetah", "--dry-run", "--out", str(run_copy)]) == 0
    out = capsys.readouterr().out
    assert "trained first  mbmf/cheetah-mpc, mbmf/cheetah-imitation\n" in out
    assert f"{run_copy}, where there is a run already\n" in out and "settings       as in mbmf/cheetah\n" in out


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["pets/default"], "name the environment: --env ID, for example --env Pendulum-v1"),
        (
            ["pets/default", "--env", "Pendulum-v9"],
            "no Gymnasium environment 'Pendulum-v9'; did you mean 'Pendulum-v1'?",
        ),
        (["pets/cartpole", "--seed", "-1"], "seed must be a whole number from 0 to 2147483647, not -1"),
        (["pets/cartpole+random+cem"], "the parts 'random' and 'cem' both choose the planner; keep one"),
        (["nowhere.yaml"], "no preset 'nowhere.yaml'; there is no such file"),
        (["pets/cartpole", "--dry"], "foretell train does not take '--dry'; did you mean '--dry-run'?"),
    ],
)
def test_a_dry_run_tells_the_mistakes_that_training_would(argv, sentence, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused("train", *argv, "--dry-run") == sentence
    assert not any(tmp_path.iterdir())


@pytest.mark.long
def test_a_file_is_trained_with_its_seed_and_can_be_repeated_from_its_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    own = {"base": "pets/default", "task": {"env": LINE}, "seed": 6, **TINY, "train": {**TINY["train"], "trials": 1}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(own))
    assert main(["train", "./mine.yaml", "--quiet"]) == 0
    assert main(["train", "runs/mine/6/config.yaml", "--quiet", "--out", "again"]) == 0
    assert capsys.readouterr() == ("", "")
    first, again = ((tmp_path / folder / "data").iterdir() for folder in ("runs/mine/6", "again"))
    assert {path.name: path.read_bytes() for path in first} == {path.name: path.read_bytes() for path in again}
    assert "seed: 6" in (tmp_path / "again" / "config.yaml").read_text()


@pytest.mark.long
def test_train_prints_one_plain_line_per_episode_when_not_in_a_terminal(tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", "pets/default", "--env", LINE, "--out", str(out), *TINY_SET]) == 0
    text, err = capsys.readouterr()
    lines = text.splitlines()
    assert err == "" and "\x1b" not in text and "\r" not in text
    assert [line.split("  ")[0].strip() for line in lines[:3]] == ["random", "trial 1/2", "trial 2/2"]
    assert [line.split()[0] for line in lines[3:]] == ["returns", "trials", "run", "curve"]
    assert lines[5].split()[1] == str(out) and (out / "figures" / "learning_curve.png").is_file()


@pytest.mark.long
def test_train_quiet_prints_nothing_and_overwrite_replaces_the_run_alone(run_copy, capsys):
    (run_copy / "notes.txt").write_text("mine")
    (run_copy / "data" / "old.npz").touch()
    arguments = ["train", "pets/default", "--env", LINE, "--out", str(run_copy), *TINY_SET, "train.trials=1"]
    assert main([*arguments, "--overwrite", "--quiet", "--seed", "7"]) == 0
    assert capsys.readouterr() == ("", "")
    assert (run_copy / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in (run_copy / "data").iterdir()) == ["episode_0000.npz", "episode_0001.npz"]
    assert "seed: 7" in (run_copy / "config.yaml").read_text()


@pytest.mark.long
def test_resume_adds_trials(run_copy, capsys):
    before = (run_copy / "episodes.csv").read_text()
    assert main(["resume", str(run_copy), "--set", "train.trials=3"]) == 0
    out = capsys.readouterr().out
    assert "continuing at episode 3" in out and "trial 3/3" in out
    after = (run_copy / "episodes.csv").read_text()
    assert after.startswith(before) and after.count("\n") == before.count("\n") + 1
    assert "trials: 3" in (run_copy / "config.yaml").read_text()


@pytest.mark.long
def test_resume_of_a_finished_run_says_so_and_changes_nothing(run_copy, capsys):
    before = snapshot(run_copy)
    assert main(["resume", str(run_copy)]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "already finished: all 2 trials are done; for more, raise train.trials"
    assert err == "" and snapshot(run_copy) == before


@pytest.mark.long
def test_eval_prints_each_episode_and_the_mean(trained, capsys):
    before = snapshot(trained)
    assert main(["eval", str(trained), "--episodes", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[:3]] == [["episode", "0"], ["episode", "1"], ["episode", "2"]]
    assert lines[3].startswith("mean ") and lines[3].endswith("over 3 episodes")
    assert snapshot(trained) == before


@pytest.mark.long
def test_eval_json_is_json_alone_and_repeats(trained, capsys):
    answers = []
    for seed in ("5", "5", "6"):
        assert main(["eval", str(trained), "--episodes", "2", "--seed", seed, "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    first, again, other = answers
    assert first == again and first["returns"] != other["returns"]
    assert first["run"] == str(trained) and first["lengths"] == [5, 5] and first["videos"] is None
    assert first["mean"] == pytest.approx(sum(first["returns"]) / 2)


@pytest.mark.long
def test_eval_json_stays_json_when_a_checkpoint_is_damaged(run_copy, capsys):
    newest = max((run_copy / "checkpoints").iterdir(), key=lambda path: int(path.name))
    for path in newest.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    before = snapshot(run_copy)
    assert main(["eval", str(run_copy), "--episodes", "1", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["lengths"] == [5]
    assert err.startswith(f"warning: checkpoint {newest.name} is damaged, using the one before (") and err.endswith(
        ")\n"
    )
    assert snapshot(run_copy) == before


@pytest.fixture
def no_probe(monkeypatch):
    """The tiny environment draws itself; no renderer is needed, nor sought."""
    monkeypatch.setattr(video, "choose_renderer", lambda: None)


@pytest.mark.long
def test_train_films_the_trained_agent(tmp_path, no_probe, capsys):
    out = tmp_path / "run"
    assert (
        main(["train", "pets/default", "--env", LINE, "--out", str(out), *TINY_SET, "train.trials=1", "--video"]) == 0
    )
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("video ") and Path(said.split()[1]).stat().st_size > 0


@pytest.mark.long
def test_eval_films_every_episode(run_copy, no_probe, capsys):
    assert main(["eval", str(run_copy), "--episodes", "2", "--seed", "4", "--video"]) == 0
    folder = run_copy / "videos" / "seed-4"
    assert capsys.readouterr().out.splitlines()[-1] == f"videos in {folder}"
    assert sorted(path.name for path in folder.iterdir()) == ["eval-episode-0.mp4", "eval-episode-1.mp4"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("schedule", "filmed"),
    [
        pytest.param(["train.record=2", "train.eval_episodes=2"], [1, 2, 4, 5], marks=pytest.mark.slow),
        (
            ["train.record=3", "train.episodes_per_learning=2", "train.trials=3", "train.eval_episodes=1"],
            [1, 2, 3, 5, 6],
        ),
    ],
    ids=str,
)
def test_the_first_few_episodes_after_each_learning_can_be_filmed(schedule, filmed, tmp_path, no_probe, capsys):
    """Random episodes are none of them."""
    out = tmp_path / "run"
    command = ["train", "pets/default", "--env", LINE, "--out", str(out), "--quiet", *TINY_SET, *schedule]
    assert main(command) == 0
    videos = sorted((out / "videos").iterdir())
    assert [path.name for path in videos] == [f"run-episode-{number}.mp4" for number in filmed]
    assert all(path.stat().st_size > 0 for path in videos)
    assert capsys.readouterr() == ("", "")


@pytest.mark.long
def test_filming_changes_nothing_of_the_run(tmp_path, no_probe, trained):
    """Which by default has no films."""
    assert not (trained / "videos").exists()
    out = tmp_path / "run"
    assert (
        main(["train", "pets/default", "--env", LINE, "--out", str(out), "--quiet", *TINY_SET, "train.record=9"]) == 0
    )
    assert [path.name for path in sorted((out / "videos").iterdir())] == ["run-episode-1.mp4", "run-episode-2.mp4"]
    for path in (trained / "data").iterdir():
        assert (out / "data" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.long
def test_a_film_shows_the_episode_that_was(run_copy, no_probe, monkeypatch):
    """Step by step what the run has on disk, at ten pictures a second."""
    from foretell.runs.directory import RunDirectory

    shown, render = [], Line.render
    monkeypatch.setattr(Line, "render", lambda env: (shown.append(env.state.copy()), render(env))[1])
    task = make_task(TaskSettings(env=LINE))
    video.film(task, RunDirectory(run_copy), 0, 2)
    observations = RunDirectory(run_copy).read_episode(2)["observations"]
    assert {tuple(state) for state in observations} <= {tuple(state) for state in shown}


@pytest.mark.long
def test_episodes_of_a_finished_run_are_filmed(run_copy, no_probe, capsys):
    """By default at 0, 1, 8, 27 and so on; here there are three."""
    for choice, filmed in (([], [0, 1]), (["--episodes", "2", "0"], [2, 0])):
        assert main(["film", str(run_copy), *choice]) == 0
        paths = [Path(line.split()[1]) for line in capsys.readouterr().out.splitlines()]
        assert [path.name for path in paths] == [f"run-episode-{number}.mp4" for number in filmed]
        assert all(path.stat().st_size > 0 and path.parent == run_copy / "videos" for path in paths)


def test_numbers_of_episodes_that_are_filmed_are_cubes(monkeypatch, no_probe, tmp_path):
    rows = [{"episode": number} for number in range(160)]
    monkeypatch.setattr(video.RunDirectory, "read_episodes", lambda _: rows)
    monkeypatch.setattr(video, "film", lambda task, directory, seed, number, warn, overlay: number)
    found = video.film_finished(make_task(TaskSettings(env=LINE)), video.RunDirectory(tmp_path), 0, None)
    assert list(found) == [0, 1, 8, 27, 64, 125]


@pytest.mark.long
def test_an_episode_is_filmed_from_where_it_began_with_the_actions_that_were_executed(tmp_path, no_probe, monkeypatch):
    """A random one begins as random ones do, and an action beyond the bounds is executed as the nearest within."""
    task = make_task(TaskSettings(env=LINE))
    task.collecting_reset = {"collecting": True}
    directory = video.RunDirectory(tmp_path)
    directory.data.mkdir()
    begun, executed = [], []
    reset, step = Line.reset, Line.step
    monkeypatch.setattr(Line, "reset", lambda env, **how: (begun.append(how["options"]), reset(env, **how))[1])
    monkeypatch.setattr(Line, "step", lambda env, action: (executed.append(float(action[0])), step(env, action))[1])
    for number, kind in enumerate(("random", "train")):
        row = {"episode": number, "kind": kind, "env_steps": 1}
        directory.write_episode(row, np.zeros((2, 2)), np.array([[3.0]]), np.zeros(1), number=0)
        video.film(task, directory, 0, number)
    assert begun[-1] is None and {"collecting": True} in begun and executed == [1.0, 1.0]


@pytest.mark.long
def test_eval_takes_the_agent_of_a_trial(tmp_path, capsys):
    out = tmp_path / "run"
    arguments = ["train", "pets/default", "--env", LINE, "--out", str(out), *TINY_SET, "train.save_all_models=true"]
    assert main([*arguments, "--quiet"]) == 0
    returns = []
    for trial in (["--trial", "1"], ["--trial", "2"], []):
        assert main(["eval", str(out), "--episodes", "2", "--json", *trial]) == 0
        returns.append(json.loads(capsys.readouterr().out)["returns"])
    assert returns[0] != returns[1] == returns[2]


@pytest.mark.long
def test_eval_takes_the_best_agent(tmp_path, capsys, refused):
    out = tmp_path / "run"
    arguments = ["train", "pets/default", "--env", LINE, "--out", str(out), *TINY_SET, "train.keep_best=true"]
    assert main([*arguments, "--quiet"]) == 0
    assert main(["eval", str(out), "--episodes", "2", "--json", "--best"]) == 0
    assert len(json.loads(capsys.readouterr().out)["returns"]) == 2
    assert refused("eval", out, "--best", "--trial", "1") == "choose one: the agent of a trial, or the best"


def test_export_mat_of_a_real_run(run_copy, capsys):
    from scipy.io import loadmat

    assert main(["export-mat", str(run_copy)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"written to {run_copy / 'logs.mat'}"
    found = loadmat(run_copy / "logs.mat")
    assert found["observations"].shape == (3, 6, 2) and found["returns"].shape == (1, 2)


@pytest.mark.parametrize(("works", "chosen"), [("egl", "egl"), ("osmesa", "osmesa"), (None, None)])
def test_the_first_renderer_that_works_without_a_screen_is_chosen(works, chosen, monkeypatch):
    def run(command, env, **_):
        return subprocess.CompletedProcess(command, int(env["MUJOCO_GL"] != works))

    monkeypatch.setattr(video.subprocess, "run", run)
    monkeypatch.setattr(video.sys, "platform", "linux")
    monkeypatch.setattr(video.os, "environ", {})
    video.choose_renderer()
    assert video.os.environ.get("MUJOCO_GL") == chosen


def test_a_renderer_that_is_set_is_kept(monkeypatch):
    monkeypatch.setattr(video.os, "environ", {"MUJOCO_GL": "glfw"})
    monkeypatch.setattr(video.subprocess, "run", lambda *_, **__: pytest.fail("probed"))
    video.choose_renderer()
    assert video.os.environ == {"MUJOCO_GL": "glfw"}


@pytest.mark.parametrize("words", [["film"], ["eval", "--video"], ["inspect", "--video"]])
def test_a_renderer_is_chosen_before_the_environment_is_made(words, run_copy, monkeypatch):
    done = []
    for module in (api, video):
        monkeypatch.setattr(module, "choose_renderer", lambda: done.append("renderer"))
    make = api.make_task
    monkeypatch.setattr(api, "make_task", lambda *args: done.append("task") or make(*args))
    assert main([words[0], str(run_copy), *words[1:]]) == 0
    assert done[:2] == ["renderer", "task"]


@pytest.mark.long
def test_a_real_process_trains_and_its_output_survives_any_encoding(tmp_path):
    out = tmp_path / "run"
    arguments = ["train", "pets/default", "--env", LINE, "--out", str(out), *TINY_SET]
    done = foretell(*arguments, PYTHONIOENCODING="ascii", COLUMNS="20")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line for line in done.stdout.splitlines() if not line.startswith("compiling")]  # said if it takes long
    assert len(lines) == 7
    assert (out / "figures" / "learning_curve.png").stat().st_size > 10_000, "the whole curve, as no other run here has"


@pytest.mark.long
def test_a_real_process_ends_with_2_and_one_sentence_after_a_mistake(trained):
    """Here a renderer that does not exist."""
    done = foretell("eval", str(trained), MUJOCO_GL="nonsense")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("foretell: MUJOCO_GL=nonsense does not work here (")
    assert done.stderr.count("\n") == 1
