"""Fixed-capacity storage of transitions, and reproducible shuffles of it."""

from foretell.replay.buffer import Replay, Transitions, add, init_replay, newest, sample, single_steps
from foretell.replay.shuffle import bootstrap, shuffle

__all__ = ["Replay", "Transitions", "add", "bootstrap", "init_replay", "newest", "sample", "shuffle", "single_steps"]
