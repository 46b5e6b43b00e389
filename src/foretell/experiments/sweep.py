"""Runs a sweep: chooses trials, runs them as a study that grows, and ranks them; the same call continues it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from foretell.errors import UserError, brief
from foretell.experiments.directory import Member, StudyDirectory
from foretell.experiments.executor import Executor
from foretell.experiments.files import Variant, assignments
from foretell.experiments.plan import Arm, Plan, beside, check_folders, make_arm
from foretell.experiments.ranking import Trial, score_of, write_trials
from foretell.experiments.search import next_values
from foretell.experiments.space import Values, derived
from foretell.experiments.study import StudyFailed, StudyStopped, run_study
from foretell.experiments.summary import Summary, summarise
from foretell.experiments.sweep_file import Experiment, SweepFile, read_sweep
from foretell.runs.directory import writing
from foretell.runs.presets import resolve
from foretell.runs.trees import parse_override

_LONGEST = 80
"""Characters of a label, at most."""


class Sweep(NamedTuple):
    """A sweep and the preset settings of its experiments."""

    name: str
    folder: Path
    """Of the sweep file."""
    file: SweepFile
    bases: dict[str, Any]
    """Settings of each experiment before its values are varied."""


def open_sweep(path: str | Path) -> Sweep:
    """A sweep from its file, its fixed settings checked. Raises `UserError`."""
    file = read_sweep(Path(path))
    sweep = Sweep(Path(path).stem, Path(path).parent, file, {})
    for name, experiment in file.experiments.items():
        try:
            fixed = [parse_override(text) for text in assignments(_fixed(sweep, experiment))]
            sweep.bases[name] = resolve(_variant(sweep, experiment, {}).preset, fixed)
        except UserError as error:
            raise UserError(f"experiment '{name}': {error}") from None
    return sweep


def trials_of(sweep: Sweep, recorded: Mapping[str, Sequence[Values]]) -> list[Trial]:
    """The trials of a sweep with these values, their settings checked. Raises `UserError`."""
    trials = []
    for name, listed in recorded.items():
        for number, values in enumerate(listed):
            experiment = sweep.file.experiments[name]
            full = derived(values, experiment.derive, sweep.bases[name])
            label = _label(name if len(sweep.file.experiments) > 1 else "", number, values)
            variant = _variant(sweep, experiment, {**_fixed(sweep, experiment), **full})
            trials.append(Trial(name, values, make_arm(label, variant, None, ())))
    return trials


def plan_of(sweep: Sweep, trials: Sequence[Trial]) -> Plan:
    """The study of these trials. Raises `UserError`."""
    arms: tuple[Arm, ...] = tuple(trial.arm for trial in trials)
    check_folders(arms)
    return Plan(f"sweep {sweep.name}", arms, sweep.file.seeds, sweep.file.goal, grows=True)


def run_sweep(
    sweep: Sweep, out: Path, *, jobs: int | None = None, quiet: bool = False, executor: Executor | None = None
) -> Summary:
    """Execute a sweep's unfinished runs, trial by trial or batch by batch, and rank its trials.

    Args:
        sweep: from `open_sweep`.
        out: the directory of the sweep, a new one or that of the same sweep.
        jobs: number of simultaneous runs; None for one on each processor core, or fewer if memory is short.
        quiet: print nothing.
        executor: executes the runs; by default on this machine.

    Raises:
        UserError: if the directory holds anything but this sweep.
        StudyStopped: if the user interrupts it.
        StudyFailed: at the end, if runs failed.
    """
    directory = StudyDirectory(out)
    ending: StudyFailed | StudyStopped | None = None
    recorded = read_trials(sweep, directory)
    scores: dict[str, list[float | None]] = {name: [] for name in recorded}
    recorded = recorded if any(recorded.values()) else extended(sweep, recorded, scores)
    while True:
        trials = trials_of(sweep, recorded)
        plan = plan_of(sweep, trials)
        directory.check(plan)
        _write(recorded, directory)
        try:
            summary = run_study(plan, out, jobs=jobs, quiet=quiet, executor=executor)
        except (StudyFailed, StudyStopped) as error:
            ending, summary = error, summarise(directory, plan)
        write_trials(trials, summary, sweep.file.score, directory)
        if isinstance(ending, StudyStopped):
            break
        scores = {
            name: [score_of(trial, summary, sweep.file.score) for trial in trials if trial.experiment == name]
            for name in recorded
        }
        longer = extended(sweep, recorded, scores)
        if longer == recorded:
            break
        recorded = longer
    if ending is not None:  # a failed run does not keep the search from going on
        raise ending
    return summary


def extended(
    sweep: Sweep, recorded: Mapping[str, list[Values]], scores: Mapping[str, list[float | None]]
) -> dict[str, list[Values]]:
    """The values of all trials after the next ones are chosen; the same if there are none left."""
    return {
        name: [*recorded[name], *next_values(experiment, sweep.file.search, recorded[name], scores[name])]
        for name, experiment in sweep.file.experiments.items()
    }


def read_trials(sweep: Sweep, directory: StudyDirectory) -> dict[str, list[Values]]:
    """The values of the trials that a directory holds already. Raises `UserError` if they are not this sweep's."""
    path = directory.path / "trials.yaml"
    none: dict[str, list[Values]] = {name: [] for name in sweep.file.experiments}
    if not path.is_file():
        return none
    try:
        found = {**none, **yaml.safe_load(path.read_text())}
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise UserError(f"cannot read '{path}' ({brief(error)})") from error
    for name, listed in found.items():
        for values in listed:
            if reason := _strange(sweep, name, values):
                raise UserError(f"'{directory.path}' holds another sweep: {reason}; choose another --out")
    return found


