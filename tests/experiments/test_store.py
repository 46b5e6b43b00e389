"""Copies of runs in a store: complete or as before, whatever happens meanwhile."""

from importlib.util import find_spec

import pytest
import yaml
from stubs import plan

from foretell import UserError
from foretell.cli import main
from foretell.experiments.directory import StudyDirectory

pytestmark = pytest.mark.skipif(
    not find_spec("pyarrow"), reason="pyarrow is not installed: pip install 'foretell[ray]'"
)


@pytest.fixture
def store(tmp_path):
    from foretell.experiments.store import Store

    return Store(f"file://{tmp_path}/store")


def write(run, *, checkpoints, rows=3):
    """A run directory with these checkpoints, of which a third one is being written."""
    for number in checkpoints:
        (run / f"checkpoints/{number}/run/d").mkdir(parents=True, exist_ok=True)
        (run / f"checkpoints/{number}/run/d/array").write_text(f"{number}" * 50)
    unfinished = run / "checkpoints" / "99.orbax-checkpoint-tmp-1"
    unfinished.mkdir(exist_ok=True)
    (unfinished / "array").write_text("half")
    (run / "episodes.csv").write_text("row\n" * rows)
    (run / ".lock").touch()
    return run


def content(folder):
    """Text of the finished files of a run."""
    files = [path for path in folder.rglob("*") if path.is_file() and "tmp" not in str(path.relative_to(folder))]
    return {
        str(path.relative_to(folder)): path.read_text() for path in files if path.name not in (".lock", "stored.json")
    }


def test_a_run_comes_back_as_it_was_stored(store, tmp_path):
    run = write(tmp_path / "run", checkpoints=[1, 2])
    store.push(run, "a/0")
    store.pull("a/0", tmp_path / "there" / "0")
    assert content(tmp_path / "there" / "0") == content(run) == content(tmp_path / "store" / "a" / "0")
    assert not (tmp_path / "there" / "0" / ".lock").exists()


def test_what_has_changed_is_copied_and_what_is_gone_is_removed(store, tmp_path, monkeypatch):
    run = write(tmp_path / "run", checkpoints=[1, 2])
    seen = store.push(run, "a/0")
    (run / "checkpoints/1/run/d/array").unlink()
    write(run, checkpoints=[3], rows=5)
    copied, upload = [], store.upload
    monkeypatch.setattr(store, "upload", lambda local, name, files: copied.extend(files) or upload(local, name, files))
    seen = store.push(run, "a/0", seen)
    assert sorted(copied) == ["checkpoints/3/run/d/array", "episodes.csv", "stored.json"]
    assert content(tmp_path / "store" / "a" / "0") == content(run)
    assert store.push(run, "a/0", seen) == seen
    assert len(copied) == 3


def test_another_process_removes_what_an_earlier_one_has_stored(store, tmp_path):
    store.push(write(tmp_path / "one", checkpoints=[1, 2]), "a/0")
    store.push(write(tmp_path / "two", checkpoints=[2, 3]), "a/0")
    assert not (tmp_path / "store/a/0/checkpoints/1/run/d/array").exists()


def test_an_interrupted_copy_leaves_the_one_before(store, tmp_path, monkeypatch):
    run = write(tmp_path / "run", checkpoints=[1, 2])
    seen, upload = store.push(run, "a/0"), store.upload
    (run / "checkpoints/1/run/d/array").unlink()
    write(run, checkpoints=[3], rows=5)

    def fails_at_the_end(local, name, files):
        if files == ["stored.json"]:
            raise UserError("the network is down")
        upload(local, name, files)

    monkeypatch.setattr(store, "upload", fails_at_the_end)
    with pytest.raises(UserError, match="network"):
        store.push(run, "a/0", seen)
    store.pull("a/0", tmp_path / "there")
    found = content(tmp_path / "there")
    assert {name for name in found if "checkpoints" in name} == {f"checkpoints/{i}/run/d/array" for i in (1, 2)}
    assert found["episodes.csv"] == "row\n" * 5  # a run cuts its tables when it resumes


