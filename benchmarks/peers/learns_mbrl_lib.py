"""One training run of mbrl-lib's PETS on the pendulum; arguments and rows as in `learns_model_free.py`.

Rows are trials. The settings are those of its notebook, without Hydra: 5 members of 3 x 200 units, 350 candidates of 15
steps with 20 particles, 5 rounds of the search, 50 epochs of training every 200 steps with early stopping.
"""

import sys

import torch
from mbrl.algorithms import pets
from omegaconf import OmegaConf
from trials import TRIAL, Trials

NETWORK = {
    "_target_": "mbrl.models.GaussianMLP", "_recursive_": False, "device": "cpu", "num_layers": 3, "ensemble_size": 5,
    "hid_size": 200, "in_size": 4, "out_size": 3, "deterministic": False, "propagation_method": "fixed_model",
    "learn_logvar_bounds": False, "activation_fn_cfg": {"_target_": "torch.nn.SiLU"},
}  # fmt: skip
SEARCH = {
    "_target_": "mbrl.planning.CEMOptimizer", "num_iterations": 5, "elite_ratio": 0.1, "population_size": 350,
    "alpha": 0.1, "device": "cpu", "return_mean_elites": True, "lower_bound": "???", "upper_bound": "???",
}  # fmt: skip
AGENT = {
    "_target_": "mbrl.planning.TrajectoryOptimizerAgent", "_recursive_": False, "action_lb": "???", "action_ub": "???",
    "verbose": False, "planning_horizon": 15, "optimizer_cfg": SEARCH, "replan_freq": 1,
}  # fmt: skip


def reward(action, next_obs):
    """Of the pendulum, as far as the next observation tells it."""
    angle = torch.atan2(next_obs[:, 1], next_obs[:, 0])
    return -(angle.square() + 0.1 * next_obs[:, 2].square() + 0.001 * action.square().sum(1)).view(-1, 1)


def never(action, next_obs):
    return torch.zeros(len(next_obs), 1, dtype=torch.bool)


def main(agent, env, seed, steps, every, episodes, out):
    """Train, and write the rows."""
    del agent, every, episodes
    settings = OmegaConf.create({
        "seed": int(seed), "device": "cpu", "dynamics_model": NETWORK,
        "algorithm": {
            "name": "pets", "agent": AGENT, "initial_exploration_steps": TRIAL, "freq_train_model": TRIAL,
            "learned_rewards": False, "target_is_delta": True, "normalize": True, "dataset_size": int(steps) + TRIAL,
            "num_particles": 20,
        },
        "overrides": {
            "num_steps": int(steps) - TRIAL, "model_lr": 1e-3, "model_wd": 5e-5, "model_batch_size": 32,
            "validation_ratio": 0.05, "num_epochs_train_model": 50, "patience": 50, "trial_length": TRIAL,
        },
    })  # fmt: skip
    torch.manual_seed(int(seed))
    with open(out, "w", newline="") as file:
        made = Trials(env, file)
        made.reset(seed=int(seed))
        pets.train(made, never, reward, settings, silent=True, work_dir=".")


if __name__ == "__main__":
    main(*sys.argv[1:])
