"""Fixed-capacity storage of transitions, and reproducible shuffles of it."""

from foretell.replay.buffer import Replay, Transitions, add, init_replay, newest, newest_rows, sample
from foretell.replay.holdout import held_out, held_out_first, training_slots
from foretell.replay.shuffle import bootstrap, shuffle
from foretell.replay.trajectories import Trajectories

__all__ = [
    "Replay",
    "Trajectories",
    "Transitions",
    "add",
    "bootstrap",
    "held_out",
    "held_out_first",
    "init_replay",
    "newest",
    "newest_rows",
    "sample",
    "shuffle",
    "training_slots",
]
