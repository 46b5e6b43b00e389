"""The candidates that a planner tries, with their imagined returns: noted as it searches."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import io_callback
from jaxtyping import Array, Float, Key
from pydantic import ConfigDict

from foretell.agents import Agent
from foretell.planning import Bounds, Objective, Plan, Planner
from foretell.planning.base import WarmStart

RANKS = ("best", "upper quartile", "median", "lower quartile", "worst")
"""The candidates that stand for all of a search."""
_QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


class Round(NamedTuple):
    """One iteration of a search; candidates whose return was not finite are left out."""

    actions: Float[np.ndarray, "candidates horizon action"]
    values: Float[np.ndarray, "candidates"]
    """Imagined returns."""


class Searched(NamedTuple):
    """What is kept of one search."""

    actions: Float[np.ndarray, "ranks horizon action"]
    """The candidates of `RANKS`, or the best ones, over all iterations."""
    values: Float[np.ndarray, "ranks"]
    """Their imagined returns, as the search estimated them."""
    quantiles: Float[np.ndarray, "iterations quantiles"]
    """Lowest return, quartiles and highest return of the candidates of each iteration."""
    spread: Float[np.ndarray, "iterations"]
    """Standard deviation of the candidates' actions in each iteration, a mean over times and dimensions, as a share of
    the action range."""
    tried: int
    """Candidates in all."""


class Watched(Planner):
    """A planner that searches as another one, and calls a function with the candidates of every iteration."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    kind: str = "watched"
    planner: Planner
    """The other one."""
    note: Callable[[Any, Any], None]
    """Called with candidates and imagined returns."""

    def begin(self, bounds: Bounds) -> WarmStart:
        return self.planner.begin(bounds)

    def plan(self, key: Key[Array, ""], objective: Objective, warm_start: WarmStart, bounds: Bounds) -> Plan:
        """Search as the other one."""

        def noted(
            key: Key[Array, ""], candidates: Float[Array, "candidates horizon action"]
        ) -> Float[Array, "candidates"]:
            values = objective(key, candidates)
            io_callback(self.note, None, candidates, values)
            return values

        return self.planner.plan(key, noted, warm_start, bounds)


class Notes:
    """The iterations of the latest search."""

    def __init__(self, best: int = 0) -> None:
        """`best` is the number of best candidates to keep; 0: those of `RANKS`."""
        self._rounds, self._best = list[Round](), best

    def watch(self, agent: Agent) -> Agent:
        """The same agent, whose planner notes its candidates here; the agent itself if it does not plan."""
        planner: Any = getattr(agent, "planner", None)
        if planner is None:
            return agent
        watched = Watched(
            planner=planner, note=self._note, horizon=planner.horizon, replan_every=planner.replan_every,
            population=planner.population, iterations=planner.iterations,
        )  # fmt: skip
        return replace(agent, planner=watched)  # type: ignore[type-var]

    def take(self, bounds: Bounds) -> Searched | None:
        """What the searches since the last call came to, which are then forgotten; None if there was none."""
        jax.effects_barrier()
        rounds, self._rounds = [one for one in self._rounds if len(one.values)], []
        return searched(rounds, np.asarray(bounds.high) - np.asarray(bounds.low), self._best) if rounds else None

    def _note(self, actions: Any, values: Any) -> None:
        values = np.asarray(values, np.float64)
        kept = np.isfinite(values)
        self._rounds.append(Round(np.asarray(actions)[kept], values[kept]))


def searched(rounds: list[Round], span: Float[np.ndarray, "action"], best: int = 0) -> Searched:
    """What is kept of the iterations of a search.

    Args:
        rounds: the iterations, each with at least one candidate.
        span: highest minus lowest action.
        best: number of best candidates to keep; 0: those of `RANKS`.
    """
    actions, values = np.concatenate([one.actions for one in rounds]), np.concatenate([one.values for one in rounds])
    order = np.argsort(-values, kind="stable")
    ranked = order[:best] if best else order[np.linspace(0, len(order) - 1, len(RANKS)).round().astype(int)]
    quantiles = np.stack([np.quantile(one.values, _QUANTILES) for one in rounds])
    spread = np.array([float((one.actions.std(0) / span).mean()) for one in rounds])
    return Searched(actions[ranked], values[ranked], quantiles, spread, len(values))
