"""The report of runs: one page that says what happened, and opens without a network."""
