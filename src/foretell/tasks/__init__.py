"""What a world model and a planner may know of environments; one file per family, which registers its tasks."""

from foretell.tasks import cartpole, cheetah_torso, halfcheetah, nagabandi, observable, pusher, reacher  # noqa: F401
from foretell.tasks.base import Follows, Task, TaskSpec
from foretell.tasks.choice import TaskSettings, make_task

__all__ = ["Follows", "Task", "TaskSettings", "TaskSpec", "make_task"]
