import errno
import threading
from unittest.mock import Mock

import jax.numpy as jnp
import numpy as np
import pytest

from foretell.errors import UserError
from foretell.runs.checkpoint import Checkpoints, checksum

TREE = {"weights": jnp.arange(6.0).reshape(2, 3), "count": np.array(7), "obs": np.linspace(0, 1, 5)}


def save(folder, *numbers, keep=3):
    checkpoints = Checkpoints(folder, keep=keep)
    for number in numbers:
        checkpoints.save(number, {**TREE, "count": np.array(number)})
    checkpoints.close()


def test_what_is_saved_is_restored_to_the_bit_and_in_kind(tmp_path):
    save(tmp_path / "c", 1)
    tree = Checkpoints(tmp_path / "c").restore(TREE, print)
    assert checksum(tree) == checksum({**TREE, "count": np.array(1)})
    assert tree["obs"].dtype == np.float64 and isinstance(tree["obs"], np.ndarray)
    assert tree["weights"].dtype == jnp.float32


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
        patch.setattr(checkpoints._manager, "save", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
        checkpoints.save(1, TREE)
        with pytest.raises(UserError, match=r"cannot write a checkpoint in '.*/c': No space left on device"):
            checkpoints.save(2, TREE)
    checkpoints.save(2, TREE)
    checkpoints.close()
    assert Checkpoints(tmp_path / "c").restore(TREE, print)["count"] == 7


def test_writing_happens_in_the_background_and_is_waited_for(tmp_path, monkeypatch):
    checkpoints, go = Checkpoints(tmp_path / "c", keep=3), threading.Event()
    save_now = checkpoints._manager.save
    monkeypatch.setattr(checkpoints._manager, "save", lambda *args, **options: go.wait() and save_now(*args, **options))
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


@pytest.mark.parametrize("change", [1e-7, 1.0])
@pytest.mark.long
def test_the_checksum_sees_a_change_in_any_leaf(change):
    assert checksum({**TREE, "obs": TREE["obs"] + change}) != checksum(TREE)
