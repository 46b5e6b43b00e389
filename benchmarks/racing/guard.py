"""A guard against slower code: shares of the limit for three small workloads, beside stored values.

It only reports. Other work on the machine lowers a share, so no share is a failure.
"""

import json
from pathlib import Path

from rich.table import Table

from foretell.compilation import use_compilation_cache
from machine import matmul_rate
from racing import ours
from racing.rows import learner_overrides

STORED = Path(__file__).parents[1] / "references" / "race_quick.json"
WORKLOADS = {
    "plan": (ours.plan, {"preset": "pets/cartpole"}),
    "fit": (ours.fit, {"preset": "pets/cartpole", "rows": 200, "overrides": {"fit": {"min_steps": 500}}}),
    "update": (
        ours.update,
        {"preset": "sac/default", "overrides": learner_overrides("Pendulum-v1", 20), "per_call": 20},
    ),
}
"""The function in `racing/ours.py`, and its settings."""


def share(name: str, turns: int = 5) -> float:
    """Rate of the best turn as a share of the best multiply of the same shape in this process."""
    make, settings = WORKLOADS[name]
    measure = make(**settings)
    seconds = min(measure()["seconds"] for _ in range(turns))
    return measure.flop / seconds / matmul_rate(*measure.shape)


def report() -> Table:
    """Shares of today beside those stored."""
    use_compilation_cache()
    stored = json.loads(STORED.read_text())
    table = Table("workload", "share of the multiply", "stored")
    for name in WORKLOADS:
        table.add_row(name, f"{100 * share(name):.0f} %", f"{100 * stored['shares'][name]:.0f} %")
    return table
