"""What the models of runs believed: of which runs it is worked out, within how much time."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax

from foretell import api
from foretell.diagnostics.belief import Belief
from foretell.errors import UserError, brief
from foretell.page.belief import moments_for
from foretell.page.records import Record, RecordGroup
from foretell.report.aggregates import measure
from foretell.tasks import TaskSpec


class Believed(NamedTuple):
    """What the model of a run believed."""

    name: str
    """Of the run."""
    belief: Belief
    spec: TaskSpec


def beliefs(
    groups: Sequence[RecordGroup],
    seconds: float,
    seed: int,
    notes: list[str],
    without: dict[str, list[str]],
    say: Callable[[str], object],
) -> Iterator[Believed]:
    """What the models of the best runs believed.

    Args:
        groups: of runs. Of each, the run with a checkpoint and the highest final return is asked.
        seconds: wall time for all of them, about.
        seed: of the episodes and all noise.
        notes: where sentences are added on what is left out.
        without: where the groups are added whose models cannot be asked, by the reason.
        say: called with what is being done.
    """
    started = time.monotonic()
    for group in groups:
        if (record := best(group)) is None:
            without.setdefault("no checkpoint", []).append(f"{group.label} on {group.env}")
            continue
        left = seconds - (time.monotonic() - started)
        if left <= 0:
            notes.append(f"No time was left for what the model of {record.name} believed; raise --model-seconds.")
            continue
        say(f"asking the model of {record.name}")
        try:
            found = believed(record, left, seed)
        except (UserError, jax.errors.JaxRuntimeError) as error:
            why = str(error) if isinstance(error, UserError) else brief(error)
            notes.append(f"What the model of {record.name} believed is left out: {why}.")
            continue
        if found is None:
            why = "no learned model, but a policy alone or the true model"
            without.setdefault(why, []).append(f"{group.label} on {group.env}")
        else:
            yield found


def best(group: RecordGroup) -> Record | None:
    """The run of a group with a checkpoint that has the highest final return."""
    saved = [record for record in group.with_points if any(record.directory.checkpoints.glob("*"))]
    return max(saved, key=lambda record: measure(record.curve).final, default=None)


def believed(record: Record, seconds: float, seed: int) -> Believed | None:
    """What the model of a run believed; None if it has none that may be wrong. Raises `UserError`."""
    run = api.load(record.directory.path, quiet=True)
    spec = run.task.spec
    found = run.believe(seed=seed, seconds=seconds, moments=moments_for(spec, run.planned_steps))
    return None if found is None else Believed(record.name, found, spec)
