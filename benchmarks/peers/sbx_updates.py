"""SBX's side of `benchmarks/updates.py`, which runs it with the Python of an environment that has `sbx-rl`.

Prints JSON: seconds of an update and of an environment step, learning included. Networks and batch are SBX's defaults,
2 x 256 units and 256 rows. Replay and sampling are SBX's own; whatever compiles happens before the clock starts.
"""

import argparse
import json
import time

import gymnasium
import numpy as np
from sbx import DDPG, SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

ALGORITHMS = {"ddpg": DDPG, "td3": TD3, "sac": SAC}
CAPACITY = 5000


class Clock(BaseCallback):
    """The time of every step."""

    def __init__(self):
        super().__init__()
        self.times = []

    def _on_step(self):
        self.times.append(time.perf_counter())
        return True


def make(algorithm: str, env: gymnasium.Env, per_call: int, **settings):
    kwargs = {"train_freq": per_call, "gradient_steps": per_call, "batch_size": 256, "buffer_size": CAPACITY}
    return ALGORITHMS[algorithm]("MlpPolicy", env, seed=0, **{**kwargs, **settings})


def update_seconds(algorithm: str, env: gymnasium.Env, per_call: int, calls: int, repeats: int) -> float:
    """Seconds of one update, `per_call` of them in each call of `train`, on random data."""
    model = make(algorithm, env, per_call)
    model.set_logger(Logger(folder=None, output_formats=[]))
    generator, replay = np.random.default_rng(0), model.replay_buffer
    for rows in (replay.observations, replay.next_observations, replay.rewards):
        rows[:] = generator.normal(size=rows.shape)
    replay.actions[:] = generator.uniform(-1.0, 1.0, replay.actions.shape)
    replay.full = True
    times = []
    for _ in range(1 + repeats):  # the first compiles
        start = time.perf_counter()
        for _ in range(calls):
            model.train(per_call, batch_size=256)
        times.append((time.perf_counter() - start) / (calls * per_call))
    return min(times[1:])


def step_seconds(algorithm: str, env: gymnasium.Env, per_call: int, warm: int, block: int, blocks: int) -> float:
    """Seconds of one environment step of `learn`, as many updates as steps, in the best of some blocks of steps."""
    model, clock = make(algorithm, env, per_call, learning_starts=100), Clock()
    model.learn(warm + block * blocks + 1, callback=clock)
    return float(min(np.diff(clock.times[warm::block]))) / block


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithm", choices=ALGORITHMS, default="td3")
    parser.add_argument("--per-call", type=int, default=1, help="updates in each call of `train`")
    parser.add_argument("--calls", type=int, default=200, help="calls of `train` that are timed together")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--env", default="HalfCheetah-v5")
    parser.add_argument("--warm", type=int, default=500, help="steps before the clock starts")
    parser.add_argument("--block", type=int, default=1000, help="steps that are timed together")
    parser.add_argument("--blocks", type=int, default=3)
    args = parser.parse_args()
    env = gymnasium.make(args.env)
    update = update_seconds(args.algorithm, env, args.per_call, args.calls, args.repeats)
    step = step_seconds(args.algorithm, env, args.per_call, args.warm, args.block, args.blocks)
    print(json.dumps({"update": update, "step": step}))


if __name__ == "__main__":
    main()
