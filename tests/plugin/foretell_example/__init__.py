"""A plug-in of Foretell: a planner, an agent and a task, which register themselves when they are imported."""

from foretell_example import gradient, point_mass, random_search, ridge  # noqa: F401
