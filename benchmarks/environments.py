"""Environments of other packages, tried with agents from the command line: trained, killed, resumed, evaluated, filmed.

`python benchmarks/environments.py --out docs/results/environments` makes a virtual environment for each group of
packages (`environments_list.py`), installs them and this clone in it, and tries every environment with `pets/default`
and `sac/default`, with tiny settings: the first environment of each package, then the others. Each run is killed
(SIGKILL) some steps after a checkpoint. `<out>.csv` has a line for each environment and preset; a script that was
stopped goes on where it was. `<out>.md` has the table; `--page docs/environments.md` writes it into the page, between
the two marks there, and with `--dry-run` nothing else is done. `--only TEXT` tries the environments whose name or
package contains a text.

Nothing of a run is shown while it lasts; its output is in the folder `--runs`.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path

from environments_case import COMMANDS, SETTINGS
from environments_list import GROUPS, PACKAGES, Entry, Package

CLONE = Path(__file__).resolve().parents[1]
COLUMNS = (
    "package",
    "env",
    "options",
    "preset",
    "observations",
    "actions",
    *COMMANDS,
    "outcome",
    "note",
    "cpu_seconds",
)
CASE = Path(__file__).with_name("environments_case.py")
CHEAP = {"XLA_FLAGS": "--xla_backend_optimization_level=0", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
"""Environment variables with which programs take less time to compile than to run slowly."""

BEGIN, END = "<!-- the table of the script begins -->", "<!-- the table of the script ends -->"
"""The marks of the page between which the table is written."""

Row = dict[str, str]


# Virtual environments.


def python_of(group: str, venvs: Path) -> Path:
    """The Python of a group of packages; its virtual environment is made if it is not there.

    Raises:
        subprocess.CalledProcessError: if the packages cannot be installed together.
    """
    folder = venvs / group.replace(" ", "-")
    python, stamp = folder / "bin" / "python", folder / "requirements.txt"
    own = [package.requirement for package in PACKAGES if package.group == group]
    wanted = "".join(f"{name}\n" for name in (*own, *GROUPS[group].get("also", ())))
    if not stamp.exists() or stamp.read_text() != wanted:
        venv.create(folder, with_pip=True)
        constraints = ["-c", str(CLONE / "constraints.txt")] if GROUPS[group]["constraints"] else []
        install = [str(python), "-m", "pip", "install", "--quiet", *constraints, "-e", str(CLONE), *wanted.split()]
        subprocess.run(install, check=True)
        stamp.write_text(wanted)
    return python


# Cases.


def key(row: Row) -> tuple[str, str, str]:
    return row["env"], row["options"], row["preset"]


def rounds(only: str, presets: Sequence[str], done: set[tuple[str, str, str]]) -> Iterator[tuple[Package, list[Row]]]:
    """What is to be tried, a package at a time: the first environment of each, then the others."""
    for part in (slice(0, 1), slice(1, None)):
        for package in PACKAGES:
            wanted = [entry for entry in package.environments[part] if only in package.requirement + entry[0]]
            rows = [_row(package, entry, preset) for entry in wanted for preset in presets]
            if left := [row for row in rows if key(row) not in done]:
                yield package, left


def _row(package: Package, entry: Entry, preset: str) -> Row:
    env, *options = entry
    return {"package": package.requirement, "env": env, "options": " ".join(options), "preset": preset}


def attempt(python: Path, rows: list[Row], runs: Path) -> Iterator[Row]:
    """Try environments of one package in one process; the rows with what came of it.

    A process that ends early has failed with the environment whose turn it was.
    """
    cases = [{"env": row["env"], "preset": row["preset"], "options": row["options"].split()} for row in rows]
    words = [str(python), str(CASE), str(runs), json.dumps(cases)]
    with subprocess.Popen(words, env={**os.environ, **CHEAP}, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for row in rows:
            if not (line := process.stdout.readline()):
                yield {**row, "outcome": "fault", "note": f"the process ended with {process.wait()}"}
                return
            yield {**row, **json.loads(line)}


# Results.


def read(path: Path) -> list[Row]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def table(rows: Sequence[Row]) -> str:
    """A line of Markdown for each environment and preset, and the counts below."""
    names = ("package", "environment", "observation, action", "preset", "killed", "resumed", "evaluated", "filmed")
    names += ("outcome", "CPU s")
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    order = [package.requirement for package in PACKAGES]
    for row in sorted(rows, key=lambda row: order.index(row["package"]) if row["package"] in order else len(order)):
        env = f"`{row['env']}`" + (f" `{row['options']}`" if row["options"] else "")
        killed = "yes" if row["train"] == "killed" else row["train"]
        ends = (killed, row["resume"], row["eval"], row["film"], row["outcome"], row["cpu_seconds"])
        seen = f"{row['observations']}, {row['actions']}" if row["observations"] else ""
        lines.append(f"| {' | '.join((row['package'], env, seen, row['preset'], *ends))} |")
    return "\n".join([*lines, "", summary(rows), "", *_notes(rows)]) + "\n"


def summary(rows: Sequence[Row]) -> str:
    """How many environments, of how many packages, work with all presets."""
    works: dict[str, set[str]] = {}
    packages = {row["env"] + row["options"]: row["package"] for row in rows}
    for row in rows:
        works.setdefault(row["env"] + row["options"], set()).update([row["preset"]] * (row["outcome"] == "ok"))
    found = [env for env, presets in works.items() if presets >= SETTINGS.keys()]
    presets, origins = " and ".join(f"`{name}`" for name in SETTINGS), {packages[env] for env in found}
    return f"{len(found)} of {len(works)} environments work with {presets}; they are from {len(origins)} packages."


def into_page(text: str, rows: Sequence[Row]) -> str:
    """The text of a page with the table between its marks, and how many environments have been tried before it."""
    (before, rest), total = text.split(BEGIN), sum(len(package.environments) for package in PACKAGES)
    tried = len({row["env"] + row["options"] for row in rows})
    count = f"{tried} of the {total} environments in the list have been tried."
    shown = table(rows).split("\n\n")
    return f"{before}{BEGIN}\n\n{count} {shown[1]}\n\n{shown[0]}\n\n{END}{rest.split(END)[1]}"


def _notes(rows: Sequence[Row]) -> list[str]:
    """The sentences of all that was refused or failed, each once."""
    return list(dict.fromkeys(f"- `{row['env']}`: {row['note']}" for row in rows if row["note"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/environments"), help="path of the tables, no ending")
    parser.add_argument("--venvs", type=Path, default=Path.home() / ".cache" / "foretell-environments")
    parser.add_argument("--runs", type=Path, default=Path(tempfile.gettempdir()) / "foretell-environments")
    parser.add_argument("--presets", nargs="+", choices=SETTINGS, default=[*SETTINGS])
    parser.add_argument("--only", default="", metavar="TEXT")
    parser.add_argument("--page", type=Path, help="a page of Markdown with marks, for the table")
    parser.add_argument("--dry-run", action="store_true", help="try nothing, only write the tables")
    args = parser.parse_args()

    path = args.out.with_suffix(".csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = read(path)
    if not args.dry_run:
        try_all(args, path, rows)
    if args.page:
        args.page.write_text(into_page(args.page.read_text(), rows))
    print(summary(rows))
    sys.exit(any(row["outcome"] == "fault" for row in rows))


def try_all(args: argparse.Namespace, path: Path, rows: list[Row]) -> None:
    """Try all that has no row yet; rows are added to the list and to the file as they come."""
    begun = bool(rows)
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        if not begun:
            writer.writeheader()
        for package, left in rounds(args.only, args.presets, {key(row) for row in rows}):
            for row in attempt(python_of(package.group, args.venvs), left, args.runs):
                rows.append({name: row.get(name, "") for name in COLUMNS})
                writer.writerow(rows[-1])
                file.flush()
                print(f"{row['env']} with {row['preset']}: {row['outcome']} {row.get('note', '')}", flush=True)
                args.out.with_suffix(".md").write_text(table(rows))


if __name__ == "__main__":
    main()
