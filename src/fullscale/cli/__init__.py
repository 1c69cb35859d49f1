"""The fullscale command: one short function a verb, which parses, calls one library function and prints."""

from fullscale.cli.app import main

__all__ = ["main"]
