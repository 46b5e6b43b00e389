"""The pendulum for peers' planners, which writes a row for each trial; see `learns_rl_blox.py`."""

import csv
import time

import gymnasium as gym

BEGUN = time.perf_counter()
TRIAL = 200
"""Steps of an episode; the first one is random."""


class Trials(gym.Wrapper):
    """Writes environment steps, return, and seconds at the end of every episode after the first."""

    def __init__(self, env, file):
        super().__init__(gym.make(env))
        self.writer, self.steps, self.total = csv.writer(file), 0, 0.0

    def reset(self, **kwargs):
        self.total = 0.0
        return self.env.reset(**kwargs)

    def step(self, action):
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.steps, self.total = self.steps + 1, self.total + float(reward)
        if (terminated or truncated) and self.steps > TRIAL:
            self.writer.writerow((self.steps, self.total, time.perf_counter() - BEGUN))
        return obs, reward, terminated, truncated, info
