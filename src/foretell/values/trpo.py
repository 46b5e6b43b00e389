"""TRPO: one natural-gradient step of a Gaussian policy within a trust region, for each batch of its own steps.

Schulman, Levine, Moritz, Jordan, Abbeel: "Trust region policy optimization", ICML 2015. The defaults are those of
Nagabandi et al. 2018 (arXiv:1708.02596), whose released code calls rllab.
"""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from foretell.settings import Settings
from foretell.values.advantages import Estimates, Steps, estimate, explained_variance, standardised
from foretell.values.baseline import fitted, regressors, zero_weights
from foretell.values.gaussian import GaussianPolicy, GaussianState
from foretell.values.trust_region import (
    Function,
    Search,
    Vector,
    fisher_vector_product,
    line_search,
    natural_step,
)

Metrics = dict[str, Float[Array, ""]]


class Batch(NamedTuple):
    """Consecutive steps of one policy in environments that are stepped together."""

    features: Float[Array, "time environments features"]
    action: Float[Array, "time environments action"]
    """As it was sampled, in units in which the bounds are -1 and 1."""
    reward: Float[Array, "time environments"]
    next_features: Float[Array, "time environments features"]
    terminated: Bool[Array, "time environments"]
    over: Bool[Array, "time environments"]
    time: Int[Array, "time environments"]
    """Number of the step within its episode, from 0."""


class TRPOState(NamedTuple):
    """What is learned, and the number of iterations."""

    policy: GaussianState
    baseline: Float[Array, "regressors"]
    """Weights of the baseline, all 0 before the first iteration."""
    iterations: Int[Array, ""]


