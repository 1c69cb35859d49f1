"""A bundle as one file for other runtimes."""
