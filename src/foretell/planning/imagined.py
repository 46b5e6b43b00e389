"""What planners search on: returns of action sequences in imagination."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from foretell.models import Act, Params, Start, WorldModel, open_loop, returns, rollout, start
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
        obs: where plans begin.
        particles: imagined trajectories of each candidate.
        optimism: standard deviations of their returns that are added to the mean.
        guide: a policy that takes all actions but the first; None: none.
    """

    def objective(
        key: Key[Array, ""], actions: Float[Array, "candidates horizon action"]
    ) -> Float[Array, "candidates"]:
        begin_key, roll_key = jax.random.split(key)
        everywhere = jnp.broadcast_to(obs, (len(actions), *obs.shape))
        begin = start(model, params, everywhere, begin_key, particles)
        return judge(model, params, begin, actions, roll_key, optimism=optimism, guide=guide)

    return objective


def judge(
    model: WorldModel,
    params: Params,
    begin: Start,
    actions: Float[Array, "candidates horizon action"],
    key: Key[Array, ""],
    *,
    optimism: float = 0.0,
    guide: Act | None = None,
) -> Float[Array, "candidates"]:
    """The same from the start of a rollout `[particles, candidates, ...]`."""
    act = open_loop(actions, len(begin.obs))
    if guide is not None:
        act = guided(act, guide)
    totals = returns(rollout(model, params, begin, act, actions.shape[1], key))
    return totals.mean(0) + optimism * totals.std(0) if optimism else totals.mean(0)


def guided(first: Act, guide: Act) -> Act:
    """Take the first action as one policy says, and all others as another."""

    def act(key: Key[Array, ""], obs: Float[Array, "particles batch obs"], t: Array) -> tuple[Array, tuple]:
        return jnp.where(t > 0, guide(key, obs, t)[0], first(key, obs, t)[0]), ()

    return act