class TRPOUpdate(Settings):
    """One iteration of TRPO, which learns from one batch (section `trpo`)."""

    discount: Annotated[float, Field(ge=0, le=1)] = 0.995
    """Discount factor (the default is that of Nagabandi et al.)."""
    gae_lambda: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Lambda of generalised advantage estimation. With 1 advantages are returns minus the baseline (Nagabandi et
    al.)."""
    bootstrap: bool = True
    """Where an episode is cut by its time limit or by the end of the batch, use the baseline's value for the rewards
    that would follow (true), or 0 (false: rllab, whose batches are whole episodes)."""
    standardise: bool = True
    """Standardise the advantages of a batch to mean 0 and standard deviation 1 (rllab)."""
    baseline_ridge: PositiveFloat = 1e-5
    """Ridge penalty of the baseline's linear regression (rllab)."""
    max_kl: PositiveFloat = 0.05
    """Bound on the mean KL divergence of the new policy from the old, in nats. Nagabandi et al.: 0.05 in the code, 0.5
    in the paper; Schulman et al.: 0.01."""
    cg_iterations: PositiveInt = 10
    """Maximum number of iterations of conjugate gradients (Schulman et al.; rllab)."""
    cg_tolerance: NonNegativeFloat = 1e-10
    """Conjugate gradients stop at this squared residual (rllab)."""
    damping: NonNegativeFloat = 1e-5
    """Number added to the diagonal of the Fisher matrix (rllab)."""
    backtrack_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """Factor by which the line search shortens a step that does not raise the surrogate within the bound (rllab)."""
    backtracks: PositiveInt = 15
    """Maximum number of lengths that are tried, including the full step (rllab). If none is accepted, the policy stays
    unchanged."""
    accept_first: bool = False
    """Take the shortest length in the first iteration even if none is accepted (the fork of rllab that the code of
    Nagabandi et al. calls). A non-finite step is never taken."""

    def init(self, policy: GaussianState, feature_size: int) -> TRPOState:
        """The state before the first iteration; `policy` is untrained or an imitation of a planner."""
        return TRPOState(policy, zero_weights(feature_size), jnp.zeros((), jnp.int32))

    def update(self, policy: GaussianPolicy, state: TRPOState, batch: Batch) -> tuple[TRPOState, Metrics]:
        """Improve the policy by one step, then fit the baseline for the next batch.

        A step that is not finite is not taken, and counted in the metric `skipped_steps`; the other metrics are then 0.

        Args:
            policy: settings of the policy.
            state: what has been learned; all steps of the batch were taken by its policy.
            batch: the steps.

        Returns:
            The new state, and metrics.
        """
        x = regressors(batch.features, batch.time)
        value = x @ state.baseline
        estimates = self._estimates(state, batch, value)
        improved, sound, metrics = self._improve(policy, state, batch, estimates.advantage)
        weights = fitted(x.reshape(-1, x.shape[-1]), estimates.returns.ravel(), self.baseline_ridge)
        weights = jnp.where(jnp.isfinite(weights).all(), weights, state.baseline)
        metrics |= {"entropy": policy.entropy(improved), "std": jnp.exp(improved.log_std).mean()}
        metrics |= {"explained_variance": explained_variance(value, estimates.returns)}
        metrics = {name: jnp.where(sound, metric, 0.0) for name, metric in metrics.items()}
        metrics |= {"gradient_steps": jnp.ones(()), "skipped_steps": jnp.where(sound, 0.0, 1.0)}
        return TRPOState(improved, weights, state.iterations + 1), metrics

    def _estimates(self, state: TRPOState, batch: Batch, value: Float[Array, "time environments"]) -> Estimates:
        """Advantages and returns of a batch; advantages are standardised if the settings say so."""
        next_value = regressors(batch.next_features, batch.time + 1) @ state.baseline
        steps = Steps(batch.reward, value, next_value, batch.terminated, batch.over)
        found = estimate(steps, discount=self.discount, gae_lambda=self.gae_lambda, bootstrap=self.bootstrap)
        return found._replace(advantage=standardised(found.advantage)) if self.standardise else found

    def _improve(
        self, policy: GaussianPolicy, state: TRPOState, batch: Batch, advantage: Float[Array, "time environments"]
    ) -> tuple[GaussianState, Bool[Array, ""], Metrics]:
        """The policy after the step, if one is taken; whether the step was finite; and metrics."""
        start, unravel = ravel_pytree(state.policy)
        surrogate, divergence = _objective_and_bound(policy, state.policy, unravel, batch, advantage)
        level, gradient = jax.value_and_grad(surrogate)(start)
        step = natural_step(
            gradient,
            fisher_vector_product(divergence, start, self.damping),
            max_divergence=self.max_kl,
            iterations=self.cg_iterations,
            tolerance=self.cg_tolerance,
        )
        search = line_search(
            lambda fraction: (surrogate(start + fraction * step) - level, divergence(start + fraction * step)),
            max_divergence=self.max_kl,
            ratio=self.backtrack_ratio,
            tries=self.backtracks,
        )
        sound = jnp.isfinite(level) & jnp.isfinite(step).all()
        taken = sound & (search.found | self._forced(state, search))
        return unravel(jnp.where(taken, start + search.fraction * step, start)), sound, _search_metrics(search, taken)

    def _forced(self, state: TRPOState, search: Search) -> Bool[Array, ""]:
        """Whether the last length tried is taken although it was not accepted."""
        finite = jnp.isfinite(search.gain) & jnp.isfinite(search.divergence)
        return self.accept_first & (state.iterations == 0) & finite


def _objective_and_bound(
    policy: GaussianPolicy,
    old: GaussianState,
    unravel: Callable[[Array], GaussianState],
    batch: Batch,
    advantage: Float[Array, "time environments"],
) -> tuple[Function, Function]:
    """As functions of a policy's parameters: the surrogate, and the mean divergence from `old`.

    The surrogate is the mean of importance ratio times advantage (Schulman et al. 2015, equation 14).
    """
    before = policy.log_prob(old, batch.features, batch.action)

    def surrogate(params: Vector) -> Float[Array, ""]:
        ratio = jnp.exp(policy.log_prob(unravel(params), batch.features, batch.action) - before)
        return (ratio * advantage).mean()

    def divergence(params: Vector) -> Float[Array, ""]:
        return policy.kl(old, unravel(params), batch.features).mean()

    return surrogate, divergence


def _search_metrics(search: Search, taken: Bool[Array, ""]) -> Metrics:
    metrics = {"kl": search.divergence, "surrogate_gain": search.gain, "accepted": jnp.ones(())}
    metrics = {name: jnp.where(taken, value, 0.0) for name, value in metrics.items()}
    return {**metrics, "backtracks": search.tries - 1.0}
