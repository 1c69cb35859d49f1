"""Settings that are found by trials: what is searched, the trials, and what came out."""
