"""A plug-in of Foretell: a planner, an agent and a task, which register themselves when they are imported."""

from foretell_example import gradient, point_mass, policy_search  # noqa: F401
