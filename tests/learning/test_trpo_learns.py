"""TRPO learns a small task; how soon is in `docs/algorithms/trpo.md`."""

import numpy as np
import pytest

import foretell


@pytest.mark.slow
def test_trpo_balances_within_fifty_thousand_steps(tmp_path):
    """A minute. Random actions last about 5 steps of 1,000."""
    less = {"train": {"steps": 50_000, "eval_every": 50_000}}
    run = foretell.train("trpo/default", env="InvertedPendulum-v5", out=tmp_path / "run", overrides=[less], quiet=True)
    assert np.mean([row["return"] for row in run.episodes if row["kind"] == "eval"]) > 900
