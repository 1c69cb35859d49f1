"""Scans and masks as viewers read them: NIfTI on a plain header, whatever format they are kept in.

The header says what this package has understood of the scan's place, so that no viewer reads another place out of it.
Files are made once and kept for a while: one at a time, so that twenty people who look need the memory of one.
"""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullscale.data.volume_files import write_volume
from fullscale.errors import DataError
from fullscale.geometry.volume import Volume
from fullscale.metrics.overlap import Scores

MOST_BYTES = 8 << 30
"""What the files may take on the disk before the oldest are removed."""
LARGEST_LABEL = 255


class ShownFiles:
    """The files that were made for viewers; a restart removes them.

    Args:
        root: their folder.
        most_bytes: that they may take; the newest is kept whatever its size.
    """

    def __init__(self, root: Path, most_bytes: int = MOST_BYTES) -> None:
        shutil.rmtree(root, ignore_errors=True)
        self._root, self._most, self._lock = root, most_bytes, threading.Lock()

    def file(self, key: tuple[object, ...], read: Callable[[], Volume]) -> Path:
        """Return the file of a volume, which is read where there is none yet.

        Args:
            key: what tells it from others; where the source may change, its state too.
            read: reads the volume.
        """
        path = self._root / f"{hashlib.sha256(repr(key).encode()).hexdigest()}.nii"
        with self._lock:
            if path.is_file():
                path.touch()
                return path
            self._root.mkdir(mode=0o700, exist_ok=True)
            volume = read()
            write_volume(path, Volume(_plain(volume), volume.affine, unit=volume.unit))
            self._tidy(path)
        return path

    def mask(self, key: tuple[object, ...], read: Callable[[], Volume]) -> Path:
        """Return the file of a mask, in one byte a voxel, as viewers draw on it; see `file`.

        Raises:
            DataError: it holds a value that does not fit.
        """
        return self.file(key, lambda: _in_bytes(read()))

    def _tidy(self, newest: Path) -> None:
        files = sorted(self._root.glob("*.nii"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
        left = self._most - newest.stat().st_size
        for file in files:
            if file != newest:
                left -= file.stat().st_size
                if left < 0:
                    file.unlink()


def _plain(volume: Volume) -> npt.NDArray[Any]:
    """Return voxels in a type that every viewer reads."""
    array = volume.array
    if array.dtype == np.bool_:
        return array.astype(np.uint8)
    return array.astype(np.float32) if array.dtype.kind == "f" or array.dtype.itemsize > 4 else array


def _in_bytes(mask: Volume) -> Volume:
    lowest, highest = int(mask.array.min(initial=0)), int(mask.array.max(initial=0))
    if lowest < 0 or highest > LARGEST_LABEL:
        value = lowest if lowest < 0 else highest
        raise DataError(f"the mask holds the value {value}, and viewers are shown values from 0 to {LARGEST_LABEL}")
    return mask.with_array(mask.array.astype(np.uint8))


class KeptScores:
    """Scores that were computed, by what they are of: one mask at a time, since distances need a scan's memory.

    Args:
        most: masks whose scores are kept.
    """

    def __init__(self, most: int = 500) -> None:
        self._found: dict[tuple[object, ...], dict[str, Scores]] = {}
        self._most, self._lock = most, threading.Lock()

    def of(self, key: tuple[object, ...], score: Callable[[], dict[str, Scores]]) -> dict[str, Scores]:
        """Return the scores of a mask, which are computed where they are not known yet."""
        with self._lock:
            if key not in self._found:
                while len(self._found) >= self._most:
                    del self._found[next(iter(self._found))]
                self._found[key] = score()
            return self._found[key]
