"""Behavioural cloning: a network imitates the actions of another policy, by regression from features to actions."""

from typing import Annotated, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key
from pydantic import Field, PositiveInt

from foretell.nn import MLP
from foretell.nn.mlp import Activation, fold_normalizer
from foretell.regression.ensemble import Ensemble, EnsembleState
from foretell.regression.fit import Carried, Fit
from foretell.regression.prediction import Rows
from foretell.settings import Settings


class Clone(NamedTuple):
    """A network in training, on standardised features, and what its training carries on."""

    state: EnsembleState
    carried: Carried

    @property
    def network(self) -> MLP:
        """From features that are not standardised to actions in units in which the bounds are -1 and 1."""
        return fold_normalizer(self.state.params.network, self.state.inputs)


class Cloning(Settings):
    """The network that imitates, and its training on the squared error (Nagabandi et al. 2018, section V)."""

    hidden: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (64, 64)
    """Widths of the hidden layers."""
    activation: Activation = "tanh"
    """Activation function of the hidden layers."""
    fit: Fit = Fit(learning_rate=1e-3, batch_size=512, epochs=60, bootstrap=False)
    """Its training at each call of `learn`."""

    @property
    def model(self) -> Ensemble:
        """The network, as an ensemble of one member."""
        return Ensemble(
            members=1,
            probabilistic=False,
            hidden=self.hidden,
            activation=self.activation,
            initializer="glorot",
            weight_decay=0.0,
            min_std=1e-6,
        )

    def init(self, key: Key[Array, ""], feature_size: int, action_size: int) -> Clone:
        """An untrained network."""
        state = self.model.init(key, feature_size, action_size, 0)
        return Clone(state, self.fit.start(state))

    def learn(
        self,
        key: Key[Array, ""],
        clone: Clone,
        features: Float[Array, "rows features"],
        actions: Float[Array, "rows action"],
        size: Int[Array, ""],
    ) -> tuple[Clone, dict[str, Array]]:
        """Continue training.

        Args:
            key: for the order of rows.
            clone: the network so far.
            features: of the observations.
            actions: to be imitated, in units in which the bounds are -1 and 1.
            size: number of valid rows, from the first on.

        Returns:
            The trained network, and the metrics of `Fit`.
        """
        rows = Rows(features, actions, jnp.zeros((len(features), 0), bool))
        fitted = self.fit.fit(key, self.model, clone.state, clone.carried, rows, size)
        return Clone(fitted.state, fitted.carried), fitted.metrics
