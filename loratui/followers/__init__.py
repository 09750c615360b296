"""Other programs that are told of a run: one process beside it tails the journal; training knows nothing."""
