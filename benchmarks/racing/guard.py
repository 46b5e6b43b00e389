"""A guard against slower code: shares of the limit for three small workloads, beside stored values.

It only reports. Other work on the machine lowers a share, so no share is a failure.
"""

import json
import os
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


def report(store: bool = False) -> Table:
    """Shares of today beside those stored, which `store` replaces afterwards."""
    use_compilation_cache()
    stored = json.loads(STORED.read_text())
    made = f"stored at a load of {stored['load']:.0f} on {stored['cores']} cores"
    found, table = {}, Table("workload", "share of the multiply", made)
    for name in WORKLOADS:
        found[name] = share(name)
        table.add_row(name, f"{100 * found[name]:.0f} %", _percent(stored["shares"].get(name)))
    if store:
        noted = {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1), "shares": found}
        STORED.write_text(json.dumps(noted, indent=1) + "\n")
    return table


def _percent(value: float | None) -> str:
    return "not stored" if value is None else f"{100 * value:.0f} %"
