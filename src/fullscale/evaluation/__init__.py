"""Scores per case: overlap, surface distances, and the summary of a set of predictions."""
