"""The side of SBX or Stable-Baselines3 in the race: updates and environment steps of DDPG, TD3 and SAC.

Networks and batch have SBX's defaults, 2 x 256 units and 256 rows, where a row of the race does not say otherwise.
Replay and sampling are the library's own. The setting `library` is `sbx` or `stable_baselines3`.
"""

import importlib
import subprocess
import sys
import time

import gymnasium
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from turns import latencies, repeated, serve, start

CAPACITY = 5000


def make(library, algorithm, env, per_call, updates=1, hidden=(256, 256), batch_size=256, **settings):
    """The algorithm with so many updates for each environment step."""
    kind = getattr(importlib.import_module(library), algorithm.upper())
    kwargs = {"train_freq": per_call, "gradient_steps": updates * per_call, "batch_size": batch_size}
    kwargs |= {"buffer_size": CAPACITY, "policy_kwargs": {"net_arch": list(hidden)}}
    if library == "stable_baselines3":
        kwargs["device"] = "cpu"
    return kind("MlpPolicy", env, seed=0, **{**kwargs, **settings})


def update(library, algorithm, env, per_call, **_):
    """Seconds of one update, `per_call` of them in each call of `train`, on random data."""
    model = make(library, algorithm, gymnasium.make(env), per_call)
    model.set_logger(Logger(folder=None, output_formats=[]))
    generator, replay = np.random.default_rng(0), model.replay_buffer
    for rows in (replay.observations, replay.next_observations, replay.rewards):
        rows[:] = generator.normal(size=rows.shape)
    replay.actions[:] = generator.uniform(-1.0, 1.0, replay.actions.shape)
    replay.full = True
    measure = repeated(lambda: model.train(per_call, batch_size=256))
    return lambda: measure() / per_call


class Until(BaseCallback):
    """Ends `learn` after so many steps of a call."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def _on_step(self):
        self.left -= 1
        return self.left > 0


def step(library, algorithm, env, per_call, block, **sizes):
    """Seconds of one environment step of `learn`, with its updates, in blocks of steps."""
    model = make(library, algorithm, gymnasium.make(env), per_call, learning_starts=100, **sizes)
    model.learn(10**9, callback=Until(300))

    def measure():
        start = time.perf_counter()
        model.learn(10**9, callback=Until(block), reset_num_timesteps=False)
        return (time.perf_counter() - start) / block

    return measure


def act(library, algorithm, env, calls, **_):
    """Latency of `predict`."""
    environment = gymnasium.make(env)
    model, obs = make(library, algorithm, environment, 1), environment.reset(seed=0)[0]
    for _ in range(10):
        model.predict(obs, deterministic=True)
    return lambda: latencies(lambda: model.predict(obs, deterministic=True), calls)


class Reached(BaseCallback):
    """Ends training with the first episode that reaches a return."""

    def __init__(self, threshold):
        super().__init__()
        self.threshold, self.reached = threshold, False

    def _on_step(self):
        ended = [info["episode"]["r"] for info in self.locals["infos"] if "episode" in info]
        self.reached = self.reached or any(found >= self.threshold for found in ended)
        return not self.reached


def run(library, algorithm, env, threshold, steps, **_):
    """Seconds from the start of a process until an episode reaches a return."""
    words = [sys.executable, __file__, "child", library, algorithm, env, str(threshold), str(steps)]

    def measure():
        begun = time.perf_counter()
        subprocess.run(words, check=True, stdout=2)
        return time.perf_counter() - begun

    return measure


def child(library, algorithm, env, threshold, steps):
    """The process that `run` starts."""
    reached = Reached(float(threshold))
    make(library, algorithm, env, 1, buffer_size=100_000).learn(int(steps), callback=reached)
    if not reached.reached:
        sys.exit(f"{algorithm} did not reach {threshold} in {steps} steps")


if __name__ == "__main__":
    if sys.argv[1] == "child":
        child(*sys.argv[2:])
    else:
        serve({"update": update, "step": step, "act": act, "start": start, "run": run})
