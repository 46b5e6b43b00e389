"""Names of numbers in TensorBoard and W&B: those of every agent have a group."""

import re
from pathlib import Path

import pytest

from foretell.callbacks.names import CURVE, GROUPS, OTHERS, group_of, of_episode, of_metrics


@pytest.mark.parametrize(
    ("column", "group"),
    [
        ("train_loss", "losses"),
        ("reward_model_train_loss", "losses"),
        ("policy_loss", "losses"),
        ("new_mse", "model"),
        ("model_use", "model"),
        ("weight_3", "model"),
        ("model_gradient_steps", "model"),
        ("entropy", "policy"),
        ("guide_gradient_steps", "policy"),
        ("mean_q", "values"),
        ("gradient_steps", "progress"),
        ("plan_seconds", "time"),
        ("mine", OTHERS),
    ],
)
def test_the_group_of_a_column(column, group):
    assert group_of(column) == group


def test_names_of_a_row_are_unique_and_leave_out_the_steps():
    row = {"env_steps": 5, "learn": 1, "train_loss": 0.5, "mine": 2.0}
    assert of_metrics(row) == {"progress/learn": 1, "losses/train_loss": 0.5, "metrics/mine": 2.0}
    assert OTHERS not in GROUPS


@pytest.mark.parametrize("success", [0, 1, "", None])
def test_success_is_shown_where_it_is_known(success):
    row = {"episode": 0, "env_steps": 5, "kind": "eval", "return": 1.5, "length": 5, "success": success}
    known = {} if success in ("", None) else {"success/eval": success}
    assert of_episode(row) == {"returns/eval": 1.5, "lengths/eval": 5, **known}


def test_the_groups_are_on_the_page():
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "tensorboard.md").read_text()
    rows = re.findall(r"^\| (`.*?) \|", page, re.M)
    shown = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    row = {"episode": 0, "env_steps": 5, "kind": "eval", "return": 1.5, "length": 5, "success": 1}
    episode = {name.partition("/")[0] for name in of_episode(row)}
    assert shown == {*GROUPS, OTHERS, *episode, "diagnostics", CURVE.partition("/")[0]}
