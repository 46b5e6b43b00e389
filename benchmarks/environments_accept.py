"""How many environments of other packages are accepted as they are: all ids that a package registers.

`python benchmarks/environments_accept.py --out docs/results/accepted.csv panda_gym glucosim` makes the task of every
id, with no settings, and writes a line for each: `accepted`, `refused` with the sentence, or `cannot be made` if the
environment itself fails. Run it with the Python in which the packages are installed.
"""

import argparse
import csv
from importlib import import_module
from pathlib import Path

import gymnasium

from foretell.errors import UserError
from foretell.tasks import TaskSettings, make_task

COLUMNS = ("module", "id", "outcome", "observations", "actions", "reason")


def registered(module: str) -> list[str]:
    """The newest ids that importing a module registers."""
    before = set(gymnasium.registry)
    import_module(module)
    newest = {spec.name: spec for key, spec in gymnasium.registry.items() if key not in before}
    for key, spec in gymnasium.registry.items():
        if key not in before and (spec.version or 0) > (newest[spec.name].version or 0):
            newest[spec.name] = spec
    return sorted(spec.id for spec in newest.values())


def accepted(env: str) -> tuple[str, int | None, int | None, str]:
    """What becomes of an environment, the sizes of its observations and actions, and why it is not accepted."""
    try:
        spec = make_task(TaskSettings(env=env)).spec
    except UserError as error:
        own = str(error).startswith("cannot make the environment")
        return ("cannot be made" if own else "refused"), None, None, str(error).split(", at /")[0]
    return "accepted", spec.obs_size, spec.action_size, ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="+")
    parser.add_argument("--out", type=Path, default=Path("runs/accepted.csv"))
    parser.add_argument("--most", type=int, default=40, help="ids of one module; evenly chosen if it has more")
    args = parser.parse_args()
    new = not args.out.exists()
    with args.out.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(COLUMNS)
        for module in args.modules:
            ids = registered(module)
            for env in ids[:: -(-len(ids) // args.most) or 1]:
                writer.writerow((module, env, *accepted(f"{module}:{env}")))
                file.flush()


if __name__ == "__main__":
    main()
