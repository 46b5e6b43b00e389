"""The table of the race from what was measured: medians and ratios, as text, Markdown and a figure."""

import json
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.figure import Figure

from machine import sentence

OURS = "ours"
COLUMNS = (
    "workload", "ours", "peer", "its time", "ratio", "least to most", "share of the multiply", "of the machine",
    "set-up s, ours", "its", "MB, ours", "its", "load",
)  # fmt: skip
UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))

Record = dict[str, Any]
"""What is stored of a row: `sides`, `pairs`, `load` before and after, and `versions`."""


def read(path: Path) -> dict[str, Record]:
    """The stored rows, none if there is no file."""
    return json.loads(path.read_text())["rows"] if path.exists() else {}


def write(path: Path, records: dict[str, Record], machine: Record) -> None:
    """Store rows; a reader never finds half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"machine": machine, "rows": records}, indent=1) + "\n")
    new.replace(path)


def is_done(record: Record | None, settings: Record, pairs: int) -> bool:
    """Whether a row need not be measured again: same settings, enough pairs, and no side that failed."""
    if record is None or record["settings"] != settings or record["pairs"] < pairs:
        return False
    return not any("error" in side for side in record["sides"].values())


def ratios(record: Record, peer: str) -> list[float]:
    """How many times longer the peer took, in each pair of turns."""
    ours, theirs = (record["sides"][side].get("seconds", []) for side in (OURS, peer))
    return [their / our for our, their in zip(ours, theirs, strict=False)]


def shares(record: Record) -> tuple[float, float] | None:
    """Rate of our median as a share of the multiply of the same shape, and of the machine's largest."""
    side = record["sides"][OURS]
    if "limit" not in side or not side["seconds"]:
        return None
    rate = side["limit"]["flop"] / median(side["seconds"])
    return rate / side["limit"]["shape_rate"], rate / side["limit"]["machine_rate"]


def lines(name: str, record: Record) -> list[tuple[str, ...]]:
    """A line for each peer, or one if there is none."""
    peers = [side for side in record["sides"] if side != OURS] or [""]
    return [_line(name, record, peer) for peer in peers]


def _line(name: str, record: Record, peer: str) -> tuple[str, ...]:
    ours, its = record["sides"][OURS], record["sides"].get(peer, {})
    found, share = ratios(record, peer) if peer else [], shares(record)
    ratio = (f"{median(found):.2f}", f"{min(found):.2f} to {max(found):.2f}") if found else ("", "")
    theirs = its["error"] if "error" in its else _median(its)
    percent = [f"{100 * value:.0f} %" for value in share] if share else ["", ""]
    costs = [
        text
        for key, show in (("setup", _decimal), ("memory", _megabytes))
        for text in (show(ours.get(key)), show(its.get(key)))
    ]
    load = " to ".join(f"{value:.1f}" for value in record["load"])
    return (name, ours.get("error") or _median(ours), peer, theirs, *ratio, *percent, *costs, load)


def _median(side: Record) -> str:
    if not side.get("seconds"):
        return ""
    text = seconds_text(median(side["seconds"]))
    tails = [f"{key} {seconds_text(median(side[key]))}" for key in ("p99", "p99.9", "max") if key in side]
    return ", ".join([text, *tails])


def seconds_text(seconds: float) -> str:
    """A duration with three digits and a unit: `1.23 ms`."""
    factor, unit = next((pair for pair in UNITS if seconds >= pair[0]), UNITS[-1])
    return f"{seconds / factor:.3g} {unit}"


def _decimal(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _megabytes(value: float | None) -> str:
    return "" if value is None else f"{value / 1e6:.0f}"


def markdown(records: dict[str, Record], machine: Record) -> str:
    """The machine, the versions and the table."""
    head = ["# The race: the table", "", sentence(machine), ""]
    versions: dict[str, None] = {}
    for record in records.values():
        versions |= {f"{name} {value}": None for found in record["versions"].values() for name, value in found.items()}
    table = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    table += ["| " + " | ".join(cells) + " |" for name, record in records.items() for cells in lines(name, record)]
    return "\n".join([*head, f"Peers: {', '.join(sorted(versions))}.", "", *table]) + "\n"


def draw(records: dict[str, Record], path: Path) -> None:
    """The ratio of every pair to each peer, on a logarithmic axis with a line at 1."""
    found = [
        (f"{name}: {peer}", values)
        for name, record in records.items()
        for peer in record["sides"]
        if peer != OURS and (values := ratios(record, peer))
    ]
    figure = Figure(figsize=(8, 1.2 + 0.24 * len(found)), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for place, (_, values) in enumerate(reversed(found)):
        axes.plot([min(values), max(values)], [place, place], color="#88aacc", linewidth=4, solid_capstyle="butt")
        axes.plot(median(values), place, "o", color="#1f4e79" if median(values) >= 1 else "#b03030")
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set(xscale="log", xlabel="time of the peer / time of Foretell: median, least to most of the pairs")
    axes.set_yticks(range(len(found)), [label for label, _ in reversed(found)], fontsize=7)
    figure.savefig(path)
