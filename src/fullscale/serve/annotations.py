"""Masks that people drew or corrected: kept beside the data, never over it, and none in place of another."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullscale.data.channels import read_scan
from fullscale.data.discover import Scan
from fullscale.data.read import read_label
from fullscale.data.volume_files import write_volume
from fullscale.documents import read_json
from fullscale.errors import DataError
from fullscale.files import atomic_folder, safe_name, write_json
from fullscale.geometry.volume import Volume, require_same_grid
from fullscale.text import nearest

FINAL = "final"
"""Tag of a mask that a person is done with."""
MASK, ABOUT = "mask.nii.gz", "about.json"


@dataclass(frozen=True)
class Annotation:
    """A mask that was saved.

    Attributes:
        case: its case.
        tag: what it is: `final`, or another word of the client.
        version: 1 for the first of its case and tag.
        folder: that holds it.
        about: who saved it when, and the value of each structure in it.
    """

    case: str
    tag: str
    version: int
    folder: Path
    about: dict[str, Any]

    @property
    def mask(self) -> Path:
        """The file."""
        return self.folder / MASK

    @property
    def who(self) -> str:
        """Who saved it, as the person or the client said; empty where neither did."""
        return str(self.about["said"].get("who") or self.about["said"].get("client_id") or "")

    @property
    def note(self) -> str:
        """What the person said of it."""
        return str(self.about["said"].get("note") or "")


class Annotations:
    """The saved masks of a service.

    Args:
        root: their folder: `CASE/TAG/0001` and so on.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self.saved = 0
        """Masks saved since the start: whoever remembers it notices a new one."""

    def save(
        self, case: str, tag: str, mask: Volume, structures: Mapping[int, str], said: Mapping[str, Any]
    ) -> Annotation:
        """Keep a mask as the newest of its case and tag.

        Args:
            case: its case.
            tag: what it is.
            mask: on the grid of the scan, with the values of `structures`.
            structures: name of each value.
            said: what the client said of it.

        Raises:
            DataError: the client says in another form than `viewed_of` which slices were looked at.
            OutputError: it cannot be written.
        """
        viewed_of({"said": said})
        place = self._place(case, tag)
        with self._lock:
            version = 1 + max(self._versions(place), default=0)
            about = {"case": case, "tag": tag, "version": version, "saved": time.time()}
            about |= {"label_names": {name: value for value, name in structures.items()}, "said": dict(said)}
            with atomic_folder(place / f"{version:04d}") as folder:
                write_volume(folder / MASK, mask)
                write_json(folder / ABOUT, about)
            self.saved += 1
        return Annotation(case, tag, version, place / f"{version:04d}", about)

    def newest(self, case: str, tag: str) -> Annotation | None:
        """Return the newest mask of a case and tag."""
        return self.version(case, tag, max(self._versions(self._place(case, tag)), default=0))

    def version(self, case: str, tag: str, version: int) -> Annotation | None:
        """Return one mask of a case and tag."""
        place = self._place(case, tag)
        if version not in self._versions(place):
            return None
        folder = place / f"{version:04d}"
        return Annotation(case, tag, version, folder, read_json(folder / ABOUT))

    def all_of(self, case: str) -> list[Annotation]:
        """List every mask of a case, by tag and the newest first."""
        found = []
        for tag in self._tags(case):
            versions = sorted(self._versions(self._place(case, tag)), reverse=True)
            found += [one for version in versions if (one := self.version(case, tag, version)) is not None]
        return found

    def of_case(self, case: str) -> dict[str, Annotation]:
        """Return the newest mask of each tag of a case."""
        found = (self.newest(case, tag) for tag in self._tags(case))
        return {annotation.tag: annotation for annotation in found if annotation is not None}

    def remove(self, case: str, tag: str) -> bool:
        """Put the masks of a case and tag away, all versions; tell whether there were any."""
        place = self._place(case, tag)
        with self._lock:
            if not self._versions(place):
                return False
            shutil.move(place, place.with_name(f".removed-{place.name}-{time.time_ns()}"))
            return True

    def _tags(self, case: str) -> list[str]:
        place = self._root / safe_name(case)
        return [folder.name for folder in sorted(place.iterdir()) if folder.name[0] != "."] if place.is_dir() else []

    def _place(self, case: str, tag: str) -> Path:
        return self._root / safe_name(case) / safe_name(tag)

    def _versions(self, place: Path) -> list[int]:
        return [int(folder.name) for folder in place.iterdir() if folder.name.isdigit()] if place.is_dir() else []


def viewed_of(about: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return which slices a person looked at, as `{"axis": 2, "slices": [3, 4]}`; None where all count.

    The axis is one of the mask's own, from 0.

    Raises:
        DataError: it is said in another form.
    """
    viewed = about["said"].get("viewed")
    if viewed is None:
        return None
    axis, slices = (viewed.get(key) for key in ("axis", "slices")) if isinstance(viewed, dict) else (None, None)
    if axis not in (0, 1, 2) or not isinstance(slices, list) or not all(type(one) is int for one in slices):
        raise DataError(f"'viewed' of a mask is {viewed!r:.80}, expected {{'axis': 0, 1 or 2, 'slices': [numbers]}}")
    return {"axis": axis, "slices": sorted(set(slices))}


def checked_mask(
    path: Path, scan: Scan, channels: tuple[str, ...], names: Any, structures: Mapping[int, str]
) -> Volume:
    """Read a mask that was sent, and bring it to the values of the models.

    Args:
        path: the mask.
        scan: of its case.
        channels: of the scan.
        names: `label_info` of the client, a list of the name and value (`idx`) of each segment; None where its values
            are those of the models.
        structures: name of each value that the models know.

    Returns:
        The mask, with the header of the scan, so that it lies where the scan does.

    Raises:
        DataError: it cannot be read, or holds a value or a structure that no model knows.
        GeometryError: it lies on another grid than the scan.
    """
    mask = read_label(path, scan.source)
    grid = next(iter(read_scan(scan, channels).values()))
    require_same_grid(grid, mask, "scan and mask")
    values = structures if names is None else _named(names, structures)
    found = [int(value) for value in np.unique(mask.array) if value]
    unknown = [value for value in found if value not in values]
    if unknown:
        known = ", ".join(f"{value} {name}" for value, name in sorted(values.items()))
        raise DataError(f"the mask holds the value {unknown[0]}, which stands for no structure here; known: {known}")
    return grid.with_array(_translated(mask.array, values, structures))


def _named(names: Any, structures: Mapping[int, str]) -> dict[int, str]:
    """Read the list of segments: the name of each value of the mask."""
    try:
        found = {int(entry["idx"]): str(entry["name"]) for entry in names}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError("label_info is no list of the name and idx of each segment") from error
    for name in found.values():
        if name not in structures.values():
            raise DataError(f"no model knows the structure {name!r}{nearest(name, structures.values())}")
    return found


def _translated(
    array: npt.NDArray[Any], values: Mapping[int, str], structures: Mapping[int, str]
) -> npt.NDArray[np.uint16]:
    by_name = {name: value for value, name in structures.items()}
    translated = np.zeros(array.shape, np.uint16)
    for value, name in values.items():
        translated[array == value] = by_name[name]
    return translated
