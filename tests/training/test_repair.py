"""Tables and data of a run that were spoilt are made again when it continues, and what was done is said."""

import re
import shutil

import pytest
from witness import TIMED, finished, lined

from foretell.training.events import Callback
from tiny import by_hand

OPTIONS = {"data": "replay", "trials": 4, "environments": 2, "eval_episodes": 1}
MORE = {**OPTIONS, "trials": 6}


class Listens(Callback):
    def __init__(self):
        self.said = []

    def on_warning(self, event):
        self.said.append(event.text)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The directory of a run that is to go on."""
    return finished(tmp_path_factory.mktemp("saved") / "run", **OPTIONS).directory.path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What it comes to if nothing is spoilt."""
    return finished(tmp_path_factory.mktemp("whole") / "run", **MORE).results


def gone_on(path):
    """What a run has come to, and what was said."""
    listens = Listens()
    run = finished(path, callbacks=[listens], **MORE)
    return run.results, listens.said


def cut(count):
    return lambda text: text[:-count]


def without(*numbers):
    """A table without these rows."""
    return lambda text: "".join(line for i, line in enumerate(text.splitlines(True)) if i - 1 not in numbers)


TABLES = {
    "torn": cut(3),
    "a row short": without(4),
    "edited": lambda text: re.sub(r"-?\d+\.\d+", "7.0", text, count=1),
    "torn in the middle of a number": cut(1),
    "the first rows gone": without(0, 1, 2),
    "empty": lambda text: "",
    "glued": lambda text: text.replace("\r\n", "", 2).replace("\n", "", 1),
    "no text": lambda text: "\x00\xff" + text,
}


@pytest.mark.parametrize("harm", ["torn", "a row short", "edited", *by_hand(*list(TABLES)[3:])])
@pytest.mark.long
def test_a_table_of_episodes_is_made_again_from_the_data(harm, saved, whole, tmp_path):
    out = shutil.copytree(saved, tmp_path / "run")
    table = out / "episodes.csv"
    with table.open(newline="") as file:
        text = file.read()
    table.write_text(TABLES[harm](text), newline="")
    results, said = gone_on(out)
    assert results == whole
    assert len(said) == 1 and said[0].startswith(f"'{table}' was changed or damaged after the checkpoint")


@pytest.mark.long
def test_a_table_that_is_not_there(saved, whole, tmp_path):
    out = shutil.copytree(saved, tmp_path / "run")
    (out / "episodes.csv").unlink()
    results, said = gone_on(out)
    assert results == whole and "rebuilt from the data" in said[0]


@pytest.mark.long
def test_metrics_that_are_lost_are_said_and_the_next_row_begins_a_line(saved, whole, tmp_path):
    out = shutil.copytree(saved, tmp_path / "run")
    table = out / "metrics.csv"
    table.write_bytes(table.read_bytes()[:-4])
    results, said = gone_on(out)
    assert results[0][0] == whole[0][0] and results[1:] == whole[1:]
    assert len(results[0][1]) == len(whole[0][1]) - 1 and {*map(len, results[0][1])} == {*map(len, whole[0][1])}
    assert len(said) == 1 and "rows are lost" in said[0]


@pytest.mark.parametrize("harm", ["missing", "foreign", "damaged", "a name of its own"])
@pytest.mark.long
def test_data_that_are_not_the_runs(harm, saved, whole, tmp_path):
    out = shutil.copytree(saved, tmp_path / "run")
    path = out / "data" / "episode_0002.npz"
    if harm == "missing":
        path.unlink()
    elif harm == "foreign":
        shutil.copy(out / "data" / "episode_0001.npz", path)
    elif harm == "damaged":
        path.write_bytes(path.read_bytes()[:-30])
    else:
        (out / "data" / "episode_mine.npz").write_text("mine")
    results, said = gone_on(out)
    assert results[0] == whole[0] and results[2] == whole[2]
    if harm == "a name of its own":
        assert not said and (out / "data" / "episode_mine.npz").read_text() == "mine"
    else:
        assert said[-1] == f"'{out / 'data'}' lacks episode 2; films and diagnostics will do without"
        assert (out / "data" / "foreign-episode_0002.npz").exists() == (harm == "foreign")


@pytest.mark.long
def test_data_of_later_episodes_are_removed(saved, whole, tmp_path):
    out = shutil.copytree(saved, tmp_path / "run")
    shutil.copy(out / "data" / "episode_0001.npz", out / "data" / "episode_0777.npz")
    assert gone_on(out) == (whole, [])


@pytest.mark.long
def test_nothing_is_said_of_a_run_that_is_as_it_was(saved, whole, tmp_path):
    out = shutil.copytree(saved, tmp_path / "run")
    before = (out / "episodes.csv").read_bytes()
    lined(out, **MORE)
    assert (out / "episodes.csv").read_bytes() == before
    assert gone_on(out) == (whole, []) and "wall_seconds" in TIMED


@pytest.mark.parametrize(
    ("harm", "capacity"),
    [
        ("missing", 60),
        ("foreign", 12),
        pytest.param("damaged", 60, marks=pytest.mark.slow),
        pytest.param("missing", 12, marks=pytest.mark.slow),
    ],
)
@pytest.mark.long
def test_data_that_the_checkpoint_knows_are_made_again(harm, capacity, tmp_path):
    """Random episodes always, trials as long as the replay holds them, evaluations never."""
    options = {"trials": 8, "random_episodes": 2, "random_steps": 0, "eval_episodes": 1, "capacity": capacity}
    first = finished(tmp_path / "run", **options)
    before, data = first.results, first.directory.data
    files = {path.name: path.read_bytes() for path in data.iterdir()}
    kinds = {f"episode_{row['episode']:04d}.npz": row["kind"] for row in first.episodes}
    for name in files:
        if harm == "missing":
            (data / name).unlink()
        else:
            (data / name).write_bytes(files[name][:-30] if harm == "damaged" else files["episode_0001.npz"])
    listens = Listens()
    again = lined(tmp_path / "run", callbacks=[listens], **options)
    now = {name: (data / name).read_bytes() for name in files if (data / name).exists()}
    same = {kinds[name] for name in files if now.get(name) == files[name]}
    assert {"random", "train"} <= same and again.results[0] == before[0]
    lost = [name for name in files if now.get(name) != files[name]]
    assert {kinds[name] for name in lost} == ({"eval"} if capacity == 60 else {"eval", "train"})
    assert "played again from the actions in the checkpoint" in listens.said[-2] and "lacks" in listens.said[-1]
