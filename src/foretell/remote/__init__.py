"""The parts of a run in processes of Ray, on one machine or on many."""

from foretell.remote.connection import connected
from foretell.remote.places import RaySettings, on_ray

__all__ = ["RaySettings", "connected", "on_ray"]
