"""The robots of MVE, whose observations hold their whole state; one file per family, which registers its tasks."""

from foretell.tasks.observable import acrobot, ant, humanoid, planar, pusher  # noqa: F401
