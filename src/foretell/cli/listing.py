"""Commands that only print: presets and parts, settings, and what would be trained."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from foretell.cli.commands import load
from foretell.errors import UserError, nearest
from foretell.runs.parts import AXES, part_names, parts_by_axis
from foretell.runs.presets import describe, families, is_file, parse_override, preset_names, split_name

_PARTS = "parts"
"""In place of a family."""


def presets(args: argparse.Namespace) -> int:
    """List the presets, of one family or all, and the parts by axis."""
    if args.family not in (None, _PARTS, *families()):
        raise UserError(f"no family '{args.family}'{nearest(args.family, [*families(), _PARTS])}")
    names = [name for name in preset_names() if args.family in (None, name.partition("/")[0])]
    width = max(map(len, [*preset_names(), *part_names()]))
    for name in names:
        print(f"{name:{width}}  {describe(name)}")
    if args.family in (None, _PARTS):
        print("\nparts, to be added to a preset with + (as in pets/cartpole+de+ts1+random), one of each axis")
        for axis, parts in parts_by_axis().items():
            print(f"\n{axis}: {AXES[axis]}")
            for part in parts:
                print(f"  {part.name:{width - 2}}  {part.description}")
    return 0


def show(args: argparse.Namespace) -> int:
    """Print the settings of a preset, or the reference of a section, a kind, a setting, an agent or a part."""
    load("foretell.agents")
    overrides = [parse_override(text) for text in args.set]
    head = split_name(args.what)[0]
    if args.env is not None:
        overrides = [{"task": {"env": args.env}}, *overrides]
    if head == "auto":
        preset, changes, decision = load("foretell.runs.auto").decide(args.what, overrides)
        print(
            "\n".join(
                [*(f"# {line}" for line in decision.splitlines()), load("foretell.runs.shown").shown(preset, changes)]
            )
        )
    elif head in preset_names() or is_file(head) or "/" in head:
        print(load("foretell.runs.shown").shown(args.what, overrides))
    elif overrides:
        given = "--set changes the settings" if args.env is None else "--env chooses the environment"
        raise UserError(f"{given} of a preset, and '{args.what}' is none")
    else:
        print(load("foretell.runs.reference").reference(args.what))
    return 0


def dry_run(args: argparse.Namespace, overrides: Sequence[Mapping[str, Any]], seed: int) -> int:
    """Print what `foretell train` would train. Mistakes are reported as by `foretell train`."""
    from foretell.runs.presets import default_directory, resolve

    load("foretell.runs.arguments").seed_number(seed)
    asked = {"env": args.env, "reward": args.reward, "terminated": args.terminated}
    chosen = {"task": {name: value for name, value in asked.items() if value is not None}}
    preset, changes, decision = load("foretell.runs.auto").decide(args.preset, [chosen, *overrides])
    if decision:
        print(decision)
    settings = resolve(preset, changes)
    task = load("foretell.tasks").make_task(settings.task)
    settings.build(task)
    notes = [*task.notes, *load("foretell.tasks.check").examine(task, settings.task)]
    path = Path(args.out) if args.out else default_directory(preset, settings, seed)
    stages = load("foretell.training.pretraining").stages(settings, chosen)
    lines = {
        "preset": f"{preset}: {settings.description}",
        "environment": f"{task.spec.env_id}, {_sizes(task.spec)}",
        "agent": settings.agent,
        "seed": seed,
        "directory": f"{path}{', where there is a run already' if (path / 'config.yaml').is_file() else ''}",
        **({"trained first": ", ".join(stages)} if stages else {}),
        **({"note": "; ".join(notes)} if notes else {}),
    }
    print("\n".join([*(f"{name:14} {value}" for name, value in lines.items()), *_departures(preset, settings)]))
    return 0


def _sizes(spec: Any) -> str:
    return f"observations [{spec.obs_size}], actions [{spec.action_size}], {spec.horizon} steps per episode"


def _departures(preset: str, settings: Any) -> Iterator[str]:
    """Lines about the settings that are not the plain preset's."""
    head = split_name(preset)[0]
    found = load("foretell.runs.shown").departures(preset, settings)
    flow = load("foretell.runs.docs").flow
    yield f"{'settings':14} as in {head}{', but for' if found else ''}"
    for departure in found:
        yield f"  {departure.path}: {flow(departure.value)} (not {flow(departure.there)})"
