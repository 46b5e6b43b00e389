"""Why an agent executed an action, as text: plan, rejected candidates, uncertainty, and nearest recorded steps."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from foretell.diagnostics.belief import Belief, windows
from foretell.diagnostics.open_loop import std_of
from foretell.tasks import TaskSpec

BEST = 6
"""Number of candidates that are kept, the best ones; the plan may be one of them."""
_AHEAD = 6
"""Maximum number of rows, each for a number of steps ahead, in the table of uncertainty."""
_FOLLOWING = 5
"""Number of actions of the plan that are shown."""
_NAMED = 12
"""Number of dimensions of the observation that are shown."""
_FAR = 1.0
"""Distance above which even the nearest step in the data is not similar; see `belief.Neighbour`."""


def lines(belief: Belief, spec: TaskSpec, step: int) -> Iterator[str]:
    """The explanation, line by line.

    Args:
        belief: what the model believed at one moment.
        spec: dimensions and names of the task.
        step: step of the episode, from 0.
    """
    track, time = belief.lived.track, belief.lived.moments[0].time
    obs = zip(spec.obs_names, track.obs[step], strict=True)
    more = f" and {spec.obs_size - _NAMED} more" if spec.obs_size > _NAMED else ""
    before = track.rewards[:step].sum()
    yield f"step {step}, return until then {before:.4g}, reward of this step {track.rewards[step]:.4g}"
    yield f"observation  {', '.join(f'{name} {value:.3g}' for name, value in list(obs)[:_NAMED])}{more}"
    yield f"executed     {_numbers(track.actions[step])}"
    yield from _chosen(belief, step - time)
    yield from _rejected(belief)
    yield from _horizons(belief)
    yield from _uncertainty(belief, time)
    yield from _nearest(belief)


def _chosen(belief: Belief, ago: int) -> Iterator[str]:
    if belief.lived.moments[0].plan is None:
        yield "\nits policy chose it; what follows is what the policy does in imagination"
    else:
        yield f"\nthe plan was made {f'{ago} steps before' if ago else 'at this step'}"
    following = [_numbers(action) for action in np.asarray(belief.planned.action)[0, :_FOLLOWING]]
    yield f"  its first actions: {', '.join(following)}"
    if not belief.has_value:
        yield "  along a path it is not the return that is planned for"
        return
    value = np.asarray(belief.planned.value)[0]
    yield f"  imagined return {value.mean():.4g}{_spread(value)}"
    if belief.members > 1:
        yield f"  by member: {_numbers(value.reshape(belief.members, -1).mean(1))}"


def _rejected(belief: Belief) -> Iterator[str]:
    search = belief.lived.moments[0].searched
    if search is None or belief.rejected is None:
        return
    low, high, iterations = search.quantiles.min(), search.quantiles.max(), len(search.quantiles)
    yield f"\nit compared {search.tried} candidates, in {iterations} iteration{'s' * (iterations > 1)}"
    yield f"  imagined returns {low:.4g} to {high:.4g}"
    yield "the best of them"
    yield "  imagined return   of particles   first action"
    values, actions = np.asarray(belief.rejected.value), np.asarray(belief.rejected.action)[:, 0]
    for seen, value, action in zip(search.values, values, actions, strict=True):
        yield f"  {seen:15.4g}   {value.mean():12.4g}   {_numbers(action)}"
    if belief.has_value and (std := values[0].std()) > search.values[0] - np.median(search.quantiles[-1]):
        yield f"the choice is uncertain: particles of the best differ by {std:.3g}, its lead over the median is less"


def _horizons(belief: Belief) -> Iterator[str]:
    if belief.horizons is not None:
        weights = ", ".join(f"{j}: {weight:.2f}" for j, weight in enumerate(belief.horizons.weight_mj[0]))
        yield f"\nweights of the horizons in the target of this step  {weights}"


def _uncertainty(belief: Belief, time: int) -> Iterator[str]:
    """Standard deviations of the particles, beside the error of the prediction as far as the episode was played."""
    track = belief.lived.track
    std = std_of(track.obs)
    spread = _root(np.asarray(belief.planned.obs)[0].std(1) / std)
    expected = np.asarray(belief.expected.obs)[0].mean(1)
    error = _root((windows(track.obs, np.array([time]), len(expected))[0] - expected) / std)
    last = len(spread) - 1
    yield "\nuncertainty along the horizon, in units of the standard deviations over this episode"
    yield "  steps ahead   std of particles   error for what was executed"
    for k in np.unique(np.linspace(1, last, min(_AHEAD, last)).round().astype(int)):
        played = f"{error[k]:.3g}" if time + k < len(track.obs) else "-"
        yield f"  {k:11d}   {spread[k]:16.3g}   {played}"


def _nearest(belief: Belief) -> Iterator[str]:
    found = belief.neighbours[0]
    if not found:
        yield "\nthe run has no recorded data"
        return
    yield "\nnearest steps in the data"
    yield "  episode   step   distance   reward"
    yield from (f"  {one.episode:7d}   {one.time:4d}   {one.distance:8.3g}   {one.reward:.4g}" for one in found)
    if found[0].distance > _FAR:
        yield "the model has seen little like this"


def _spread(value: Float[np.ndarray, "particles"]) -> str:
    return f", {value.min():.4g} to {value.max():.4g} over {len(value)} particles" if len(value) > 1 else ""


def _root(values: Float[np.ndarray, "k d"]) -> Float[np.ndarray, "k"]:
    return np.sqrt(np.square(values).mean(1))


def _numbers(values: Float[np.ndarray, "n"]) -> str:
    return " ".join(f"{value:.4g}" for value in values)
