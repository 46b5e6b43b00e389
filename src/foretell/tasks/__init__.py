"""What a model and a planner may know of an environment; one file per environment family."""

from foretell.tasks.base import Follows, Task, TaskSpec
from foretell.tasks.registry import TASKS, TaskSettings, make_task

__all__ = ["TASKS", "Follows", "Task", "TaskSettings", "TaskSpec", "make_task"]