def _strange(sweep: Sweep, name: str, values: Values) -> str:
    """Why a trial cannot be one of this sweep; '' if it can."""
    if name not in sweep.file.experiments:
        return f"it also has the experiment '{name}'"
    vary = sweep.file.experiments[name].vary
    if different := sorted(vary.keys() ^ values.keys()):
        return f"it {'varies' if different[0] in values else 'does not vary'} {different[0]} in '{name}'"
    outside = [path for path, value in values.items() if not vary[path].holds(value)]
    return f"it has {outside[0]}={values[outside[0]]} in '{name}'" if outside else ""


def _write(recorded: Mapping[str, list[Values]], directory: StudyDirectory) -> None:
    path = directory.path / "trials.yaml"
    with writing(path):
        directory.path.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".tmp")
        aside.write_text(yaml.safe_dump(dict(recorded), sort_keys=False, width=120))
        aside.replace(path)


def _fixed(sweep: Sweep, experiment: Experiment) -> dict[str, Any]:
    return {**sweep.file.set, **experiment.set}


def _variant(sweep: Sweep, experiment: Experiment, settings: Values) -> Variant:
    return beside(Variant(preset=experiment.preset, set=settings), sweep.folder)


def _label(experiment: str, number: int, values: Values) -> str:
    """The label of a trial, such as `7 horizon=20, hidden=[64, 64]`."""
    ends = [path.rpartition(".")[2] for path in values]
    short = {path: end if ends.count(end) == 1 else path for path, end in zip(values, ends, strict=True)}
    text = ", ".join(f"{short[path]}={value}" for path, value in values.items())
    return f"{experiment} {number} {text}".strip()[:_LONGEST]


def past(sweep: Sweep, directory: StudyDirectory) -> list[Member]:
    """The runs that a directory has finished."""
    recorded = read_trials(sweep, directory)
    if not any(recorded.values()):
        return []
    members = directory.members(plan_of(sweep, trials_of(sweep, recorded)))
    return [member for member in members if directory.is_finished(member)]
