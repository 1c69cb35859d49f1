"""What the voxels of a validation case say, in a few kilobytes: trust is learned from it once all folds are done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from fullscale.data.labels import LabelScheme
from fullscale.data.recipe import SliceGeometry
from fullscale.data.truth import Truth
from fullscale.errors import DataError
from fullscale.files import atomic_path, safe_name
from fullscale.inference.trust.calibration import BINS
from fullscale.inference.trust.counts import SEEN, Counting
from fullscale.inference.trust.shape import Shape
from fullscale.losses import IGNORED
from fullscale.text import one_line


@dataclass(frozen=True)
class Evidence:
    """One validation case. Letters: K structures.

    Attributes:
        counts: voxels `[K, 3, mask, BINS]`; see `Counts`.
        shapes: of each structure's mask, None where it is empty.
        known: which structures were drawn in the truth.
    """

    counts: npt.NDArray[np.int64]
    shapes: list[Shape | None]
    known: list[bool]

    def by_truth(self, structure: int) -> npt.NDArray[np.int64]:
        """Return the voxels of which the truth is known, `[truth, mask, BINS]`."""
        found: npt.NDArray[np.int64] = self.counts[structure, :SEEN]
        return found

    def dice(self, structure: int) -> float:
        """Return the Dice of a structure, as the mask was decided; 1 where neither mask nor truth holds it."""
        held = self.by_truth(structure).sum(axis=-1)
        both = held[1].sum() + held[:, 1].sum()
        return float(2 * held[1, 1] / both) if both else 1.0

    def save(self, folder: Path, case: str) -> None:
        """Write it into a folder, whole or not at all.

        Raises:
            FullscaleError: it cannot be written.
        """
        shapes = [(np.nan,) * len(Shape._fields) if shape is None else shape for shape in self.shapes]
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(_file(folder, case)) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, counts=self.counts, shapes=np.array(shapes), known=np.array(self.known))

    @classmethod
    def load(cls, folder: Path, case: str) -> Evidence:
        """Read what `save` wrote.

        Raises:
            DataError: it is not there, or damaged.
        """
        path = _file(folder, case)
        try:
            with np.load(path, allow_pickle=False) as kept:
                counts, rows, known = kept["counts"], kept["shapes"], kept["known"]
            shapes = [None if np.isnan(row).any() else Shape(int(row[0]), *map(float, row[1:])) for row in rows]
            if counts.shape[1:] != (SEEN + 1, 2, BINS):
                raise ValueError(f"counts of shape {counts.shape}")
        except (OSError, ValueError, KeyError, TypeError, IndexError, BadZipFile) as error:
            raise DataError(
                f"cannot read {path}: {one_line(error)}; delete it to learn from the other cases"
            ) from error
        return cls(counts, shapes, known.tolist())


def has_evidence(folder: Path, case: str) -> bool:
    """Whether something is kept of a case."""
    return _file(folder, case).is_file()


def counting_against(truth: Truth, geometry: SliceGeometry, scheme: LabelScheme) -> Counting:
    """Return what counts the voxels of a scan with its truth, which lies on the scan's grid."""
    classes = scheme.targets(geometry.of_volume(truth.labels))
    if truth.ignored is not None:
        classes[geometry.of_volume(truth.labels.with_array(truth.ignored))] = IGNORED
    return Counting(scheme, classes, geometry.spacing_mm)


def evidence_of(counted: Counting, truth: Truth) -> Evidence:
    """Return what was counted of a case."""
    known = [value not in truth.unknown for value in counted.scheme.structures]
    return Evidence(counted.together, counted.shapes, known)


def _file(folder: Path, case: str) -> Path:
    return folder / f"{safe_name(case)}.npz"
