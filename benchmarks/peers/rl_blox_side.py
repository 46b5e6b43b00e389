"""rl-blox's side of the race: planning with PETS, and training its ensemble; run by `benchmarks/race.py`."""

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from rl_blox.algorithm import pets
from rl_blox.blox.probabilistic_ensemble import GaussianMLPEnsemble, train_ensemble
from turns import repeated, serve, start


def ensemble(members, hidden, obs, actions):
    return GaussianMLPEnsemble(members, False, obs + actions, obs, list(hidden), "swish", nnx.Rngs(0))


def reward(actions, observations):
    return jnp.cos(observations[..., 0]) - 0.01 * jnp.square(actions).sum(-1)


def plan(members, hidden, obs, actions, population, horizon, particles, iterations, elites, **_):
    """Seconds of one control step."""
    space = gym.spaces.Box(-1.0, 1.0, (actions,), np.float32)
    sample, update = pets._init_mpc_optimizer_cem(space, horizon, population, elites)
    config = pets.PETSMPCConfig(
        plan_horizon=horizon, n_particles=particles, n_samples=population, n_opt_iter=iterations,
        init_with_previous_plan=True, reward_model=reward, action_space_shape=(actions,),
        avg_act=jnp.zeros(actions), init_var=jnp.full((horizon, actions), 0.25), sample_fn=sample, update_fn=update,
    )  # fmt: skip
    state = pets.PETSMPCState(ensemble(members, hidden, obs, actions), jnp.zeros((horizon, actions)), jax.random.key(0))
    search = nnx.jit(lambda *arguments: pets._pets_optimize(config, *arguments))
    seen = np.zeros(obs, np.float32)
    return repeated(lambda: jax.block_until_ready(pets.mpc_action(config, state, search, seen)))


def fit(members, hidden, obs, actions, rows, epochs, batch_size, **_):
    """Seconds of training on `rows` rows; each member's sample is as large as the data."""
    model, generator = ensemble(members, hidden, obs, actions), np.random.default_rng(0)
    optimizer = nnx.Optimizer(model, optax.adamw(1e-3, weight_decay=1e-4), wrt=nnx.Param)
    x = jnp.asarray(generator.normal(size=(rows, obs + actions)), jnp.float32)
    y = jnp.asarray(generator.normal(size=(rows, obs)), jnp.float32)
    return repeated(
        lambda: jax.block_until_ready(
            train_ensemble(model, optimizer, 1.0, x, y, epochs, batch_size, jax.random.key(0))
        )
    )


if __name__ == "__main__":
    serve({"plan": plan, "fit": fit, "start": start})
