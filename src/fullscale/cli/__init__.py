"""The fullscale command."""
