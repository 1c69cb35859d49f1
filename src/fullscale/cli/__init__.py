"""The fullscale command: one short function a verb, which parses, calls one library function and prints."""

from fullscale.cli.stop import stopped_by_signals

__all__ = ["main"]


def main() -> None:
    """Be the process of a command: an error, or a signal that stops it, becomes one line and an exit code."""
    try:
        with stopped_by_signals() as stop:
            from fullscale.cli.threads import limit_threads  # here: a signal may come while these load

            limit_threads()
            from fullscale.cli.app import run

            run(stop)
    except SystemExit as end:
        from fullscale.cli.leave import leave

        if isinstance(end.code, int):
            leave(end.code)
        raise
