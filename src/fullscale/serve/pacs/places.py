"""Folders of what comes from the PACS and goes there, in the folder of the service."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from fullscale.data.identity import digest_of
from fullscale.errors import OutputError

NAME_LETTERS = 32


@dataclass(frozen=True)
class Places:
    """Folders below one; no name in them comes from outside.

    Attributes:
        root: of all, which other users cannot read.
    """

    root: Path

    @property
    def incoming(self) -> Path:
        """What an association is sending."""
        return self.root / "incoming"

    @property
    def fetching(self) -> Path:
        """What is being fetched."""
        return self.root / "fetching"

    @property
    def arrived(self) -> Path:
        """A folder for each association or fetch that ended well."""
        return self.root / "arrived"

    @property
    def all_series(self) -> Path:
        """A folder for each series."""
        return self.root / "series"

    @property
    def results(self) -> Path:
        """The segmentations."""
        return self.root / "results"

    def series(self, id: str) -> Path:
        """Return the folder of a series."""
        return self.all_series / id

    def held(self, id: str) -> Path:
        """Return the folder of files that are held back."""
        return self.root / "held" / id

    def result(self, id: str) -> Path:
        """Return the file of a segmentation."""
        return self.results / f"{id}.dcm"

    def make(self) -> None:
        """Make the folders; what was under way when the service ended is gone.

        Raises:
            OutputError: they cannot be made.
        """
        try:
            for folder in (self.incoming, self.fetching):
                shutil.rmtree(folder, ignore_errors=True)
            for folder in (self.root, self.incoming, self.fetching, self.arrived, self.all_series, self.results):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise OutputError(f"cannot write {self.root}: {error.strerror or error}") from error

    @contextmanager
    def arriving(self) -> Iterator[Path]:
        """Give an empty folder that has arrived, as a whole, when the block ends well."""
        folder = self.fetching / uuid4().hex
        folder.mkdir(parents=True, mode=0o700)
        try:
            yield folder
            folder.rename(self.arrived / folder.name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def name_of(*parts: str) -> str:
    """Return a name for what these texts stand for: letters and digits alone."""
    return digest_of(*parts)[:NAME_LETTERS]
