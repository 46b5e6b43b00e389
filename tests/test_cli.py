"""Each command of the command line, working."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from environments import Line
from foretell.cli import main
from foretell.report import video
from foretell.runs.presets import part_names, preset_names
from foretell.tasks import TaskSettings, make_task
from tiny import LINE, TINY_SET, snapshot


def foretell(*argv, **env) -> subprocess.CompletedProcess:
    """A real process, its working directory and environment those of a user."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "foretell", *argv]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path, **env})


@pytest.mark.parametrize(
    "argv", [["--help"], ["train", "--help"], ["resume", "-h"], ["eval", "-h"], ["export-mat", "-h"], ["presets", "-h"]]
)
def test_help_names_what_there_is(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    out, err = capsys.readouterr()
    assert stop.value.code == 0 and not err and out.startswith("usage: foretell")
    if argv == ["--help"]:
        assert all(
            command in out for command in ("train", "resume", "eval", "inspect", "film", "export-mat", "presets", "toy")
        )


def test_presets_lists_every_preset_and_part_with_its_description(capsys):
    assert main(["presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    middle = lines.index("")
    assert [line.split()[0] for line in lines[:middle]] == preset_names()
    assert "preset with +" in lines[middle + 1]
    assert [line.split()[0] for line in lines[middle + 2 :]] == part_names()
    assert {"pets/cartpole", "pets/cartpole-paper", "pets/default"} <= set(preset_names())
    assert all(len(line.split()) > 3 for line in lines if line)


def test_presets_and_help_do_not_wait_for_jax():
    code = "import sys; from foretell.cli import main; main(['presets']); print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_train_prints_one_plain_line_per_episode_when_not_in_a_terminal(tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", "pets/default", "--env", LINE, "--out", str(out), *TINY_SET]) == 0
    text, err = capsys.readouterr()
    lines = text.splitlines()
    assert err == "" and "\x1b" not in text and "\r" not in text
    assert [line.split("  ")[0].strip() for line in lines[:3]] == ["random", "trial 1/2", "trial 2/2"]
    assert [line.split()[0] for line in lines[3:]] == ["returns", "best", "run", "curve"]
    assert lines[5].split()[1] == str(out) and (out / "figures" / "learning_curve.png").is_file()


def test_train_quiet_prints_nothing_and_overwrite_replaces_the_run_alone(run_copy, capsys):
    (run_copy / "notes.txt").write_text("mine")
    (run_copy / "data" / "old.npz").touch()
    arguments = ["train", "pets/default", "--env", LINE, "--out", str(run_copy), *TINY_SET, "train.trials=1"]
    assert main([*arguments, "--overwrite", "--quiet", "--seed", "7"]) == 0
    assert capsys.readouterr() == ("", "")
    assert (run_copy / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in (run_copy / "data").iterdir()) == ["episode_0000.npz", "episode_0001.npz"]
    assert "seed: 7" in (run_copy / "config.yaml").read_text()


def test_resume_adds_trials(run_copy, capsys):
    before = (run_copy / "episodes.csv").read_text()
    assert main(["resume", str(run_copy), "--set", "train.trials=3"]) == 0
    out = capsys.readouterr().out
    assert "continuing at episode 3" in out and "trial 3/3" in out
    after = (run_copy / "episodes.csv").read_text()
    assert after.startswith(before) and after.count("\n") == before.count("\n") + 1
    assert "trials: 3" in (run_copy / "config.yaml").read_text()


def test_resume_of_a_finished_run_says_so_and_changes_nothing(run_copy, capsys):
    before = snapshot(run_copy)
    assert main(["resume", str(run_copy)]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "already finished: all 2 trials are done; for more, raise train.trials"
    assert err == "" and snapshot(run_copy) == before


def test_eval_prints_each_episode_and_the_mean(trained, capsys):
    before = snapshot(trained)
    assert main(["eval", str(trained), "--episodes", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[:3]] == [["episode", "0"], ["episode", "1"], ["episode", "2"]]
    assert lines[3].startswith("mean ") and lines[3].endswith("over 3 episodes")
    assert snapshot(trained) == before


def test_eval_json_is_json_alone_and_repeats(trained, capsys):
    answers = []
    for seed in ("5", "5", "6"):
        assert main(["eval", str(trained), "--episodes", "2", "--seed", seed, "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    first, again, other = answers
    assert first == again and first["returns"] != other["returns"]
    assert first["run"] == str(trained) and first["lengths"] == [5, 5] and first["videos"] is None
    assert first["mean"] == pytest.approx(sum(first["returns"]) / 2)


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


def test_train_films_the_trained_agent(tmp_path, no_probe, capsys):
    out = tmp_path / "run"
    assert (
        main(["train", "pets/default", "--env", LINE, "--out", str(out), *TINY_SET, "train.trials=1", "--video"]) == 0
    )
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("video ") and Path(said.split()[1]).stat().st_size > 0


def test_eval_films_every_episode(run_copy, no_probe, capsys):
    assert main(["eval", str(run_copy), "--episodes", "2", "--seed", "4", "--video"]) == 0
    folder = run_copy / "videos" / "seed-4"
    assert capsys.readouterr().out.splitlines()[-1] == f"videos in {folder}"
    assert sorted(path.name for path in folder.iterdir()) == ["eval-episode-0.mp4", "eval-episode-1.mp4"]


@pytest.mark.parametrize(
    ("schedule", "filmed"),
    [
        (["train.record=1"], [1, 2]),
        (["train.record=1", "train.eval_episodes=2"], [1, 4]),
        (["train.record=2", "train.eval_episodes=2"], [1, 2, 4, 5]),
        (["train.record=1", "train.episodes_per_learning=2", "train.trials=3"], [1, 3]),
        (
            ["train.record=3", "train.episodes_per_learning=2", "train.trials=3", "train.eval_episodes=1"],
            [1, 2, 3, 5, 6],
        ),
        (["train.record=0"], []),
    ],
    ids=str,
)
def test_the_first_few_episodes_after_each_learning_can_be_filmed(schedule, filmed, tmp_path, no_probe, capsys):
    """Random episodes are none of them."""
    out = tmp_path / "run"
    command = ["train", "pets/default", "--env", LINE, "--out", str(out), "--quiet", *TINY_SET, *schedule]
    assert main(command) == 0
    videos = sorted((out / "videos").iterdir()) if filmed else []
    assert [path.name for path in videos] == [f"run-episode-{number}.mp4" for number in filmed]
    assert all(path.stat().st_size > 0 for path in videos)
    assert capsys.readouterr() == ("", "")


def test_filming_changes_nothing_of_the_run(tmp_path, no_probe, trained):
    out = tmp_path / "run"
    assert (
        main(["train", "pets/default", "--env", LINE, "--out", str(out), "--quiet", *TINY_SET, "train.record=9"]) == 0
    )
    for path in (trained / "data").iterdir():
        assert (out / "data" / path.name).read_bytes() == path.read_bytes()


def test_a_film_shows_the_episode_that_was(run_copy, no_probe, monkeypatch):
    """Step by step what the run has on disk, at ten pictures a second."""
    from foretell.runs.directory import RunDirectory

    shown, render = [], Line.render
    monkeypatch.setattr(Line, "render", lambda env: (shown.append(env.state.copy()), render(env))[1])
    task = make_task(TaskSettings(env=LINE))
    video.film(task, RunDirectory(run_copy), 0, 2)
    observations = RunDirectory(run_copy).read_episode(2)["observations"]
    assert {tuple(state) for state in observations} <= {tuple(state) for state in shown}


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
    monkeypatch.setattr(video, "film", lambda task, directory, seed, number: number)
    found = video.film_finished(make_task(TaskSettings(env=LINE)), video.RunDirectory(tmp_path), 0, None)
    assert list(found) == [0, 1, 8, 27, 64, 125]


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
        row = {"episode": number, "kind": kind}
        directory.write_episode(row, np.zeros((2, 2)), np.array([[3.0]]), np.zeros(1))
        video.film(task, directory, 0, number)
    assert begun[-1] is None and {"collecting": True} in begun and executed == [1.0, 1.0]


def test_eval_takes_the_agent_of_a_trial(tmp_path, capsys):
    out = tmp_path / "run"
    arguments = ["train", "pets/default", "--env", LINE, "--out", str(out), *TINY_SET, "train.save_all_models=true"]
    assert main([*arguments, "--quiet"]) == 0
    returns = []
    for trial in (["--trial", "1"], ["--trial", "2"], []):
        assert main(["eval", str(out), "--episodes", "2", "--json", *trial]) == 0
        returns.append(json.loads(capsys.readouterr().out)["returns"])
    assert returns[0] != returns[1] == returns[2]


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


def test_a_real_process_trains_and_its_output_survives_any_encoding(tmp_path):
    out = tmp_path / "run"
    arguments = ["train", "pets/default", "--env", LINE, "--out", str(out), *TINY_SET]
    done = foretell(*arguments, PYTHONIOENCODING="ascii", COLUMNS="20")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 7


def test_a_real_process_ends_with_2_and_one_sentence_after_a_mistake(tmp_path):
    done = foretell("train", "pets/cartpol", "--out", str(tmp_path / "run"))
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "foretell: no preset 'pets/cartpol'; did you mean 'pets/cartpole'?\n"


def test_a_renderer_that_does_not_exist_is_told(trained):
    done = foretell("eval", str(trained), MUJOCO_GL="nonsense")
    assert done.returncode == 2 and done.stderr.startswith("foretell: MUJOCO_GL=nonsense does not work here (")
    assert done.stderr.count("\n") == 1


def test_square_brackets_of_a_warning_are_printed_as_they_are(capsys):
    from foretell.callbacks.console import Display, plain_console

    Display(plain_console(stderr=True)).warned("damaged [/tmp/x] [source=1] :smile:")
    assert capsys.readouterr().err == "warning: damaged [/tmp/x] [source=1] :smile:\n"
