"""TorchRL's side of the race: its `CEMPlanner` on an ensemble whose particles are a batch of each layer's multiply.

TorchRL has no ensemble and no particles of its own. Both are written here as a user of it would, as one module.
"""

from itertools import pairwise

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torchrl.data import Bounded, Composite, Unbounded
from torchrl.envs.model_based import ModelBasedEnvBase
from torchrl.modules import CEMPlanner, WorldModelWrapper
from turns import repeated, serve, start


class Ensemble(torch.nn.Module):
    """Samples the next observation of every particle; members share the particles equally."""

    def __init__(self, members, sizes):
        super().__init__()
        pairs = list(pairwise(sizes))
        self.weights = torch.nn.ParameterList(torch.randn(members, a, b) / (2 * a**0.5) for a, b in pairs)
        self.biases = torch.nn.ParameterList(torch.zeros(members, 1, b) for _, b in pairs)
        self.members = members

    def forward(self, state, action):
        """`state [candidates, particles, obs]`, `action [candidates, actions]`."""
        shape = (*state.shape[:-1], action.shape[-1])
        x = torch.cat([state, action.unsqueeze(-2).expand(shape)], -1)
        candidates, particles, width = x.shape
        x = x.view(candidates, self.members, -1, width).transpose(0, 1).reshape(self.members, -1, width)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x if i == 0 else torch.nn.functional.silu(x), weight)
        x = x.view(self.members, candidates, particles // self.members, -1).transpose(0, 1)
        mean, logvar = x.reshape(candidates, particles, -1).chunk(2, -1)
        logvar = 0.5 - torch.nn.functional.softplus(0.5 - logvar)
        logvar = -10.0 + torch.nn.functional.softplus(logvar + 10.0)
        return state + mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)


class Reward(torch.nn.Module):
    """The mean reward of the particles."""

    def forward(self, state, action):
        costs = 0.01 * action.square().sum(-1, keepdim=True)
        return torch.cos(state[..., 0]).mean(-1, keepdim=True) - costs


class Imagined(ModelBasedEnvBase):
    """The world model as an environment of TorchRL."""

    def __init__(self, world_model, particles, obs, actions):
        super().__init__(world_model, device="cpu", batch_size=[])
        self.state_spec = Composite(state=Unbounded((particles, obs)))
        self.observation_spec = Composite(state=Unbounded((particles, obs)))
        self.action_spec = Bounded(-1.0, 1.0, (actions,))
        self.reward_spec = Unbounded((1,))

    def _reset(self, tensordict):
        return TensorDict({"state": torch.zeros(self.observation_spec["state"].shape)}, [])


def plan(members, hidden, obs, actions, population, horizon, particles, iterations, elites, **_):
    """Seconds of one control step."""
    step = TensorDictModule(Ensemble(members, (obs + actions, *hidden, 2 * obs)), ["state", "action"], ["state"])
    world = WorldModelWrapper(step, TensorDictModule(Reward(), ["state", "action"], ["reward"]))
    env = Imagined(world, particles, obs, actions)
    planner = CEMPlanner(env, horizon, iterations, population, elites)
    start = env.reset()

    def search():
        with torch.no_grad():
            planner(start.clone())

    return repeated(search)


if __name__ == "__main__":
    serve({"plan": plan, "start": start})
