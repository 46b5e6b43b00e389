"""Studies: many runs, their progress, and what they come to."""
