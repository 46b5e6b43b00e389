"""mbrl-lib's side of the race, constructed without Hydra; run by `benchmarks/race.py`."""

from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import torch
from mbrl.models import GaussianMLP, ModelEnv, ModelTrainer, OneDTransitionRewardModel
from mbrl.planning import CEMOptimizer
from mbrl.types import TransitionBatch
from mbrl.util.replay_buffer import BootstrapIterator
from turns import repeated, serve, start

SILU = {"_target_": "torch.nn.SiLU"}


def ensemble(members, hidden, obs, actions, propagation=None):
    """The probabilistic ensemble; its hidden layers all have the width of the first."""
    sizes = {"num_layers": len(hidden), "hid_size": hidden[0], "ensemble_size": members}
    net = GaussianMLP(obs + actions, obs, "cpu", activation_fn_cfg=SILU, propagation_method=propagation, **sizes)
    return OneDTransitionRewardModel(net, normalize=True, learned_rewards=False)


def reward(actions, observations):
    return (torch.cos(observations[:, :1]) - 0.01 * actions.square().sum(1, keepdim=True)).view(-1, 1)


def never(actions, observations):
    return torch.zeros(len(observations), 1, dtype=torch.bool)


def plan(members, hidden, obs, actions, population, horizon, particles, iterations, elites, **_):
    """Seconds of one control step: the cross-entropy method on the sampled trajectories of the ensemble."""
    model = ensemble(members, hidden, obs, actions, "fixed_model")
    space, box = gym.spaces.Box(-1.0, 1.0, (actions,)), gym.spaces.Box(-np.inf, np.inf, (obs,))
    env = ModelEnv(SimpleNamespace(observation_space=box, action_space=space), model, never, reward)
    low, high = [[-1.0] * actions] * horizon, [[1.0] * actions] * horizon
    search = CEMOptimizer(iterations, elites / population, population, low, high, 0.1, "cpu", True)
    start, seen = torch.zeros(horizon, actions), np.zeros(obs, np.float32)
    return repeated(lambda: search.optimize(lambda a: env.evaluate_action_sequences(a, seen, particles), start))


def fit(members, hidden, obs, actions, rows, epochs, batch_size, **_):
    """Seconds of training on `rows` rows, each member on its own bootstrap sample."""
    generator = np.random.default_rng(0)
    before, after = generator.normal(size=(2, rows, obs)).astype(np.float32)
    action, zeros = generator.normal(size=(rows, actions)).astype(np.float32), np.zeros(rows, np.float32)
    data = TransitionBatch(before, action, after, zeros, zeros > 0, zeros > 0)
    model = ensemble(members, hidden, obs, actions)
    model.update_normalizer(data)
    trainer = ModelTrainer(model, optim_lr=1e-3, weight_decay=1e-4)

    def train():
        batches = BootstrapIterator(data, batch_size, members, shuffle_each_epoch=True)
        trainer.train(batches, num_epochs=epochs, evaluate=False, silent=True)

    return repeated(train)


if __name__ == "__main__":
    serve({"plan": plan, "fit": fit, "start": start})
