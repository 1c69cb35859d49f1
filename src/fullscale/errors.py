"""Every error that fullscale raises on purpose. Each carries the exit code of the command that meets it.

The text of an error is one line: what is wrong (the value, the case or file), what was expected, what to do.
"""


class FullscaleError(Exception):
    """Root of the errors raised on purpose: the work could not be done."""

    exit_code = 1


class UsageError(FullscaleError):
    """The request itself is wrong: an unknown name, a setting that contradicts another."""

    exit_code = 2


class DataError(FullscaleError):
    """A file or case cannot be used: missing, unreadable, empty, or holding what it must not."""

    exit_code = 3


class GeometryError(DataError):
    """Voxels and millimetres do not fit together: shapes, affines, spacings, slice positions."""


class OutputError(FullscaleError):
    """What is made cannot be written: the disk is full or read-only, or its folder is another user's."""


class PartialFailure(FullscaleError):
    """Some cases failed and the rest are done."""

    exit_code = 4
