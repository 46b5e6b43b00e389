import errno
import subprocess
import sys
import threading
from typing import NamedTuple
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from foretell.errors import UserError
from foretell.runs.checkpoint import Checkpoints

TREE = {"weights": jnp.arange(6.0).reshape(2, 3), "count": np.array(7), "obs": np.linspace(0, 1, 5)}


def save(folder, *numbers, keep=3):
    checkpoints = Checkpoints(folder, keep=keep)
    for number in numbers:
        checkpoints.save(number, {**TREE, "count": np.array(number)})
    checkpoints.close()


def same(tree, other):
    return jax.tree.all(jax.tree.map(np.array_equal, tree, other))


def test_what_is_saved_is_restored_to_the_bit_and_in_kind(tmp_path):
    save(tmp_path / "c", 1)
    tree = Checkpoints(tmp_path / "c").restore(TREE, print)
    assert same(tree, {**TREE, "count": np.array(1)})
    assert tree["obs"].dtype == np.float64 and isinstance(tree["obs"], np.ndarray)
    assert tree["weights"].dtype == jnp.float32


@pytest.mark.parametrize("size", [0, 1, 2**14, 2**14 + 1, 2**18])
def test_arrays_of_any_size_shape_and_type_are_restored(tmp_path, size):
    rows = np.arange(size)
    tree = {
        "float32": rows.astype(np.float32),
        "none": None,
        "deeper": (rows[::2] > 3, {"float64": rows[::-1].reshape(size, 1, 1) / 3}),
        "bfloat16": jnp.asarray(rows % 7, jnp.bfloat16),
        "int8": np.array(-5, np.int8),
    }
    checkpoints = Checkpoints(tmp_path / "c", keep=3)
    checkpoints.save(1, tree)
    checkpoints.close()
    found = Checkpoints(tmp_path / "c").restore(jax.tree.map(np.zeros_like, tree), print)
    assert jax.tree.structure(found) == jax.tree.structure(tree)
    for leaf, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(tree), strict=True):
        assert leaf.dtype == wanted.dtype and leaf.flags.writeable
        np.testing.assert_array_equal(leaf, wanted)


def test_arrays_are_found_by_name_in_whatever_order_they_were_saved(tmp_path):
    before, now = (
        NamedTuple("T", [("a", np.ndarray), ("b", np.ndarray)]),
        NamedTuple("T", [("b", np.ndarray), ("a", np.ndarray)]),
    )
    checkpoints = Checkpoints(tmp_path / "c", keep=3)
    checkpoints.save(1, before(np.zeros(2), np.ones(2)))
    checkpoints.close()
    found = Checkpoints(tmp_path / "c").restore(now(np.full(2, 5.0), np.full(2, 5.0)), print)
    np.testing.assert_array_equal(found, ([1, 1], [0, 0]))


@pytest.mark.parametrize(
    "like, sentence",
    [
        ({**TREE, "obs": np.zeros(6)}, r"'obs' is float64\[5\], not float64\[6\]"),
        ({**TREE, "obs": np.zeros(5, np.float32)}, r"'obs' is float64\[5\], not float32\[5\]"),
        ({"weights": TREE["weights"], "obs": TREE["obs"]}, r"'count' is int64\[\], not None"),
        ({**TREE, "more": {"leaf": np.zeros(2)}}, r"'more.leaf' is None, not float64\[2\]"),
    ],
)
def test_other_settings_are_refused_by_the_name_of_an_array(tmp_path, like, sentence):
    save(tmp_path / "c", 1)
    with pytest.raises(UserError, match=rf"does not fit the run's settings: {sentence}; undo the change"):
        Checkpoints(tmp_path / "c", keep=3).restore(like, print)
    assert Checkpoints(tmp_path / "c").restore(TREE, print)["count"] == 1


def test_a_checkpoint_of_another_format_is_named_and_kept(tmp_path):
    manager = ocp.CheckpointManager(tmp_path / "c", item_handlers=ocp.StandardCheckpointHandler())
    manager.save(1, args=ocp.args.StandardSave({"run": TREE}))
    manager.close()
    with pytest.raises(UserError, match=r"checkpoint 1 in .* is of an earlier Foretell"):
        Checkpoints(tmp_path / "c", keep=3).restore(TREE, print)
    assert (tmp_path / "c" / "1").exists()


def test_the_newest_wins_and_the_oldest_go(tmp_path):
    save(tmp_path / "c", 1, 2, 3, keep=2)
    assert Checkpoints(tmp_path / "c").restore(TREE, print)["count"] == 3
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["2", "3"]


def test_nothing_saved_is_told_apart_from_everything_damaged(tmp_path):
    save(tmp_path / "c", 1)
    assert Checkpoints(tmp_path / "c").exist
    for path in (tmp_path / "c" / "1").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.raises(UserError, match="no readable checkpoint"):
        Checkpoints(tmp_path / "c", keep=3).restore(TREE, lambda _: None)
    assert not Checkpoints(tmp_path / "new", keep=3).exist


