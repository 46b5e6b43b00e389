"""A plug-in of Foretell: a planner, a world model, an agent and a task, which are registered when they are imported."""

from foretell_example import gradient, point_mass, random_search, ridge  # noqa: F401
