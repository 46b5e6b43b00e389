"""Weights & Biases, for those who have it."""

from importlib import import_module
from typing import Any

import yaml

from foretell.callbacks import names
from foretell.errors import UserError, brief
from foretell.runs.directory import RunDirectory, writing
from foretell.training.events import Callback, EpisodeEnded, Learned, TrainingEnded, TrainingStarted


class WandB(Callback):
    """Logs settings, metrics, returns and the learning curve to W&B, over environment steps.

    The names are those of TensorBoard. Runs of one preset on one environment are a group.

    A resumed run continues its W&B run, whose id is in `wandb/id.txt`. What happens again since the checkpoint is
    logged again, with the same values at the same steps.
    """

    def __init__(self, project: str | None = None, **init_arguments: Any) -> None:
        """Import wandb.

        Args:
            project: the W&B project; by default that of the environment variable `WANDB_PROJECT`.
            init_arguments: further arguments of `wandb.init`, such as `entity`, `tags` or `mode`.

        Raises:
            UserError: if wandb is not installed.
        """
        self._wandb = _import_wandb()
        self._arguments = {"project": project, **init_arguments}
        self._run: Any = None

    def on_training_start(self, event: TrainingStarted) -> None:
        """Start or continue the W&B run. Raises `UserError` if W&B refuses."""
        run, directory = event.run, event.run.directory
        own = {"name": f"{run.preset}, seed {run.seed}", "dir": str(directory.path), "id": _read_id(directory)}
        own |= {"group": f"{run.preset} on {run.task.spec.env_id}", "job_type": "train"}
        own["config"] = yaml.safe_load(directory.config.read_text())
        try:
            self._run = self._wandb.init(**{**own, "resume": "allow", **self._arguments})
        except self._wandb.Error as error:
            raise UserError(
                f"W&B does not start ({brief(error)}); run `wandb login`, or set WANDB_MODE=offline"
            ) from error
        _write_id(directory, self._run.id)
        self._run.define_metric("*", step_metric="env_steps")

    def on_learn_end(self, event: Learned) -> None:
        self._run.log({"env_steps": event.row["env_steps"], **names.of_metrics(event.row)})

    def on_episode_end(self, event: EpisodeEnded) -> None:
        self._run.log({"env_steps": event.row["env_steps"], **names.of_episode(event.row)})

    def on_training_end(self, event: TrainingEnded) -> None:
        if self._run is None:
            return
        if event.run.directory.curve.is_file():
            figure = self._wandb.Image(str(event.run.directory.curve))
            self._run.log({"env_steps": event.counters.env_steps, names.CURVE: figure})
        self._run.finish()


def _import_wandb() -> Any:
    try:
        return import_module("wandb")
    except ImportError:
        raise UserError("W&B is not installed; run pip install 'foretell[wandb]'") from None


def _read_id(directory: RunDirectory) -> str | None:
    """The id of the W&B run; None before there is one."""
    path = directory.wandb / "id.txt"
    return path.read_text().strip() if path.is_file() else None


def _write_id(directory: RunDirectory, name: str) -> None:
    with writing(directory.wandb):
        directory.wandb.mkdir(exist_ok=True)
        (directory.wandb / "id.txt").write_text(f"{name}\n")
