"""Compiled graphs on disk: made once for each size of image, found again by the next process."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from fullscale.errors import OutputError
from fullscale.files import atomic_path

MOST_BYTES = 1 << 28
"""Of all compiled graphs of a model together: a coarse pass may ask for many sizes."""

_DIGEST = 32


class Blobs:
    """Blobs of bytes by name, each of which is whole or not there; what cannot be kept is not.

    Args:
        folder: of the blobs; it need not be there yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, name: str) -> bytes | None:
        """Return what was kept; None where nothing was, or its bytes have changed."""
        try:
            content = (self.folder / name).read_bytes()
        except OSError:
            return None
        digest, blob = content[:_DIGEST], content[_DIGEST:]
        return blob if hashlib.sha256(blob).digest() == digest else None

    def put(self, name: str, blob: bytes) -> None:
        """Keep a blob, while there is room for it."""
        with suppress(OSError, OutputError):
            there = sum(file.stat().st_size for file in self.folder.glob("*")) if self.folder.is_dir() else 0
            if there + len(blob) > MOST_BYTES:
                return
            with atomic_path(self.folder / name) as temporary:
                temporary.write_bytes(hashlib.sha256(blob).digest() + blob)
