"""A Gaussian process as a model: the GP baseline of Chua et al. 2018, by sparse variational regression (Titsias 2009).

All outputs share one kernel and one noise, and therefore one predictive variance. Inputs are used as they are. The
mathematics of training is in `sgpr.py`.
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from foretell.errors import UserError
from foretell.nn import fit_normalizer
from foretell.regression import sgpr
from foretell.regression.fit import Fitted
from foretell.regression.prediction import Prediction, Predictor, Rows, mean_over, mean_square_error
from foretell.replay import shuffle
from foretell.settings import Settings

_LEAST_VARIANCE = 1e-12
"""In squared units of the (scaled) targets; rounding may leave a negative number where the process is certain."""


class GPState(eqx.Module):
    """A trained Gaussian process: its hyper-parameters, and its posterior in terms of the inducing inputs."""

    variance: Float[Array, ""]
    """Variance of the kernel, for targets divided by `scale`."""
    lengthscales: Float[Array, "in"]
    """In the units of the inputs."""
    noise: Float[Array, ""]
    """Variance of the observation noise, for targets divided by `scale`."""
    inducing: Float[Array, "inducing in"]
    weights: Float[Array, "inducing out"]
    """With `k` the kernel between an input and the inducing inputs, the mean is `scale * (k @ weights)`."""
    reduction: Float[Array, "inducing inducing"]
    """The variance is `scale^2 * (variance - |k @ reduction|^2)`."""
    scale: Float[Array, "out"]
    """What the targets are divided by."""


class GP(Settings):
    """A sparse Gaussian process with an RBF kernel, zero mean and one lengthscale per input.

    The defaults are the paper's.
    """

    inducing: PositiveInt = 200
    """Number of inducing inputs. Planning time and training time grow with its square."""
    variance: PositiveFloat = 1.0
    """Initial value of the kernel's variance, in squared units of the (scaled) targets."""
    lengthscale: PositiveFloat = 1.0
    """Initial value of every lengthscale, in the units of the inputs."""
    noise: PositiveFloat = 1.0
    """Initial value of the variance of the observation noise, in squared units of the (scaled) targets."""
    jitter: PositiveFloat = 1e-6
    """Added to the variance of the inducing values, so that their covariance can be factorised."""
    scale_targets: bool = False
    """Divide each target by its standard deviation, so that one kernel and one noise fit all outputs. The paper does
    not."""
    min_std: PositiveFloat = 1e-12
    """A target whose standard deviation is below this counts as constant: its standard deviation is taken as 1."""

    @property
    def members(self) -> int:
        """One: a Gaussian process is not an ensemble."""
        return 1

    @property
    def serving(self) -> int:
        """Number of members that predict."""
        return self.members

    @property
    def name(self) -> str:
        """The paper's name of this type of model."""
        return "GP"

    def init(self, key: Key[Array, ""], in_size: int, out_size: int, flags: int) -> GPState:
        """The prior; nothing is random.

        Args:
            key: not used; every model's `init` takes one.
            in_size: number of inputs.
            out_size: number of real outputs.
            flags: number of yes/no outputs, of which a Gaussian process can have none.

        Raises:
            UserError: if there are yes/no outputs.
        """
        if flags:
            raise UserError("a Gaussian process cannot learn yes/no outputs such as ends of episodes; use an ensemble")
        return GPState(
            jnp.float32(self.variance),
            jnp.full(in_size, self.lengthscale, jnp.float32),
            jnp.float32(self.noise),
            jnp.zeros((self.inducing, in_size)),
            jnp.zeros((self.inducing, out_size)),
            jnp.zeros((self.inducing, self.inducing)),
            jnp.ones(out_size),
        )

    def scale(self, y: Float[Array, "rows out"], valid: Bool[Array, "rows"]) -> Float[Array, "out"]:
        """What the targets are to be divided by, in their own units; only `valid` rows count."""
        if not self.scale_targets:
            return jnp.ones(y.shape[-1])
        return fit_normalizer(y, valid, min_std=self.min_std).std

    def ready(self, state: GPState) -> GPState:
        """What prediction needs."""
        return state

    def predictor(self, state: GPState) -> Predictor:
        """From inputs to mean and variance of the latent function, that is, without the observation noise.

        Args:
            state: a prior or a trained process.

        Returns:
            A function of inputs in the units of the data, of one member, that predicts in those of the targets.
        """
        inducing = state.inducing / state.lengthscales

        def predict(x: Float[Array, "1 rows in"]) -> Prediction:
            # Differences, not inner products, whose rounding the weights of a smooth process would magnify.
            apart = jnp.square(x[0, :, None] / state.lengthscales - inducing).sum(-1)
            k = state.variance * jnp.exp(-0.5 * apart)
            mean = state.scale * (k @ state.weights)
            variance = state.variance - jnp.square(k @ state.reduction).sum(-1, keepdims=True)
            variance = jnp.maximum(variance, _LEAST_VARIANCE) * jnp.square(state.scale)
            return Prediction(mean[None], variance[None], jnp.zeros((*x.shape[:2], 0)))

        return predict


