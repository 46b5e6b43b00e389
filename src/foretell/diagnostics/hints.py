"""Hints: what in the data of a run says that something is going wrong, in one sentence each."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from foretell.diagnostics.candidates import Searched
from foretell.diagnostics.prediction import Track
from foretell.diagnostics.recorded import newest_tracks
from foretell.diagnostics.verdicts import MODEL_HELP, SMALL_BIAS, VALUES_HELP
from foretell.runs.directory import RunDirectory, read_numbers

Rows = Sequence[Mapping[str, Any]]
EPISODES = 20
"""Newest episodes whose steps are looked at."""
MODEL_ERRORS = ("new_mse", "train_mse", "transition_loss", "model_train_mse")
"""Columns of `metrics.csv` that hold an error of the model's predictions; the first that is there is looked at."""
_STEPS, _ROUNDS, _RECENT = 200, 6, 10
"""Fewer steps, fewer rows of metrics or fewer episodes of a kind say nothing."""
_FLAT, _NEAR = 0.98, 0.01
"""Share of steps with nearly the same reward; what is near, as a share of the range."""
_SATURATED = 0.9
"""Share of actions at a bound."""
_COLLAPSED = 0.002
"""Standard deviation of the candidates of the last iteration, as a share of the action range."""
_FALLEN, _GROWN, _SHARE = 0.9, 2.0, 0.1
_FAR, _STDS = 0.3, 2.0
"""Difference of evaluation and training: as a share of the range of returns, and in standard deviations."""
_NAMED = 6
_KINDS = ("random", "train", "eval")


class RunData(NamedTuple):
    """What a run has written, as far as hints need it."""

    episodes: Rows
    """Of `episodes.csv`."""
    metrics: Rows = ()
    """Of `metrics.csv`."""
    diagnostics: Rows = ()
    """Of `diagnostics.csv`."""
    tracks: Sequence[Track] = ()
    """The newest episodes that the agent learned from."""
    names: tuple[str, ...] = ()
    """Of the dimensions of the observation, if they are known."""
    searches: Sequence[Searched] = ()
    """Of the moments of an episode, if they were noted."""
    learner: Mapping[str, Any] = MappingProxyType({})
    """The settings of the section `learner`; empty if there is none."""


class Hint(NamedTuple):
    """What may be wrong."""

    name: str
    text: str
    """What was seen, and what may help."""


def read_data(
    directory: RunDirectory, names: tuple[str, ...] = (), learner: Mapping[str, Any] = MappingProxyType({})
) -> RunData:
    """The data of a run. Raises `UserError` if they are damaged.

    Args:
        directory: the run's.
        names: of the dimensions of the observation.
        learner: the settings of the section `learner`, if there is one.
    """
    episodes = directory.read_episodes()
    tracks = [track for _, track in newest_tracks(directory, episodes, EPISODES)]
    metrics, diagnostics = (read_numbers(path) for path in (directory.metrics, directory.diagnostics))
    return RunData(episodes, metrics, diagnostics, tracks, names, learner=learner)


def hints(data: RunData) -> list[Hint]:
    """Everything that looks wrong."""
    found = {
        "flat reward": flat_reward(data),
        "constant columns": constant_columns(data),
        "model error": model_error(data),
        "saturated actions": saturated_actions(data),
        "collapsed elites": collapsed_elites(data),
        "value bias": value_bias(data),
        "value range": value_range(data),
        "evaluation": evaluation_gap(data),
    }
    return [Hint(name, text) for name, text in found.items() if text is not None]


def flat_reward(data: RunData) -> str | None:
    """Nearly all steps have nearly the same reward, and it does not reward survival."""
    rewards = _joined([track.rewards for track in data.tracks])
    if len(rewards) < _STEPS:
        return None
    middle, span = float(np.median(rewards)), float(np.ptp(rewards))
    share = float((np.abs(rewards - middle) <= _NEAR * span).mean())
    if share < _FLAT or (middle > 0 and any(track.terminated for track in data.tracks)):
        return None
    return (
        f"{share:.1%} of the latest {len(rewards)} steps have a reward of about {middle:.4g}: there is little to learn "
        "from; explore longer (train.random_episodes), or shape the reward (task.reward)"
    )


def constant_columns(data: RunData) -> str | None:
    """Columns of the observation that have one value throughout."""
    obs = [track.obs for track in data.tracks if len(track.obs)]
    if sum(map(len, obs)) < _STEPS:
        return None
    columns = np.flatnonzero(np.ptp(np.concatenate(obs), axis=0) == 0).tolist()
    if not columns:
        return None
    names = [data.names[d] if d < len(data.names) else str(d) for d in columns]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (
        f"column{'s' * (len(names) > 1)} {', '.join(names[:_NAMED])}{more} of the observation never changed in the "
        "latest episodes; the model cannot learn what moves what never moves"
    )


def model_error(data: RunData) -> str | None:
    """The error of the model's predictions is not smaller in the last third of the run than in the first."""
    name = next((name for name in MODEL_ERRORS if any(name in row for row in data.metrics)), "")
    values = _finite([row.get(name, np.nan) for row in data.metrics])
    if len(values) < _ROUNDS:
        return None
    first, last = _ends(values)
    if not first > 0 or last < _FALLEN * first:
        return None
    return (
        f"the model's error ({name} in metrics.csv) does not fall: {first:.3g} in the first third of the run, "
        f"{last:.3g} in the last; {MODEL_HELP}"
    )


