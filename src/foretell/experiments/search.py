"""The next trials of a sweep: cells of a grid, random values, or what Optuna suggests."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from foretell.errors import UserError
from foretell.experiments.space import Domain, Values, cells
from foretell.experiments.sweep_file import Experiment, Search


def next_values(
    experiment: Experiment, search: Search, known: Sequence[Values], scores: Sequence[float | None]
) -> list[Values]:
    """The values of the next trials of an experiment; none if it has them all.

    Args:
        experiment: what is varied.
        search: how values are chosen.
        known: the values of the trials so far.
        scores: their scores; None without one.

    Raises:
        UserError: if the domains do not suit the search, or if Optuna is missing.
    """
    match search.method:
        case "grid":
            return [cell for cell in cells(experiment.vary) if cell not in known]
        case "random":
            return [_drawn(experiment.vary, search.seed, i) for i in range(len(known), search.samples)]
        case "tpe":
            left = min(search.batch, search.samples - len(known))
            return _suggested(experiment.vary, search.seed, known, scores, left) if left > 0 else []


def _drawn(space: Mapping[str, Domain], seed: int, number: int) -> Values:
    """Random values, which depend on the seed and the number of the trial alone."""
    rng = np.random.default_rng((seed, number))
    return {path: domain.draw(rng) for path, domain in space.items()}


def _suggested(
    space: Mapping[str, Domain], seed: int, known: Sequence[Values], scores: Sequence[float | None], number: int
) -> list[Values]:
    """The next `number` suggestions of Optuna's TPE; those that are not known yet count as bad."""
    if find_spec("optuna") is None:
        raise UserError("search.method tpe needs Optuna: pip install 'foretell[ray]'; or choose grid or random")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed + len(known), constant_liar=True)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    distributions = {path: _distribution(domain) for path, domain in space.items()}
    for values, score in zip(known, scores, strict=True):
        inside = {path: _inside(space[path], value) for path, value in values.items()}
        state = optuna.trial.TrialState.FAIL if score is None else optuna.trial.TrialState.COMPLETE
        trial = {"params": inside, "distributions": distributions, "value": score, "state": state}
        study.add_trial(optuna.trial.create_trial(**trial))
    asked = (study.ask(distributions).params for _ in range(number))
    return [{path: _outside(space[path], value) for path, value in params.items()} for params in asked]


def _distribution(domain: Domain) -> Any:
    """The distribution of Optuna; that of choices is over their numbers, since these may be lists."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if domain.choices is not None:
        return CategoricalDistribution(range(len(domain.choices)))
    if domain.integers is not None:
        return IntDistribution(*domain.integers, log=domain.log)
    return FloatDistribution(*domain.bounds, log=domain.log)


def _inside(domain: Domain, value: Any) -> Any:
    return value if domain.choices is None else domain.choices.index(value)


def _outside(domain: Domain, value: Any) -> Any:
    return domain.typed(value) if domain.choices is None else domain.choices[value]
