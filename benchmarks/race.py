"""The race: Foretell beside its peers and beside the limit of the hardware, in one table.

`make race`, or `python benchmarks/race.py [--rows GLOB ...] [--pairs N] [--list]`. `--out docs/results/race` (the
default) names the files: `.json` with all that was measured, `.table.md` and `.png`. Rows are stored as they come; a
second call goes on with those that are missing or failed. `--quick` instead prints three small workloads beside stored
values, see `racing/guard.py`.

Peers are installed by `python benchmarks/peers/install.py` in environments of their own, in `--venvs`.
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from foretell.errors import UserError
from machine import measured
from peers.install import default_folder, installed
from racing import guard, table
from racing.rows import Row, chosen
from racing.sides import race, start

OUT = Path(__file__).parents[1] / "docs" / "results" / "race"


def measure(row: Row, pairs: int, venvs: Path) -> table.Record:
    """All sides of a row, the load of the machine meanwhile, and the versions of the peers."""
    before = os.getloadavg()[0]
    sides = race(row, pairs, partial(start, venvs=venvs))
    versions = {peer: installed(peer, venvs).get("versions", {}) for peer in row.peers}
    load = [before, os.getloadavg()[0]]
    return {"settings": settings_of(row), "pairs": pairs, "sides": sides, "load": load, "versions": versions}


def settings_of(row: Row) -> table.Record:
    """What a stored row must agree with to be kept."""
    return {"workload": row.workload, "ours": row.settings, "theirs": row.theirs, "peers": list(row.peers)}


def run(rows: list[Row], args: argparse.Namespace, console: Console) -> None:
    """Measure the rows that are missing, and store each as it comes."""
    path, known = args.out.with_suffix(".json"), table.read(args.out.with_suffix(".json"))
    described = measured()
    for row in rows:
        if not args.again and table.is_done(known.get(row.name), settings_of(row), args.pairs):
            continue
        known[row.name] = measure(row, args.pairs, args.venvs)
        table.write(path, known, described)
        console.print(shown({row.name: known[row.name]}))
    args.out.with_suffix(".table.md").write_text(table.markdown(known, described))
    table.draw(known, args.out.with_suffix(".png"))


def shown(records: dict[str, table.Record]) -> Table:
    """The table for a terminal."""
    found = Table(*table.COLUMNS[:8])
    for name, record in records.items():
        for cells in table.lines(name, record):
            found.add_row(*cells[:8])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rows", nargs="+", default=[], metavar="GLOB", help="such as 'plan/*' (default: all but growth)"
    )
    parser.add_argument("--pairs", type=int, default=5, help="turns of each side")
    parser.add_argument("--all", action="store_true", help="with rows that take minutes")
    parser.add_argument("--again", action="store_true", help="measure stored rows once more")
    parser.add_argument("--list", action="store_true", help="print the names of the rows")
    parser.add_argument("--quick", action="store_true", help="three small workloads beside stored values")
    parser.add_argument("--store", action="store_true", help="with --quick: store what was measured")
    parser.add_argument("--out", type=Path, default=OUT, help="the files, without their endings")
    parser.add_argument("--venvs", type=Path, default=default_folder(), help="where peers are installed")
    args = parser.parse_args()
    console = Console(width=160)
    try:
        rows = chosen(args.rows or (["*"] if args.list else []), args.all or args.list)
    except UserError as error:
        sys.exit(str(error))
    if args.list:
        console.print("\n".join(row.name for row in rows))
    elif args.quick:
        console.print(guard.report(args.store))
    else:
        run(rows, args, console)


if __name__ == "__main__":
    main()
