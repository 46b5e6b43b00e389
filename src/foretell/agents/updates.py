"""What an agent with values has learned, when it updates that, and how many updates become one compiled program."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from foretell.agents.base import Metrics, State
from foretell.errors import UserError
from foretell.models import ModelState, Params
from foretell.nn import MLP
from foretell.replay import Replay
from foretell.settings import Settings
from foretell.values.learners import Learner, LearnerState

Update = Any
"""(state, key=key) -> the state after one update, and its metrics."""
Half = Literal["values", "model"]
"""What a half of the agent trains, where learner and model are trained in different processes."""
Sync = tuple[int, Callable[[Any, Bool[Array, ""]], Any]]
"""A period in updates, and what is done where it ends: (state, whether it ends) -> state."""


class Updates(Settings):
    """Schedule of the updates of learner and model. The defaults are the released STEVE's."""

    per_step: PositiveFloat = 4.0
    """Updates of the learner per environment step."""
    model_per_step: PositiveFloat | None = None
    """Updates of the model per environment step, all made before those of the learner (MVE). Null: one update of the
    model with each update of the learner (STEVE)."""
    pretraining: NonNegativeInt = 10_000
    """Updates of the model on random data, before the agent first acts."""
    learner_after: NonNegativeInt = 0
    """Update the learner only once the replay holds this many transitions."""
    model_after: NonNegativeInt = 0
    """Update the model only once the replay holds this many transitions; only with `model_per_step`."""
    always_model: bool = False
    """Train a model even if no target uses it, so that diagnostics can measure its errors."""
    sync_policy_every: PositiveInt | None = 500
    """Copy the newest policy to the policy that acts every so many updates: before update `u`, counted from 0, if `u +
    1` is a multiple of this. Null: after each call of `learn`."""
    sync_model_every: PositiveInt | None = 500
    """Copy the newest model to the model in targets every so many updates. Null: in each call of `learn`, before the
    learner's updates."""


class ModelCopies(NamedTuple):
    """The model that is trained, and the copy of it that targets are computed with.

    Where the model is trained in another process, `online` is what comes from there: the parameters of the copy.
    """

    online: ModelState | Params
    target: Params


class PolicyCopy(NamedTuple):
    """The policy that acts."""

    network: MLP
    explorer: MLP | None
    """The policy that explores, where that is another."""
    version: Int[Array, ""]
    """How often it has been renewed."""


class ValueExpansionState(NamedTuple):
    """What was learned, and how often."""

    learner: LearnerState
    model: ModelCopies | None
    acting: PolicyCopy
    calls: Int[Array, ""]
    """Calls of `learn`."""
    credit: Float[Array, ""]
    """Fraction of an update that is due for steps already seen."""
    model_credit: Float[Array, ""]
    """Likewise, of an update of the model, if those are apart."""
    imagined: Replay | None
    """Imagined transitions, if they are kept."""


def check_spread(reduction: str, samples: int) -> None:
    """Raises `UserError` where horizons are weighed by the spread of samples, and there is one sample of each."""
    if samples == 1 and reduction in ("inverse-variance", "inverse-covariance"):
        raise UserError(
            f"expansion.reduction={reduction} weighs horizons by the spread of their samples, but "
            "single networks give one sample each; raise model.members or learner.critics, or choose last, mean or "
            "lambda"
        )


def due_updates(
    credit: Float[Array, ""], per_step: float, new: Int[Array, ""], may: Bool[Array, ""]
) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """The fraction of an update that is left over, and the updates that are due for `new` steps, if there may be any.

    Args:
        credit: the fraction that was left over before.
        per_step: updates per step.
        new: steps.
        may: whether these steps count.
    """
    total = credit + per_step * new * may
    due = jnp.floor(total).astype(jnp.int32)
    return total - due, due


def repeat(count: Int[Array, ""], update: Update, state: State, key: Key[Array, ""]) -> tuple[State, Metrics]:
    """`update` so many times; its metrics are averaged."""
    update = jax.jit(update, inline=True)  # traced once for both
    carry = state, zeros_of(update, state, key=key)
    state, total = jax.lax.fori_loop(0, count, partial(add_update, update, key), carry)
    return state, means(total, count)


def repeat_with_syncs(
    count: Int[Array, ""],
    update: Update,
    state: State,
    key: Key[Array, ""],
    number: Int[Array, ""],
    syncs: list[Sync],
) -> tuple[State, Metrics]:
    """As `repeat`, with what is due between updates.

    Updates are cut where something is due, so that there are no conditionals in the many updates in between.

    Args:
        count: updates.
        update: one of them.
        state: before them.
        key: for their noise.
        number: of the first one, counted over the whole run from 0.
        syncs: what is due before update `u` where `u + 1` is a multiple of a period.
    """

    update = jax.jit(update, inline=True)  # traced once, here and in the loop

    def cut(carry: tuple) -> tuple:
        done, state, total = carry
        following = number + done + 1
        for every, sync in syncs:
            state = sync(state, following % every == 0)
        end = jnp.stack([count, *(done + every - following % every for every, _ in syncs)]).min()
        state, total = jax.lax.fori_loop(done, end, partial(add_update, update, key), (state, total))
        return end, state, total

    carry = jnp.zeros_like(count), state, zeros_of(update, state, key=key)
    _, state, total = jax.lax.while_loop(lambda carry: carry[0] < count, cut, carry)
    return state, means(total, count)


def zeros_of(update: Update, state: State, *, key: Key[Array, ""]) -> Metrics:
    """Metrics of no update."""
    return jax.tree.map(lambda a: jnp.zeros(a.shape), jax.eval_shape(update, state, key=key)[1])


def add_update(update: Update, key: Key[Array, ""], number: Int[Array, ""], carry: tuple) -> tuple:
    """The state after one more update, the `number`th of a call, and the metrics' sum."""
    state, total = carry
    state, metrics = update(state, key=jax.random.fold_in(key, number))
    return state, jax.tree.map(jnp.add, total, metrics)


def means(total: Metrics, count: Int[Array, ""]) -> Metrics:
    """Metrics that were summed over so many updates, averaged."""
    return jax.tree.map(lambda a: a / jnp.maximum(count, 1), total)


def either(first: Bool[Array, ""], a: Any, b: Any) -> Any:
    """One of two trees. The whole state must not pass through a conditional, which would copy it."""
    return jax.lax.cond(first, lambda: a, lambda: b)


def sync_policy(state: ValueExpansionState, learner: Learner, due: Bool[Array, ""]) -> ValueExpansionState:
    """Act with the newest policy from now on, if that is due."""
    newest = state.learner.policy, learner.explorer(state.learner)
    network, explorer = either(due, newest, (state.acting.network, state.acting.explorer))
    return state._replace(acting=PolicyCopy(network, explorer, state.acting.version + due))
