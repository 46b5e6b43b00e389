"""Every printable character may be in a path: nothing takes a name for a pattern, a format or mathematics."""

import numpy as np
import pytest

from foretell.cli import main
from foretell.errors import UserError
from foretell.report import video
from foretell.report.comparison import Group, Line, draw_comparison
from foretell.report.comparison import curve_of as curve
from foretell.report.curve import draw_learning_curve
from foretell.runs.checkpoint import Checkpoints
from foretell.runs.directory import RunDirectory
from foretell.runs.presets import resolve, title
from foretell.tasks import TaskSettings, make_task
from tiny import LINE

TREE = {"a": np.arange(3.0), "n": np.zeros((), np.int64)}
NAMES = [
    "50% x",
    "%d",
    "%20",
    "[ab]",
    "a\\b",
    "gs:",
    "s3:",
    "a:b",
    "*",
    "?",
    "#1",
    "~",
    "$HOME",
    "{x}",
    "ü 日本",
    "'\"",
]


@pytest.mark.parametrize("name", [*NAMES, "".join(map(chr, range(33, 127))).replace("/", "")])
@pytest.mark.long
def test_checkpoints_are_where_they_should_be_and_can_be_read(name, tmp_path):
    folder = tmp_path / name / "checkpoints"
    for kept, numbers in ((2, (1, 2, 3)), (2, (4,))):
        checkpoints = Checkpoints(folder, keep=kept)
        for number in numbers:
            checkpoints.save(number, {**TREE, "n": np.array(number)}, {"seed": number})
        checkpoints.close()
    reader = Checkpoints(folder)
    assert reader.restore(TREE, print)["n"] == 4 and reader.notes() == {"seed": 4}
    reader.close()
    assert sorted(path.name for path in folder.iterdir()) == ["3", "4"] and [*tmp_path.iterdir()] == [tmp_path / name]


@pytest.mark.parametrize("name", ["a\nb", "a\tb", "a\x1b[31m", "a\udcffb", "a\x00b"])
def test_names_that_cannot_be_printed_are_refused_at_once(name, tmp_path):
    with pytest.raises(UserError, match="printable characters only, not '"):
        RunDirectory.create(tmp_path / name, overwrite=False)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("command", [("eval",), ("train",), ("show",), ("plot",), ("train", "pets/cartpole", "--out")])
@pytest.mark.parametrize("name", ["x" * 300, "y/" * 2500 + "z"], ids=len)
def test_names_that_are_too_long_are_one_sentence(command, name, refused):
    assert len(refused(*command, name)) < 1300


@pytest.mark.parametrize("command", ["export-mat", "report", "random"])
def test_a_path_with_a_null_character(command, trained, refused):
    given = ["--env", LINE, "--episodes", "1"] if command == "random" else [trained]
    seconds = ["--model-seconds", "0"] if command == "report" else []
    sentence = refused(command, *given, *seconds, "--out", "a\0b.html")
    assert sentence.endswith("a path cannot hold the null character")


@pytest.mark.long
def test_an_episode_is_filmed_again_in_any_folder(tmp_path):
    directory = RunDirectory.create(tmp_path / "50% x $y$ [z]", overwrite=False)
    directory.write_config(resolve("pets/default", [{"task": {"env": LINE}}]), "pets/default", 0)
    row = {"episode": 0, "env_steps": 2, "kind": "train", "return": 0.0, "length": 2, "wall_seconds": 0.1}
    directory.write_episode(row, np.zeros((3, 2)), np.zeros((2, 1)), np.zeros(2), number=0)
    task = make_task(TaskSettings(env=LINE))
    made = [video.film(task, directory, 0, 0) for _ in range(2)]
    assert made[0] == directory.videos / "run-episode-0.mp4" and made[0].stat().st_size > 0
    assert [*directory.videos.iterdir()] == [made[0]]


@pytest.mark.parametrize("name", ["a$b$c", "$\\frac{", "x_$", "_hidden"])
@pytest.mark.long
def test_figures_show_names_as_they_are(name, tmp_path):
    rows = [{"kind": "train", "env_steps": i, "return": 1.0 * i, "episode": i, "length": 1} for i in (1, 2)]
    shown = title(f"{name}.yaml", resolve("pets/cartpole"), 0)
    draw_learning_curve(rows, tmp_path / "curve.png", title=shown)
    draw_comparison([Group(name, [curve(rows, 1)])], [Line(name, 1.0)], tmp_path / "curves.png")
    assert {path.name for path in tmp_path.iterdir()} == {"curve.png", "curves.png"}


@pytest.mark.parametrize("fault", [ValueError("gone"), OSError("gone"), KeyError("gone")], ids=repr)
def test_a_first_checkpoint_that_cannot_be_read_ends_the_run(fault, tmp_path, monkeypatch):
    def read(*_):
        raise fault

    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    monkeypatch.setattr(Checkpoints, "_read", read)
    with pytest.raises(UserError, match=r"checkpoints/1' was written but cannot be read \(.*gone"):
        checkpoints.save(1, TREE)
        checkpoints.wait()
    checkpoints.close()


@pytest.mark.long
def test_a_toy_study_goes_into_a_folder_of_its_own(tmp_path, refused):
    (tmp_path / "mine.txt").write_text("mine")
    assert refused("toy", "--out", "/").startswith("'/' is not empty and holds nothing of what is written there;")
    assert "choose another --out" in refused("toy", "--out", tmp_path)
    assert [*tmp_path.iterdir()] == [tmp_path / "mine.txt"]
    (tmp_path / "toy.png").write_text("an earlier study")
    assert main(["toy", "--out", str(tmp_path), "--steps", "0"]) == 2  # for another reason
