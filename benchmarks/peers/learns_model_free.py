"""One training run of SBX: `learns_model_free.py AGENT ENV SEED STEPS EVERY EPISODES OUT`, see `learning.py`.

All settings are the library's own. Rows of the file OUT: environment steps, mean return of a round of episodes without
exploration, and seconds since everything was imported.
"""

import csv
import sys
import time

import gymnasium
import sbx
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

BEGUN = time.perf_counter()
TRIAL = 200
"""Steps of an episode of our swing-up."""


def make(env):
    """The environment with flat observations. Our own come with the project, and without a time limit."""
    limits = {}
    if env.startswith("foretell/"):
        import foretell.tasks  # noqa: F401

        limits["max_episode_steps"] = TRIAL
    made = gymnasium.make(env, **limits)
    if isinstance(made.observation_space, gymnasium.spaces.Dict):
        made = gymnasium.wrappers.FlattenObservation(made)
    return Monitor(made)


class Rounds(BaseCallback):
    """Writes a row every so many steps."""

    def __init__(self, env, every, episodes, writer):
        super().__init__()
        self.env, self.every, self.episodes, self.writer = env, every, episodes, writer

    def _on_step(self):
        if self.num_timesteps % self.every == 0:
            value, _ = evaluate_policy(self.model, self.env, self.episodes, deterministic=True)
            self.writer.writerow((self.num_timesteps, value, time.perf_counter() - BEGUN))
        return True


def main(agent, env, seed, steps, every, episodes, out):
    """Train, and write the rows."""
    kind = getattr(sbx, agent.split("-")[1].upper())
    model, judged = kind("MlpPolicy", make(env), seed=int(seed)), make(env)
    judged.reset(seed=1000 + int(seed))
    with open(out, "w", newline="") as file:
        model.learn(int(steps), callback=Rounds(judged, int(every), int(episodes), csv.writer(file)))


if __name__ == "__main__":
    main(*sys.argv[1:])