def test_a_file_that_is_removed_meanwhile_postpones_the_copy(store, tmp_path, monkeypatch):
    from foretell.experiments import store as module

    run = write(tmp_path / "run", checkpoints=[1, 2])
    seen_in = module._seen_in

    def then_one_is_removed(folder, pattern="**/*"):
        found = seen_in(folder, pattern)
        (run / "checkpoints/1/run/d/array").unlink(missing_ok=True)
        return found

    monkeypatch.setattr(module, "_seen_in", then_one_is_removed)
    assert store.push(run, "a/0") == {}
    assert not store.has("a/0/stored.json")
    assert store.push(run, "a/0").keys() == {"checkpoints/2/run/d/array", "episodes.csv"}


@pytest.mark.parametrize(("here", "expected"), [([3], [3]), ([1, 2], [1, 2]), ([1], [1, 2]), ([0], [1, 2])])
def test_the_newer_run_is_kept(store, tmp_path, here, expected):
    store.push(write(tmp_path / "run", checkpoints=[1, 2]), "a/0")
    local = write(tmp_path / "here", checkpoints=here)
    store.pull("a/0", local)
    assert sorted(content(local)) == [*(f"checkpoints/{i}/run/d/array" for i in expected), "episodes.csv"]


def test_a_run_that_is_not_stored_stays(store, tmp_path):
    local = write(tmp_path / "here", checkpoints=[1])
    before = content(local)
    store.pull("a/0", local)
    assert content(local) == before


def test_a_copy_is_made_for_each_checkpoint_and_new_point_and_at_the_end(tmp_path):
    from foretell.experiments.store import Copy

    run, log = write(tmp_path / "run", checkpoints=[1]), tmp_path / "log.txt"
    log.write_text("output")
    stored = tmp_path / "store" / "a" / "0"
    copy = Copy(f"file://{tmp_path}/store", "a/0", run, log)
    copy.pull()  # nothing is stored yet
    copy.update()
    assert not stored.exists()  # what was there before is not new
    write(run, checkpoints=[2])
    copy.update()
    assert content(stored) == content(run)
    write(run, checkpoints=[], rows=9)
    copy.update()
    assert content(stored)["episodes.csv"] == "row\n" * 3
    copy.update(points=1)
    assert content(stored)["episodes.csv"] == "row\n" * 9
    write(run, checkpoints=[], rows=10)
    copy.finish()
    assert content(stored) == content(run) and (tmp_path / "store/logs/log.txt").read_text() == "output"


def test_a_study_is_continued_from_the_store_but_not_another_one(store, tmp_path):
    here, there = StudyDirectory(tmp_path / "here"), StudyDirectory(tmp_path / "there")
    with here.lock():
        here.write(plan())
    (here.path / "pets").mkdir()
    (here.path / "pets" / "of-a-run.csv").touch()
    store.push_study(here.path)
    store.pull_study(there.path, lambda folder: StudyDirectory(folder).check(plan()))
    assert there.config.read_text() == here.config.read_text()
    assert [path.name for path in there.path.iterdir()] == ["study.yaml"]
    (there.path / "study.yaml").write_text("mine")
    with pytest.raises(UserError, match=r"'file://.*/store' holds another study: .*; choose another --store"):
        store.pull_study(there.path, lambda folder: StudyDirectory(folder).check(plan(sets=["train.trials=7"])))
    assert (there.path / "study.yaml").read_text() == "mine"


@pytest.mark.parametrize("uri", ["foo://bucket/x", "s3:/x", "relative/path", "", "file:///proc/none/x"])
def test_a_store_that_cannot_be_used_is_named(uri):
    from foretell.experiments.store import Store

    with pytest.raises(UserError, match=f"cannot use the store '{uri}'"):
        Store(uri)


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
@pytest.mark.parametrize("command", ["study", "sweep"])
def test_a_store_is_for_ray(command, more, tmp_path, capsys):
    (tmp_path / "sweep.yaml").write_text(
        yaml.safe_dump({"experiments": {"pets": {"preset": "pets/default", "vary": {"planner.horizon": [2]}}}})
    )
    name = "pets/default" if command == "study" else str(tmp_path / "sweep.yaml")
    assert main([command, name, "--out", str(tmp_path / "out"), "--store", "s3://bucket", *more]) == 2
    assert "--store is for runs on Ray; add --ray" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
