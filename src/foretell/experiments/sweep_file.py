"""Sweep files: experiments, what is varied in each, how values are searched, and when runs are stopped early."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveInt, ValidationError, model_validator

from foretell.errors import UserError, brief, nearest
from foretell.experiments.space import Derived, Domain, Space, Table
from foretell.runs.files import parse
from foretell.settings import Settings


class Search(Settings):
    """How a sweep chooses values."""

    method: Literal["grid", "random", "tpe"] = "grid"
    """All combinations, random values, or a tree-structured Parzen estimator (Bergstra et al. 2011), Optuna's."""
    samples: PositiveInt = 20
    """Trials of each experiment with random or tpe; a later command may raise it."""
    seed: NonNegativeInt = 0
    """Of random values; it has nothing to do with the seeds of runs."""
    batch: PositiveInt = 4
    """Trials that tpe chooses at a time; it learns from a batch when all of its runs have ended."""


class Stop(Settings):
    """Stops runs early that are worse than the others in the same environment; the rules are those of Ray Tune."""

    rule: Literal["median", "asha"]
    """Stop a run whose best return is below the median of the other runs' mean returns so far (Golovin et al. 2017), or
    all but the best 1/factor of the runs that reach a milestone (asynchronous successive halving, Li et al. 2020)."""
    after: PositiveInt
    """Environment steps before which no run is stopped; the first milestone of asha."""
    factor: Annotated[FiniteFloat, Field(gt=1)] = 3.0
    """Of asha: ratio between two milestones, and between the numbers of runs that reach them."""
    runs: PositiveInt = 3
    """Of median: runs that have come as far, without which none is stopped."""


class Experiment(Settings):
    """A preset with the settings that are varied."""

    preset: str
    """A preset with parts, or the path of a YAML file, relative to the sweep file."""
    set: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it
    """Fixed settings on top of the preset, as `key.path: value`."""
    vary: Annotated[Space, Field(min_length=1)]
    """The values that each varied setting may take, by its path."""
    derive: Derived = {}  # noqa: RUF012
    """Settings that are computed from others, by a table or by arithmetic, in this order."""

    @model_validator(mode="after")
    def _check(self) -> "Experiment":
        for name, keys in (("derive", self.derive), ("set", self.set)):
            if twice := [path for path in self.vary if path in keys]:
                raise ValueError(f"'{twice[0]}' is both in vary and in {name}; keep one")
        return self


class SweepFile(Settings):
    """The content of a sweep file."""

    description: str = ""
    """What the sweep is for."""
    seeds: PositiveInt = 1
    """Number of seeds of every trial, from 0; its score is the mean over them."""
    goal: FiniteFloat | None = None
    """A return; the summary then says when each run first reached it."""
    score: Literal["final", "best"] = "final"
    """What is maximised: the mean return of the last tenth of a run's points, or that of its best point."""
    search: Search = Search()
    """How values are chosen."""
    stop: Stop | None = None
    """When runs are stopped early; by default never."""
    set: dict[str, Any] = {}  # noqa: RUF012
    """Fixed settings of all experiments; those of an experiment are applied after them."""
    experiments: Annotated[dict[str, Experiment], Field(min_length=1)]
    """The experiments by their names."""


def read_sweep(path: Path) -> SweepFile:
    """A sweep from its file. Raises `UserError`, naming the key and the nearest one there is."""
    try:
        tree = parse(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"cannot read '{path}' ({brief(error)})") from error
    if not isinstance(tree, dict) or "experiments" not in tree:
        raise UserError(f"'{path}' is not a sweep: 'experiments' is missing; see docs/how-to/sweep.md")
    try:
        return SweepFile.model_validate(tree)
    except ValidationError as error:
        raise UserError(f"'{path}': {_sentence(error)}") from None


def _sentence(error: ValidationError) -> str:
    """The first fault in one sentence."""
    fault = error.errors(include_url=False)[0]
    where, value = ".".join(map(str, fault["loc"])), fault["input"]
    if fault["type"] == "missing":
        return f"'{where}' is missing"
    if fault["type"] == "extra_forbidden":
        return f"no key '{where}'{nearest(str(fault['loc'][-1]), _keys(fault['loc']))}"
    message = fault["msg"].removeprefix("Value error, ")
    choices = str(fault.get("ctx", {}).get("expected", "")).replace("'", "").replace(" or ", ", ").split(", ")
    near = nearest(str(value), choices) if fault["type"] == "literal_error" else ""
    if fault["type"] == "value_error":
        return f"{where}: {message}"
    return (
        f"{where}={value!r}{near}"
        if near.startswith("; did")
        else f"{where}={value!r}: {message[0].lower()}{message[1:]}"
    )


def _keys(place: tuple[int | str, ...]) -> list[str]:
    """The keys that there are in the place of an unknown one."""
    classes = {1: SweepFile, 2: Stop if place[0] == "stop" else Search, 3: Experiment}
    owner: type[Settings] = classes.get(len(place), Table if "derive" in place else Domain)
    return list(owner.model_fields)
