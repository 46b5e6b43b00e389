"""The parts of a run in processes of Ray, on one machine or on many."""
