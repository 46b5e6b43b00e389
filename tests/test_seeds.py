"""Several seeds of a preset in one process: whole runs, from Python and as a study."""

from threading import Event

import numpy as np
import pytest

import foretell
from foretell.cli import main
from foretell.errors import UserError
from foretell.experiments.directory import StudyDirectory
from foretell.experiments.executor import Ended, Started
from foretell.experiments.plan import make_plan
from foretell.experiments.study import run_study
from foretell.seeds import SeedsStopped, train_seeds, vectorised
from tiny import LINE, TINY, TINY_SET, benchmark, presses_at, tiny_run

EXPANSION = {name: keys for name, keys in benchmark("tiny_runs").EXPANSION.items() if name != "task"}
STEPS = {"steps": 40, "steps_per_learning": 5, "random_steps": 20, "eval_episodes": 1, "eval_every": 20, "log_every": 5}
AGENTS = {
    "pets": ("pets/default", [TINY, {"train": {"eval_episodes": 1}}]),
    "steve": ("steve/default", [EXPANSION, {"train": {**STEPS, "capacity": 60}}]),
}
WHOLE = ("episode", "env_steps", "kind", "length", "end")


def compare(found, alone):
    """Counters are equal; numbers differ by no more than batched matrix products do."""
    pairs = list(zip(found.episodes, alone.episodes, strict=True))
    for one, other in pairs:
        assert [one[name] for name in WHOLE] == [other[name] for name in WHOLE]
    np.testing.assert_allclose([a["return"] for a, _ in pairs], [b["return"] for _, b in pairs], rtol=1e-4)
    for number in range(len(pairs)):
        own, theirs = (np.load(run.directory / "data" / f"episode_{number:04d}.npz") for run in (found, alone))
        np.testing.assert_allclose(own["actions"], theirs["actions"], rtol=1e-3, atol=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("agent", AGENTS)
def test_every_seed_has_the_results_of_a_run_by_itself(agent, tmp_path):
    preset, overrides = AGENTS[agent]
    found = train_seeds(preset, 2, out=tmp_path / "together", env=LINE, overrides=overrides, quiet=True)
    for seed, run in enumerate(found):
        assert run.seed == seed and run.directory == tmp_path / "together" / str(seed)
        alone = foretell.train(preset, seed=seed, out=tmp_path / "alone", env=LINE, overrides=overrides, quiet=True,
                               overwrite=True)  # fmt: skip
        compare(run, alone)
        loaded = foretell.load(run.directory)
        np.testing.assert_array_equal(loaded.act(np.zeros(2)), run.act(np.zeros(2)))
