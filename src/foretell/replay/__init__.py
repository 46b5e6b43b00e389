"""Fixed-capacity storage of transitions, and reproducible shuffles of it."""

from foretell.replay.buffer import Replay, Transitions, add, init_replay, newest, sample
from foretell.replay.shuffle import bootstrap, shuffle
from foretell.replay.trajectories import Trajectories

__all__ = ["Replay", "Trajectories", "Transitions", "add", "bootstrap", "init_replay", "newest", "sample", "shuffle"]
