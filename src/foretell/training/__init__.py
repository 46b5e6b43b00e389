"""The shell around the pure core: configuration, run directory, checkpoints, the loop, evaluation, progress."""
