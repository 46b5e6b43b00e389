"""The learning curve of one run."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any

_COLOURS = {"random": "#9aa0a6", "train": "#1f6fb4", "eval": "#d9822b"}


def prepare_to_draw() -> None:
    """Import Matplotlib in the background. It takes half a second, for which the end of a run need not wait."""
    Thread(target=import_module, args=("matplotlib.backends.backend_agg",), daemon=True).start()


def draw_learning_curve(episodes: Sequence[dict[str, Any]], path: Path, *, title: str) -> None:
    """Draw the return of every episode over environment steps, and the best return so far of trials.

    Args:
        episodes: rows of `episodes.csv`.
        path: of the PNG.
        title: of the figure.
    """
    from matplotlib.figure import Figure  # slow to import, and only needed at the end

    figure = Figure(figsize=(7, 4.2), dpi=130, layout="constrained")
    axes = figure.subplots()
    for kind, colour in _COLOURS.items():
        rows = [row for row in episodes if row["kind"] == kind]
        if rows:
            steps, returns = [row["env_steps"] for row in rows], [row["return"] for row in rows]
            line = "-" if kind == "train" else ""
            axes.plot(steps, returns, line, marker="o", markersize=4, color=colour, label=f"{kind} episode")
    trials = [row for row in episodes if row["kind"] == "train"]
    if trials:
        best = [max(row["return"] for row in trials[: i + 1]) for i in range(len(trials))]
        axes.step(
            [row["env_steps"] for row in trials], best, "--", where="post", color="#5f6b76", lw=1, label="best so far"
        )
    axes.set(title=title, xlabel="environment steps", ylabel="return of the episode")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
