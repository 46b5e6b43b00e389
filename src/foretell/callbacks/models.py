"""`models/`: what the agent had learned at each trial."""

import zlib
from io import BytesIO
from pathlib import Path

import equinox as eqx

from foretell.agents.base import State
from foretell.errors import UserError, brief
from foretell.runs.directory import replacing, writing
from foretell.training.events import Callback, EpisodeEnded, TrainingStarted


class Models(Callback):
    """Saves the agent that acted in each trial, as `models/trial_0001.eqx` and so on."""

    def on_training_start(self, event: TrainingStarted) -> None:
        """Remove those of trials after the checkpoint from which the run continues."""
        for path in event.run.directory.models.glob("trial_*.eqx"):
            if int(path.stem.split("_")[1]) > event.counters.trials:
                with writing(path):
                    path.unlink()

    def on_episode_end(self, event: EpisodeEnded) -> None:
        if event.row["kind"] == "train":
            save_state(model_path(event.run.directory.models, event.counters.trials), event.state)


def model_path(folder: Path, trial: int) -> Path:
    """The file of a trial's agent."""
    return folder / f"trial_{trial:04d}.eqx"


def load_model(path: Path, like: State) -> State:
    """The agent saved at `path`, in the structure of `like`.

    Raises:
        UserError: if there is none, or if it cannot be read.
    """
    if not path.exists():
        there = sorted(file.stem for file in path.parent.glob("trial_*.eqx"))
        hint = f"there are {there[0]} to {there[-1]}" if there else "none were saved (train.save_all_models)"
        raise UserError(f"no model '{path}'; {hint}")
    return load_state(path, like)


def save_state(path: Path, state: State) -> None:
    """Write what an agent has learned and a checksum, aside first: it is never half written. Raises `UserError`."""
    leaves = BytesIO()
    eqx.tree_serialise_leaves(leaves, state)
    with writing(path):
        path.parent.mkdir(exist_ok=True)
        with replacing(path) as aside:
            aside.write_bytes(leaves.getvalue() + _checksum(leaves.getvalue()))


def load_state(path: Path, like: State) -> State:
    """What an agent had learned, in the structure of `like`. Raises `UserError` if it cannot be read."""
    try:
        stored = path.read_bytes()
        leaves, checksum = stored[:-4], stored[-4:]
        if checksum != _checksum(leaves):
            raise ValueError("its checksum does not match")
        return eqx.tree_deserialise_leaves(BytesIO(leaves), like)
    except (OSError, ValueError, RuntimeError, EOFError) as error:
        raise UserError(f"cannot read the model '{path}' ({brief(error)})") from error


def _checksum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(4, "big")