class GPFit(Settings):
    """How a Gaussian process is trained at each call: L-BFGS on the variational bound, in float64.

    The hyper-parameters go on from where they are; the inducing inputs start anew, at randomly chosen rows. The
    defaults are the paper's, but for `max_rows`.
    """

    kind: str = "lbfgs"
    iterations: PositiveInt = 1000
    """Maximum number of iterations of L-BFGS."""
    tolerance: NonNegativeFloat = 2.2e-9
    """Stop when an iteration improves the bound by less than this share of its size (SciPy's rule and value)."""
    max_rows: PositiveInt | None = 1000
    """Maximum number of training rows, drawn again at each call; time and memory grow with it. Null: all rows, as in
    the paper."""
    log_rows: PositiveInt = 5000
    """Maximum number of rows from which the logged error is computed."""

    def start(self, state: GPState) -> tuple[()]:
        """What training carries from call to call beside the state: nothing."""
        return ()

    def fit(
        self, key: Key[Array, ""], model: GP, state: GPState, carried: tuple[()], rows: Rows, size: Int[Array, ""]
    ) -> Fitted:
        """Train on (at most `max_rows` of) the first `size` rows.

        Args:
            key: chooses the rows and, among them, the inducing inputs.
            model: settings of the process.
            state: where the hyper-parameters start.
            carried: nothing; see `start`.
            rows: data of fixed capacity.
            size: how many of the rows are valid, at least 1.

        Returns:
            The trained state, or the old one with the metric `skipped_fits` at 1 if the bound or the posterior is not
            finite. The metric `train_loss` is the bound's negative per row and output, in nats.
        """
        data, scale = self._draw(key, model, rows, size)
        start = sgpr.Parameters(state.variance, state.lengthscales, state.noise, data.x[: model.inducing])
        found = sgpr.fit(data, start, jitter=model.jitter, iterations=self.iterations, tolerance=self.tolerance)
        ok = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(found)]).all()
        new = GPState(*found.parameters, found.weights, found.reduction, scale)
        state = jax.tree.map(partial(jnp.where, ok), new, state)
        metrics = {
            "gradient_steps": found.steps,
            "skipped_fits": 1 - ok.astype(jnp.int32),
            "train_loss": -found.bound / (data.present.sum() * rows.y.shape[-1]),
            "train_mse": self._error(model.predictor(model.ready(state)), rows, size),
        }
        return Fitted(state, carried, metrics)

    def _draw(
        self, key: Key[Array, ""], model: GP, rows: Rows, size: Int[Array, ""]
    ) -> tuple[sgpr.Data, Float[Array, "out"]]:
        """The rows to train on, in random order and padded to at least the inducing inputs; the targets' scale."""
        scale = model.scale(rows.y, jnp.arange(len(rows.x)) < size)
        most = min(self.max_rows or len(rows.x), len(rows.x))
        place = jnp.arange(max(most, model.inducing))
        chosen = shuffle(key, place % size, size)  # a random order of all rows, of which those present are taken
        present = place < jnp.minimum(size, most)
        x = jnp.where(present[:, None], rows.x[chosen], 0.0)
        return sgpr.Data(x, rows.y[chosen] / scale, present), scale

    def _error(self, predictor: Predictor, rows: Rows, size: Int[Array, ""]) -> Float[Array, ""]:
        """Squared error on rows that are evenly spaced among the first `size`."""
        count = jnp.minimum(size, self.log_rows)

        def error(place: Int[Array, "chunk"], weight: Float[Array, "chunk"]) -> Float[Array, ""]:
            logged = (place * (size / count)).astype(jnp.int32)
            return mean_square_error(predictor, 1, jax.tree.map(lambda a: a[logged], rows), weight)

        return mean_over(error, count)
