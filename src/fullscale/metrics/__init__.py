"""Scores of one mask against the truth; no torch."""
