"""How training grows: with seeds, runs, processes, environment workers, and by a model with nodes.

`python benchmarks/scale.py [--rows seeds overhead async workers model] [--out docs/results/scale]` prints a table for
each kind of row, and stores all that was measured in `<out>.json`, the tables in `<out>.table.md`.

| row | what |
|---|---|
| seeds | environment steps and updates per second of 1, 2, 4 and 8 seeds: vectorised, as processes, on Ray |
| overhead | seconds that a run takes beside its own process, as a process of this machine and on Ray |
| async | one run in one process, and with its parts in processes of Ray, synchronised and free-running |
| workers | environments stepped by 1, 2 and 4 workers |
| model | no measurement: the measured constants of the other rows, extrapolated to 100 nodes |

Rates are measured from the time when all runs had their second row of `metrics.csv`, so that everything is compiled, to
the last row of the first run to end. The time until then is `start s`. Processor time is that of all processes. Ray is
started anew for each row, whatever clusters run on this machine.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from foretell.errors import UserError
from machine import measured, sentence
from racing.table import read, write
from scaling import growth, overhead, seeds, spread, workers

OUT = Path(__file__).parents[1] / "docs" / "results" / "scale"
SMALL = ["train.random_steps=100", "updates.pretraining=20", "updates.per_step=1", "train.environments=2"]
SMALL += ["learner.batch_size=64", "fit.batch_size=64", "train.eval_episodes=0"]
"""Settings of `steve/default` in the rows of seeds and of one run: an update takes a few milliseconds of one core."""

Tables = dict[str, list[dict]]


def kinds(args: argparse.Namespace) -> dict[str, Callable[[], Tables]]:
    """What makes the tables of each kind of row, in the order in which they are measured."""
    length = [f"train.steps={args.steps}", f"train.log_every={max(1, args.steps // 20)}"]
    run = {"preset": args.preset, "env": args.env, "settings": [*SMALL, *length, *args.set]}
    stepped = {"environments": args.environments, "steps": 25, "rounds": args.rounds}
    return {
        "seeds": lambda: {"seeds": seeds.measure(**run, counts=args.seeds)},
        "overhead": lambda: {"overhead": overhead.measure(args.runs)},
        "async": lambda: {"async": spread.measure(**run), "sent": spread.sent(**run)},
        "workers": lambda: {"workers": workers.measure(**stepped), "evaluation": workers.evaluation(args.environments)},
        "model": partial(modelled, args.out.with_suffix(".json")),
    }


def modelled(path: Path) -> Tables:
    """The tables of the model. Raises `UserError` if its constants are not measured yet."""
    records = read(path)
    if missing := [kind for kind in ("seeds", "overhead", "async", "workers") if kind not in records]:
        raise UserError(f"the model needs measured rows: --rows {' '.join(missing)} model")
    tables = {name: rows for each in records.values() for name, rows in each["tables"].items()}
    known = growth.constants(tables)
    constants = [{"constant of the model": name, "value": value} for name, value in known._asdict().items()]
    return {"constants": constants, **growth.tables(known, tables["seeds"])}


def text(value: object) -> str:
    """A cell: three digits of a fraction, and a dash for what could not be measured."""
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def columns(rows: list[dict]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def shown(title: str, rows: list[dict]) -> Table:
    """A table for a terminal."""
    table = Table(*columns(rows), title=title)
    for row in rows:
        table.add_row(*(text(row.get(name)) for name in columns(rows)))
    return table


def markdown(records: dict[str, dict], machine: dict) -> str:
    """All stored tables."""
    lines = ["# Scale: the tables", "", sentence(machine), ""]
    for kind, record in records.items():
        load = " to ".join(f"{value:.1f}" for value in record["load"])
        lines += [f"## {kind}", "", f"`python benchmarks/scale.py {record['words']}`, load {load}", ""]
        for title, rows in record["tables"].items():
            lines += [f"{title}:", "", "| " + " | ".join(columns(rows)) + " |", "|" + "---|" * len(columns(rows))]
            lines += ["| " + " | ".join(text(row.get(name)) for name in columns(rows)) + " |" for row in rows] + [""]
    return "\n".join(lines)


def parsed(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ["seeds", "overhead", "async", "workers", "model"]
    parser.add_argument("--rows", nargs="+", choices=names, default=names, help="kinds of rows (default: all)")
    parser.add_argument("--out", type=Path, default=OUT, help="the files, without their endings")
    parser.add_argument("--preset", default="steve/default", help="of the rows seeds and async")
    parser.add_argument("--env", default="Pendulum-v1", help="of the rows seeds and async")
    parser.add_argument("--steps", type=int, default=1000, help="environment steps of the rows seeds and async")
    parser.add_argument("--set", nargs="+", default=[], help="settings of the rows seeds and async")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 4, 8], help="how many at a time")
    parser.add_argument("--runs", type=int, default=4, help="of each row of overhead")
    parser.add_argument("--environments", nargs="+", default=workers.STEPPED, help="of the row workers")
    parser.add_argument("--rounds", type=int, default=6, help="of the row workers, of which the best counts")
    return parser.parse_args(words)


def main(words: list[str]) -> None:
    args, console = parsed(words), Console(width=160)
    path, made, machine = args.out.with_suffix(".json"), kinds(args), measured()
    records = read(path)
    for kind in [kind for kind in made if kind in args.rows]:
        before = os.getloadavg()[0]
        tables = made[kind]()
        records[kind] = {"words": " ".join(words), "load": [before, os.getloadavg()[0]], "tables": tables}
        write(path, records, machine)
        args.out.with_suffix(".table.md").write_text(markdown(records, machine))
        console.print(*(shown(title, rows) for title, rows in tables.items()))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        # A cluster that is there is not to be found, and other work on the machine is to slow all ways alike.
        os.environ |= {"RAY_TMPDIR": folder, "RAY_worker_niceness": "0"}
        try:
            main(sys.argv[1:])
        except UserError as error:
            sys.exit(str(error))
