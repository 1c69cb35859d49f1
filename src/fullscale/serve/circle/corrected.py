"""Corrected cases as a data set: where they lie, which are held out, and who drew what, when, on which model's mask."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from fullscale.data.case import ONE_CHANNEL
from fullscale.data.channels import read_scan
from fullscale.data.discover import Scan
from fullscale.data.identity import content_of, files_of
from fullscale.data.read import read_image
from fullscale.data.volume_files import volume_suffix, write_volume
from fullscale.documents import read_json
from fullscale.errors import DataError
from fullscale.files import atomic_path, safe_name, write_json
from fullscale.geometry.volume import Volume
from fullscale.serve.annotations import FINAL, Annotation, Annotations, viewed_of
from fullscale.serve.settings import ServedModel

DATASET, PROVENANCE = "dataset.json", "provenance.json"
EVERY, FIRST = 4, 1
"""Of the cases in the order in which they were first seen here, every fourth is held out, from the second on."""


@dataclass(frozen=True)
class Corrected:
    """A case that a person is done with.

    Attributes:
        scan: of the case.
        annotation: the newest mask of it.
        held_out: whether no training may see it, so that models can be compared on it.
    """

    scan: Scan
    annotation: Annotation
    held_out: bool

    @property
    def name(self) -> str:
        """Of the case."""
        return self.annotation.case

    def provenance(self, made_by: str | None) -> dict[str, Any]:
        """Say where the mask is from.

        Args:
            made_by: digest of the model whose mask was corrected; None where that is not known.
        """
        about = self.annotation.about
        said: Mapping[str, Any] = about["said"]
        return {
            "case": self.name,
            "version": self.annotation.version,
            "saved": datetime.fromtimestamp(about["saved"], UTC).isoformat(timespec="seconds"),
            "who": self.annotation.who,
            "note": self.annotation.note,
            "model": said.get("model"),
            "model_digest": made_by,
            "scan_digest": content_of(files_of(self.scan.files or self.scan.inputs), {})["content"],
            "mask_digest": content_of([self.annotation.mask], {})["content"],
            "viewed": viewed_of(about),
            "held_out": self.held_out,
        }


class CorrectedCases:
    """The corrected cases of a model.

    Args:
        order: file that says in which order they were first seen here.
        annotations: the saved masks of the service.
    """

    def __init__(self, order: Path, annotations: Annotations) -> None:
        self._order, self._annotations = order, annotations

    def find(self, scans: Mapping[str, Scan]) -> list[Corrected]:
        """List the cases that people are done with, in the order in which they were first seen here.

        Which are held out is written down when a case is first seen here, and never changes.
        """
        saved = {name: one for name in scans if (one := self._annotations.newest(name, FINAL)) is not None}
        order: list[str] = read_json(self._order)["cases"] if self._order.is_file() else []
        new = sorted(set(saved) - set(order), key=lambda name: (saved[name].about["saved"], name))
        if new:
            order += new
            write_json(self._order, {"cases": order})
        held = {name for place, name in enumerate(order) if place % EVERY == FIRST}
        return [Corrected(scans[name], saved[name], name in held) for name in order if name in saved]


def write_dataset(folder: Path, model: ServedModel, cases: Sequence[Corrected], made_by: Mapping[str, str]) -> Path:
    """Write the data set: a `dataset.json` that `fullscale train` reads, and beside it the provenance of each case.

    Args:
        folder: to write into.
        model: whose structures and channels the cases have.
        cases: of `find`.
        made_by: digest of the model whose mask each case's was made from, as far as it is known.

    Returns:
        The `dataset.json`.

    Raises:
        DataError: a scan cannot be read, or is not what the viewed slices are of.
        OutputError: the folder cannot be written.
    """
    scheme, card = model.card.scheme, model.card
    labels: dict[str, Any] = {name: value for value, name in scheme.structures.items()}
    if card.regions:
        labels = {name: list(values) for name, values in card.regions.items()}
    about: dict[str, Any] = {"name": f"corrected for {model.name}", "labels": {"background": 0} | labels}
    about |= {"regions_class_order": list(card.region_order)} if card.region_order else {}
    names = model.channels if len(model.channels) > 1 else (card.modality,)
    about |= {"channel_names": {str(number): name for number, name in enumerate(names)}}
    rows = [_row(folder, case, model.channels) for case in cases]
    write_json(folder / PROVENANCE, [case.provenance(made_by.get(case.name)) for case in cases])
    write_json(folder / DATASET, about | {"training": rows})
    return folder / DATASET


def _row(root: Path, case: Corrected, channels: Sequence[str]) -> dict[str, str]:
    folder = root / "cases" / safe_name(case.name)
    row = {"case": case.name, "label": str(case.annotation.mask.absolute())}
    for channel, path in _images(case.scan, channels, folder).items():
        row["image" if channel == ONE_CHANNEL else f"image:{channel}"] = str(path.absolute())
    viewed = viewed_of(case.annotation.about)
    if viewed is not None:
        mask = folder / "viewed.nii.gz"
        with atomic_path(mask) as temporary:
            write_volume(temporary, _viewed_mask(case, viewed))
        row["ignore"] = str(mask.absolute())
    return row


def _images(scan: Scan, channels: Sequence[str], folder: Path) -> dict[str, Path]:
    """Name the file of each channel; of DICOM a volume is made, once for each state of its files."""
    if volume_suffix(scan.path) is not None:
        return dict(scan.channels) if scan.channels else {ONE_CHANNEL: scan.path}
    content = content_of(files_of(scan.files or scan.inputs), {})["content"]
    made = folder / content
    if not made.is_dir():
        shutil.rmtree(folder, ignore_errors=True)
    paths = {}
    for number, (name, volume) in enumerate(read_scan(scan, channels).items()):
        paths[name if len(channels) > 1 else ONE_CHANNEL] = path = made / f"{number}.nii.gz"
        if not path.exists():
            with atomic_path(path) as temporary:
                write_volume(temporary, volume)
    return paths


def _viewed_mask(case: Corrected, viewed: Mapping[str, Any]) -> Volume:
    """Return a mask of what was looked at: nothing is known of the rest, and nothing is learned from it."""
    mask = read_image(case.annotation.mask)
    inside = [number for number in viewed["slices"] if 0 <= number < mask.array.shape[viewed["axis"]]]
    if not inside:
        raise DataError(f"case {case.name}: none of the slices that were looked at is one of the scan")
    seen = np.zeros(mask.array.shape, np.uint8)
    index: list[Any] = [slice(None)] * 3
    index[viewed["axis"]] = inside
    seen[tuple(index)] = 1
    return mask.with_array(seen)