def test_what_could_not_be_written_is_said_once_and_later_ones_can_be(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path / "c", keep=3)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints._orbax, "save", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
        checkpoints.save(1, TREE)
        with pytest.raises(UserError, match=r"cannot write a checkpoint in '.*/c': No space left on device"):
            checkpoints.save(2, TREE)
    checkpoints.save(2, TREE)
    checkpoints.close()
    assert Checkpoints(tmp_path / "c").restore(TREE, print)["count"] == 7


@pytest.mark.long
def test_several_runs_of_a_process_write_and_read_at_the_same_time(tmp_path):
    runs = [Checkpoints(tmp_path / str(i), keep=2) for i in range(6)]
    for number in range(5):
        for run in runs:
            run.save(number, {**TREE, "count": np.array(number)}, {"number": number})
    for run in runs:
        run.close()
    for i in range(6):
        reader = Checkpoints(tmp_path / str(i))
        assert reader.restore(TREE, print)["count"] == 4 == reader.notes()["number"]


def test_writing_happens_in_the_background_and_is_waited_for(tmp_path, monkeypatch):
    checkpoints, go = Checkpoints(tmp_path / "c", keep=3), threading.Event()
    save_now = checkpoints._orbax.save
    monkeypatch.setattr(checkpoints._orbax, "save", lambda *args, **options: go.wait() and save_now(*args, **options))
    checkpoints.save(1, TREE)
    assert not (tmp_path / "c" / "1").exists()
    go.set()
    checkpoints.wait()
    assert (tmp_path / "c" / "1").exists()
    checkpoints.close()


@pytest.mark.long
def test_a_half_written_checkpoint_is_ignored_and_removed_when_writing(tmp_path):
    save(tmp_path / "c", 1)
    unfinished = tmp_path / "c" / "2.orbax-checkpoint-tmp"
    unfinished.mkdir()
    assert Checkpoints(tmp_path / "c").restore(TREE, print)["count"] == 1
    assert unfinished.exists()
    assert Checkpoints(tmp_path / "c", keep=3).restore(TREE, print)["count"] == 1
    assert not unfinished.exists()


@pytest.mark.long
def test_a_reader_changes_nothing(tmp_path):
    save(tmp_path / "c", 1, 2)
    for path in (tmp_path / "c" / "2").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    warnings = []
    assert Checkpoints(tmp_path / "c").restore(TREE, warnings.append)["count"] == 1
    assert "checkpoint 2 is damaged" in warnings[0]
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["1", "2"]


@pytest.mark.long
def test_a_number_may_be_damaged_twice(tmp_path):
    save(tmp_path / "c", 1)
    for _ in range(2):
        save(tmp_path / "c", 2)
        (tmp_path / "c" / "2" / "checksums.json").unlink()
        assert Checkpoints(tmp_path / "c", keep=3).restore(TREE, lambda _: None)["count"] == 1
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["1", "damaged-2"]


@pytest.mark.long
def test_a_changed_byte_of_any_file_is_noticed_or_harms_nothing(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c", keep=3)
    for number in (1, 2):
        checkpoints.save(number, {**TREE, "count": np.array(number)}, {"settings": {"lr": 0.001, "layers": [8, 8]}})
    checkpoints.close()
    noticed = []
    for path in (path for path in sorted((tmp_path / "c" / "2").rglob("*")) if path.is_file()):
        content = path.read_bytes()
        for place in range(0, len(content), len(content) // 4 + 1):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            warnings = []
            reader = Checkpoints(tmp_path / "c")
            tree = reader.restore(TREE, warnings.append)
            assert reader.restored == (1 if warnings else 2), (path, place)
            assert same(tree, {**TREE, "count": np.array(reader.restored)}), (path, place)
            assert reader.notes() == {"settings": {"lr": 0.001, "layers": [8, 8]}}, (path, place)
            reader.close()
            noticed += warnings
        path.write_bytes(content)
    assert noticed and all(" is not as it was written" in warning or "JSON" in warning for warning in noticed)


FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from foretell.errors import UserError
from foretell.runs.checkpoint import Checkpoints
checkpoints = Checkpoints(Path(sys.argv[1]), keep=2)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    checkpoints.save(1, {"noise": np.random.default_rng(0).normal(size=100_000)})
    checkpoints.wait()
except UserError as error:
    print(error)
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="there are no limits of file sizes")
def test_a_disk_that_refuses_is_said_in_one_sentence(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path / "run")], capture_output=True, text=True)
    assert done.stdout == f"cannot write a checkpoint in '{tmp_path / 'run'}': File too large\n"
    assert "ERROR" not in done.stderr and "RESOURCE_EXHAUSTED" not in done.stderr  # what Orbax would log
