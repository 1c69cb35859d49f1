"""Libraries that only some users need: `pip install 'fullscale[NAME]'` brings them; where one lacks, a line says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fullscale.errors import UsageError


@contextmanager
def needs(extra: str, what: str) -> Iterator[None]:
    """Wrap the import of a library of an extra.

    Args:
        extra: its name in pyproject.toml.
        what: is asked for, in the plural: "NRRD and MetaImage files".

    Raises:
        UsageError: the library is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(f"{what} need {error.name}: pip install 'fullscale[{extra}]'") from error
