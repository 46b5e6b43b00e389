"""Studies: many runs, their progress and their results."""
