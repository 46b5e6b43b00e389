"""What actions are worth: targets for critics."""

from foretell.values.expansion import Expansion, Frames, Targets, candidates, imagine

__all__ = ["Expansion", "Frames", "Targets", "candidates", "imagine"]
