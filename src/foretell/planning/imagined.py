"""The objective of planners: imagined returns of action sequences."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from foretell.models import Act, Params, Start, WorldModel, open_loop, return_fold, rollout, start
from foretell.planning.base import Objective


def objective_of(
    model: WorldModel,
    params: Params,
    obs: Float[Array, "obs"],
    particles: int,
    *,
    optimism: float = 0.0,
    guide: Act | None = None,
) -> Objective:
    """Expected undiscounted return of action sequences from an observation (Chua et al. 2018, section 5).

    Args:
        model: the world model.
        params: what it needs.
        obs: the observation at which plans begin.
        particles: imagined trajectories of each candidate.
        optimism: standard deviations, over particles, of the return that are added to its mean.
        guide: a policy that takes all actions but the first; None: the plan's own actions.
    """

    def objective(
        key: Key[Array, ""], actions: Float[Array, "candidates horizon action"]
    ) -> Float[Array, "candidates"]:
        begin_key, roll_key = jax.random.split(key)
        everywhere = jnp.broadcast_to(obs, (len(actions), *obs.shape))
        begin = start(model, params, everywhere, begin_key, particles)
        return imagined_returns(model, params, begin, actions, roll_key, optimism=optimism, guide=guide)

    return objective


def imagined_returns(
    model: WorldModel,
    params: Params,
    begin: Start,
    actions: Float[Array, "candidates horizon action"],
    key: Key[Array, ""],
    *,
    optimism: float = 0.0,
    guide: Act | None = None,
) -> Float[Array, "candidates"]:
    """Expected undiscounted return of action sequences from the start of a rollout.

    Args:
        model: the world model.
        params: what it needs.
        begin: the start, `[particles, candidates, ...]`.
        actions: of the candidates, in the environment's units.
        key: for the model's noise.
        optimism: as for `objective_of`.
        guide: as for `objective_of`.
    """
    act = open_loop(actions, len(begin.obs))
    if guide is not None:
        act = guided(act, guide)
    found = rollout(model, params, begin, act, actions.shape[1], key, fold=return_fold(begin))
    totals, _ = found.folded
    return totals.mean(0) + optimism * totals.std(0) if optimism else totals.mean(0)


def guided(first: Act, guide: Act) -> Act:
    """A policy that takes the first action from `first`, and all others from `guide`."""

    def act(key: Key[Array, ""], obs: Float[Array, "particles batch obs"], t: Array) -> tuple[Array, tuple]:
        return jnp.where(t > 0, guide(key, obs, t)[0], first(key, obs, t)[0]), ()

    return act
