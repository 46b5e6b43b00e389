"""What the page shows of runs: everything that can be read from their files, and what their models believed."""

from collections.abc import Sequence

import numpy as np
import yaml

from foretell.diagnostics.candidates import Searched
from foretell.diagnostics.hints import EPISODES, RunData, hints
from foretell.diagnostics.recorded import newest_tracks
from foretell.page import tables
from foretell.page.belief import belief_tree
from foretell.page.chosen import Believed
from foretell.page.document import Content, SharedHint
from foretell.page.meanings import meanings_of
from foretell.page.media import Medium, pictures, videos
from foretell.page.records import Record, RecordGroup, differences
from foretell.page.references import references
from foretell.page.tables import Table
from foretell.page.views import Tree, panels, rounded
from foretell.runs.trees import value_at

_VIDEO_BYTES = 60_000_000
"""Of all videos in a page, as text, about."""
_LISTED = 4
"""Runs that are named at a hint."""


def content(
    groups: Sequence[RecordGroup],
    believed: Sequence[Believed],
    notes: Sequence[str],
    smooth: int,
    most_videos: int,
    unbelieving: str = "",
) -> Content:
    """All of the page.

    Args:
        groups: of runs.
        believed: what the models of some of them believed.
        notes: on what is missing.
        smooth: points to average over.
        most_videos: newest videos of each run.
        unbelieving: why the models of other runs are not asked, as one sentence; empty if there are none.
    """
    records = [record for group in groups for record in group.records]
    envs = list(dict.fromkeys(group.env for group in groups))
    shares = tables.times(groups)
    data: Tree = {
        "panels": panels(groups, references(), smooth),
        "times": [share._asdict() for share in shares],
        "beliefs": [belief_tree(one.name, one.belief, one.spec) for one in believed],
        "diagnostics": [
            _measured(record, i) for i, g in enumerate(groups) for record in g.records if record.diagnostics
        ],
    }
    data["meanings"] = meanings_of(dict.fromkeys(name for one in data["diagnostics"] for name in one["columns"]))
    notes, missing = list(notes), [record.name for record in records if not len(record.points.steps)]
    if missing:
        notes.append(f"Without a finished evaluation episode or trial: {', '.join(missing)}.")
    chosen, left_out = _within(_VIDEO_BYTES, [video for record in records for video in videos(record, most_videos)])
    if left_out:
        notes.append(f"{left_out} videos are left out: the page would be too large.")
    figures = [picture for record in records for picture in pictures(record)]
    found = {record.name: tables.judged(record) for record in records}
    drawn, diagnoses = {one.run for one in figures}, {record.name: tables.diagnosis(record) for record in records}
    counts = f"{_count(len(records), 'run')} in {_count(len(groups), 'group')}, {_count(len(envs), 'environment')}"
    return Content(
        title=_title(groups), counts=counts, notes=notes, window=smooth, data=data, results=tables.results(groups),
        runs=tables.runs(groups), settings=_settings(groups), times=tables.time_table(shares),
        versions=_versions(groups), hints=_hints(groups, believed), videos=chosen,
        verdicts={name: judged for name, judged in found.items() if judged},
        diagnoses={name: found for name, found in diagnoses.items() if found or name in drawn}, pictures=figures,
        configurations=[(f"{one.label}, {one.env}", _yaml(one)) for one in groups],
        absent=_absent(most_videos, unbelieving),
    )  # fmt: skip


def _absent(most_videos: int, unbelieving: str) -> dict[str, str]:
    """What is said where a section would be empty."""
    film = "No run has a video; `foretell film RUN_DIR` makes some." if most_videos else "Left out: --videos 0."
    found = {
        "curves": "No run has finished an evaluation episode or a trial.",
        "hints": "Nothing in the data of the runs looks wrong.",
        "settings": "All runs have the same settings.",
        "time": "No run has a row of metrics.csv, which says where its time went.",
        "belief": unbelieving,
        "diagnostics": "No agent was measured; `foretell diagnose RUN_DIR` does that, or train.diagnose_every.",
        "videos": film,
    }
    return {name: text for name, text in found.items() if text}


def _yaml(group: RecordGroup) -> str:
    """The settings of the first run."""
    return yaml.safe_dump(group.records[0].settings, sort_keys=False)


def _title(groups: Sequence[RecordGroup]) -> str:
    labels, envs = dict.fromkeys(group.label for group in groups), dict.fromkeys(group.env for group in groups)
    return f"{_some(list(labels))} on {_some(list(envs))}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:2])} and {len(names) - 2} more"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _settings(groups: Sequence[RecordGroup]) -> Table:
    rows = [[path, *values] for path, values in differences(groups).items()]
    return Table(["setting", *(f"{group.label}, {group.env}" for group in groups)], rows)


def _versions(groups: Sequence[RecordGroup]) -> Table:
    records = [record for group in groups for record in group.records]
    names = list(dict.fromkeys(name for record in records for name in record.versions))
    rows: dict[tuple[str, ...], list[str]] = {}
    for record in records:
        rows.setdefault(tuple(str(record.versions.get(name, "-")) for name in names), []).append(record.name)
    return Table(["runs", *names], [[_listed(runs), *values] for values, runs in rows.items()])


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _hints(groups: Sequence[RecordGroup], believed: Sequence[Believed]) -> list[SharedHint]:
    """The hints of all runs, those of one kind together."""
    found: dict[str, list[tuple[str, str]]] = {}
    for record in (record for group in groups for record in group.records):
        for hint in hints(_run_data(record, believed)):
            found.setdefault(hint.name, []).append((hint.text, record.name))
    return [SharedHint(name, seen[0][0], _listed([run for _, run in seen])) for name, seen in found.items()]


def _run_data(record: Record, believed: Sequence[Believed]) -> RunData:
    mine = next((one for one in believed if one.name == record.name), None)
    tracks = [track for _, track in newest_tracks(record.directory, record.episodes, EPISODES)]
    searches: list[Searched] = []
    if mine is not None:
        searches = [moment.searched for moment in mine.belief.lived.moments if moment.searched is not None]
    names = () if mine is None else mine.spec.obs_names
    learner = value_at(record.settings, "learner") or {}
    return RunData(record.episodes, record.metrics, record.diagnostics, tracks, names, searches, learner)


def _measured(record: Record, group: int) -> Tree:
    """The columns of `diagnostics.csv`."""
    rows = record.diagnostics
    names = [name for name in rows[0] if name != "env_steps"]
    columns = {name: rounded(np.array([row.get(name, np.nan) for row in rows])) for name in names}
    return {"run": record.name, "group": group, "steps": [row["env_steps"] for row in rows], "columns": columns}


def _within(most: int, found: Sequence[Medium]) -> tuple[list[Medium], int]:
    """The first media that fit into so many bytes, and the number of the others."""
    total, kept = 0, []
    for one in found:
        total += len(one.uri)
        if total <= most:
            kept.append(one)
    return kept, len(found) - len(kept)
