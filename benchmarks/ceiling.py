"""What random shooting reaches on the homework's half-cheetah with the simulator itself as its model.

`python benchmarks/ceiling.py --candidates 1000 --seeds 1` prints the return of an episode of 1000 steps for every
position that may be planned with; see docs/tasks.md. No learned model can be expected to do better by much.
"""

import argparse

import mujoco
import numpy as np
from jaxtyping import Float
from mujoco import rollout
from rich.console import Console
from rich.table import Table

from foretell.tasks.cheetah_torso import DT, FOLDED, FOLDED_COST, HalfCheetahTorsoEnv

SIGNALS = ("com-lagged", "com", "torso")
STATE = mujoco.mjtState.mjSTATE_FULLPHYSICS
QPOS = slice(1, 10)
"""Where positions stand in MuJoCo's vector of a state, after the time."""
FRONT_LEG = slice(6, 9)
"""Where the angles of the front leg stand in positions."""


class Shooter:
    """Random plans in copies of an environment's simulation."""

    def __init__(self, env: HalfCheetahTorsoEnv, signal: str, candidates: int, horizon: int, seed: int) -> None:
        self.env, self.signal, self.shape = env, signal, (candidates, horizon, env.model.nu)
        self.rng, self.scratch = np.random.default_rng(seed), mujoco.MjData(env.model)
        self.state = np.empty(mujoco.mj_stateSize(env.model, STATE))

    def act(self) -> Float[np.ndarray, "action"]:
        """The first action of the cheapest of new candidates."""
        model, actions = self.env.model, self.rng.uniform(-1, 1, self.shape)
        mujoco.mj_getState(model, self.env.data, self.state, STATE)
        start = np.tile(self.state, (self.shape[0], 1))
        states, _ = rollout.rollout(model, self.scratch, start, actions, nstep=self.shape[1])
        after = states[..., QPOS]
        before = np.concatenate([start[:, None, QPOS], after[:, :-1]], 1)
        fines = FOLDED_COST * (before[..., FRONT_LEG] >= FOLDED).sum((1, 2))
        # Progress adds up to the last position seen, which by two of the signals is that before the last step.
        last = after[:, -1] if self.signal == "com" else before[:, -1]
        return actions[np.argmin(fines - self._seen(last) / DT), 0]

    def _seen(self, positions: Float[np.ndarray, "candidates 9"]) -> Float[np.ndarray, "candidates"]:
        """The x that an observation has."""
        if self.signal == "torso":
            return positions[:, 0]
        return np.array([self._centre(qpos) for qpos in positions])

    def _centre(self, qpos: Float[np.ndarray, "9"]) -> float:
        self.scratch.qpos[:] = qpos
        mujoco.mj_kinematics(self.env.model, self.scratch)
        mujoco.mj_comPos(self.env.model, self.scratch)
        return self.scratch.subtree_com[1, 0]


def play(signal: str, candidates: int, horizon: int, steps: int, seed: int) -> float:
    """The return of an episode."""
    env = HalfCheetahTorsoEnv(progress=signal)
    env.reset(seed=seed)
    shooter = Shooter(env, signal, candidates, horizon, seed)
    return sum(float(env.step(shooter.act().astype(np.float32))[1]) for _ in range(steps))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--horizon", type=int, default=15)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    table = Table("seed", *SIGNALS)
    for seed in range(args.seeds):
        found = [play(signal, args.candidates, args.horizon, args.steps, seed) for signal in SIGNALS]
        table.add_row(str(seed), *(f"{value:.0f}" for value in found))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