def saturated_actions(data: RunData) -> str | None:
    """Nearly all actions of a dimension are at a bound: at the lowest or highest of all actions in the data."""
    actions = [track.actions for track in data.tracks if len(track.actions)]
    if sum(map(len, actions)) < _STEPS:
        return None
    rows = np.concatenate(actions)
    low, high = rows.min(0), rows.max(0)
    margin = _NEAR * (high - low)
    share = ((rows <= low + margin) | (rows >= high - margin)).mean(0)
    share = np.where(high > low, share, 0.0)
    if share.max() < _SATURATED:
        return None
    dims = ", ".join(str(d) for d in np.flatnonzero(share >= _SATURATED)[:_NAMED])
    return (
        f"{share.max():.0%} of the latest actions are at a bound (dimension {dims}); check the scale of the actions, "
        "or whether the reward should charge for them"
    )


def collapsed_elites(data: RunData) -> str | None:
    """The candidates of the last iteration of most searches are all the same."""
    if not data.searches:
        return None
    spread = float(np.median([one.spread[-1] for one in data.searches]))
    if spread > _COLLAPSED:
        return None
    return (
        f"the candidates of the last iteration differ by {spread:.2%} of the action range alone, so that their "
        "iteration is wasted; lower planner.iterations, or raise planner.initial_std or planner.elites"
    )


def value_bias(data: RunData) -> str | None:
    """The bias of the critics has grown, and is not small beside the returns."""
    bias = np.abs(_finite([row.get("q_bias_critic", np.nan) for row in data.diagnostics]))
    if len(bias) < _ROUNDS:
        return None
    first, last = _ends(bias)
    scale = np.abs(_finite([row.get("return", np.nan) for row in data.diagnostics])).max(initial=0.0)
    if last < _GROWN * first or last < SMALL_BIAS * scale:
        return None
    return (
        f"the bias of the critics grows: {first:.3g} in the first third of the run, {last:.3g} in the last "
        f"(q_bias_critic in diagnostics.csv); {VALUES_HELP}"
    )


def value_range(data: RunData) -> str | None:
    """The critics' mean value is outside of what the lowest and the highest reward are worth, earned for ever.

    The entropy bonus counts as a reward. A tenth of that range is tolerated on each side.
    """
    values, rewards = (
        _finite([row.get("mean_q", np.nan) for row in data.metrics]),
        _joined([t.rewards for t in data.tracks]),
    )
    discount = float(data.learner.get("discount", 1.0))
    if discount >= 1 or len(values) < _ROUNDS or len(rewards) < _STEPS:
        return None
    last = data.metrics[-1]
    bonus = float(np.nan_to_num(last.get("alpha", 0.0) * last.get("entropy", 0.0)))
    ends = float(data.learner.get("reward_scale", 1.0)) * np.array([rewards.min(), rewards.max()]) + bonus
    low, high = np.array([min(ends[0], 0.0), max(ends[1], 0.0)]) / (1.0 - discount)
    value, slack = float(np.median(values[-_ROUNDS:])), _SHARE * (high - low)
    if low - slack <= value <= high + slack:
        return None
    return (
        f"the mean value of the critics (mean_q in metrics.csv) is {value:.3g}, but the rewards of the latest "
        f"episodes, earned for ever, are worth {low:.3g} to {high:.3g}: the values diverge; fewer updates per step "
        "(updates.per_step), shorter imagined rollouts (section branches or expansion) or more critics may help"
    )


def evaluation_gap(data: RunData) -> str | None:
    """Evaluation episodes return much more or less than training."""
    returns = {kind: _finite([row["return"] for row in data.episodes if row["kind"] == kind]) for kind in _KINDS}
    train, evaluated = (returns[kind][-_RECENT:] for kind in ("train", "eval"))
    if min(len(train), len(evaluated)) < 3:
        return None
    gap = float(evaluated.mean() - train.mean())
    span, std = np.ptp(np.concatenate([*returns.values()])), max(train.std(), evaluated.std())
    if abs(gap) < max(_FAR * span, _STDS * std):
        return None
    side = "less" if gap < 0 else "more"
    return (
        f"the latest evaluation episodes return {abs(gap):.4g} {side} than training ({evaluated.mean():.4g} and "
        f"{train.mean():.4g}): exploration {'helps' if gap < 0 else 'costs'} much, or the environment differs"
    )


def _ends(values: Float[np.ndarray, "rows"]) -> tuple[float, float]:
    """Medians of the first and of the last third."""
    third = len(values) // 3
    return float(np.median(values[:third])), float(np.median(values[-third:]))


def _finite(values: Sequence[float]) -> Float[np.ndarray, "rows"]:
    found = np.array(values, float)
    return found[np.isfinite(found)]


def _joined(parts: Sequence[Float[np.ndarray, "_"]]) -> Float[np.ndarray, "all"]:
    return np.concatenate(parts) if parts else np.zeros(0)


def lines(data: RunData) -> Iterator[str]:
    """The hints for the end of a run, one line each; constant columns were named when learning began."""
    for hint in hints(data):
        if hint.name != "constant columns":
            yield f"hint: {hint.text}"
