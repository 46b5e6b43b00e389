"""Values: targets for critics, expanded in imagination."""

from foretell.values.expansion import Expansion, Frames, Targets, candidates, imagine, pairs

__all__ = ["Expansion", "Frames", "Targets", "candidates", "imagine", "pairs"]
