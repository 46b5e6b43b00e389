"""What actions are worth: targets for critics."""

from foretell.values.expansion import Expansion, Rollout, Targets, candidates, rollout

__all__ = ["Expansion", "Rollout", "Targets", "candidates", "rollout"]
