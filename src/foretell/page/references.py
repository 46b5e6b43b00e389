"""Published results, to be drawn beside those of runs: `references.yaml` has the numbers and their sources."""

from importlib import resources
from typing import Annotated

import yaml
from pydantic import Field, FiniteFloat, NonNegativeInt, model_validator

from foretell.settings import Settings


class Reference(Settings):
    """A published curve, or one point of it."""

    label: str
    """Its name in a legend."""
    env: str
    """The environment, as in `task.env`."""
    source: str
    """Where the numbers are from."""
    statistic: str
    """What they are: over how many runs, and of which episodes."""
    running_maximum: bool = False
    """Whether each is the best return so far."""
    steps: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]
    """Environment steps."""
    returns: tuple[FiniteFloat, ...]
    """As many."""

    @model_validator(mode="after")
    def _check(self) -> "Reference":
        if len(self.steps) != len(self.returns):
            raise ValueError(f"{self.label} has {len(self.steps)} steps and {len(self.returns)} returns")
        return self


def references() -> list[Reference]:
    """All that are known."""
    text = (resources.files("foretell.page") / "references.yaml").read_text()
    return [Reference.model_validate(tree) for tree in yaml.safe_load(text)]
