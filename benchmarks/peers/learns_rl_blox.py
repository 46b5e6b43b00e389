"""One training run of rl-blox's PETS on the pendulum; arguments and rows as in `learns_model_free.py`.

Rows are trials. The sizes are those of mbrl-lib's notebook: 5 members of 3 x 200 units, 350 candidates of 15 steps with
20 particles, and 5 rounds of the search. The reward is the environment's, which observation and action tell.
"""

import sys

import jax.numpy as jnp
import optax
from flax import nnx
from rl_blox.algorithm.pets import train_pets
from rl_blox.blox.probabilistic_ensemble import EnsembleTrainState, GaussianMLPEnsemble
from trials import TRIAL, Trials


def reward(action, obs):
    """Of the pendulum: observations are cosine, sine and velocity of the angle."""
    angle = jnp.arctan2(obs[..., 1], obs[..., 0])
    return -(jnp.square(angle) + 0.1 * jnp.square(obs[..., 2]) + 0.001 * jnp.square(action).sum(-1))


def main(agent, env, seed, steps, every, episodes, out):
    """Train, and write the rows."""
    del agent, every, episodes
    model = GaussianMLPEnsemble(5, False, 4, 3, [200] * 3, "swish", nnx.Rngs(int(seed)))
    optimizer = nnx.Optimizer(model, optax.adamw(1e-3, weight_decay=1e-4), wrt=nnx.Param)
    with open(out, "w", newline="") as file:
        train_pets(
            Trials(env, file), reward, EnsembleTrainState(model, optimizer, 1.0, 32),
            plan_horizon=15, n_particles=20, n_samples=350, seed=int(seed), total_timesteps=int(steps),
            learning_starts=TRIAL, learning_starts_gradient_steps=50, n_steps_per_iteration=TRIAL, gradient_steps=50,
            progress_bar=False,
        )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
