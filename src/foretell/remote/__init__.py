"""One run in several processes of Ray, on one machine or on many."""
