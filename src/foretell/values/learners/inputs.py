"""Standardisation of what policy and critics see, so that learning does not depend on the units of observations."""

from collections.abc import Callable

import jax
from jaxtyping import Array, Float

from foretell.nn import MLP, Normalizer, fit_normalizer, with_inputs
from foretell.replay import Replay
from foretell.values.learners.state import LearnerState

_MIN_STD = 1e-6
"""A standard deviation below this is replaced by 1."""


def standardized(
    state: LearnerState, replay: Replay, features: Callable[[Float[Array, "rows obs"]], Float[Array, "rows features"]]
) -> LearnerState:
    """With new statistics in all networks that standardise their inputs, if the replay has grown by a share.

    Args:
        state: what has been learned.
        replay: the data.
        features: what networks see of observations.
    """
    if state.policy.input_mean is None:
        return state

    def renew() -> LearnerState:
        return _with_inputs(state, fit_normalizer(features(replay.data.obs), replay.valid, min_std=_MIN_STD))

    return jax.lax.cond(replay.grown, renew, lambda: state)


def _with_inputs(state: LearnerState, inputs: Normalizer) -> LearnerState:
    """All networks with these statistics. The critics see actions too, which are in [-1, 1] already."""

    def renewed(network: MLP) -> MLP:
        return with_inputs(network, inputs)

    state = state._replace(
        policy=renewed(state.policy),
        critics=renewed(state.critics),
        target_critics=renewed(state.target_critics),
    )
    if state.target_policy is not None:
        state = state._replace(target_policy=renewed(state.target_policy))
    if state.explorer is not None:
        state = state._replace(explorer=state.explorer._replace(policy=renewed(state.explorer.policy)))
    if state.state_value is not None:
        both = renewed(state.state_value.network), renewed(state.state_value.target)
        state = state._replace(state_value=state.state_value._replace(network=both[0], target=both[1]))
    return state
