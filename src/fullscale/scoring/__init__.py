"""Masks of many cases scored, summarised and compared."""
