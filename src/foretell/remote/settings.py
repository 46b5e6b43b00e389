"""How a run is spread over processes of Ray, and which runs can be. This module does not import Ray."""

from dataclasses import dataclass

from foretell.errors import UserError
from foretell.runs import arguments
from foretell.training.events import RunInfo


@dataclass(frozen=True)
class Ray:
    """Train with processes of Ray: actors, evaluators, a values learner and a model learner."""

    address: str | None = None
    """Address of a cluster, such as `auto`; by default that of this machine, which is started if there is none."""
    actors: int = 1
    """Processes that choose actions and step environments; at most `train.environments`."""
    evaluators: int = 1
    """Processes that play evaluation episodes; at most `train.eval_environments`."""


def check(runtime: object, run: RunInfo) -> None:
    """Raises `UserError` unless a run can be spread like this."""
    if not isinstance(runtime, Ray):
        raise UserError(f"runtime must be foretell.Ray(...) or None, not {runtime!r}")
    if arguments.optional_text("address", runtime.address) == "":
        raise UserError("address must be that of a cluster, such as 127.0.0.1:6379 or auto, not ''")
    schedule = run.schedule
    for name, count, setting in (
        ("actors", runtime.actors, "environments"),
        ("evaluators", runtime.evaluators, "eval_environments"),
    ):
        if arguments.whole_number(name, count, 1) > (most := getattr(schedule, setting)):
            raise UserError(f"{name} must be at most {most}, the number of train.{setting}, not {count}")
    if run.agent.halves() is None:
        raise UserError(
            f"Ray's processes can divide the learning of steve, mve, ddpg, td3 and sac, not that of '{run.preset}'; "
            "to train many runs at a time, see `foretell study --ray`"
        )
    if schedule.workers > 1:
        raise UserError(f"train.workers must be 1 on Ray, not {schedule.workers}: there, actors step the environments")
