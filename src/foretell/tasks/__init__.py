"""What a model and a planner may know of an environment; one file per environment family, each registers its tasks."""

from foretell.tasks import cartpole, cheetah_torso, halfcheetah, nagabandi, pusher, reacher  # noqa: F401
from foretell.tasks.base import Follows, Task, TaskSpec
from foretell.tasks.choice import TaskSettings, make_task

__all__ = ["Follows", "Task", "TaskSettings", "TaskSpec", "make_task"]
