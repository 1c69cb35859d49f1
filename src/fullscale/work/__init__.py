"""The same work on many cases, in this process or in several."""
