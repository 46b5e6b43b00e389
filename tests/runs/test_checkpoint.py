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


@pytest.mark.long
def test_a_half_written_checkpoint_is_ignored(tmp_path):
    save(tmp_path / "c", 1)
    (tmp_path / "c" / "2.orbax-checkpoint-tmp-0").mkdir()
    assert Checkpoints(tmp_path / "c", keep=3).restore(TREE, print)["count"] == 1


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
