"""Values: targets for critics, expanded in imagination."""

from foretell.values.expansion import Expansion, Frames, Targets, candidates, imagine

__all__ = ["Expansion", "Frames", "Targets", "candidates", "imagine"]
