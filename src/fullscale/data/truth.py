"""The truth of a case: its label map, the voxels of which nothing is known, and the structures that were not drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fullscale.data.case import Case
from fullscale.data.labels import LabelScheme
from fullscale.data.read import read_label, read_truth
from fullscale.errors import DataError
from fullscale.geometry.volume import Volume, require_same_grid


@dataclass(frozen=True)
class Truth:
    """What is known of a case.

    Attributes:
        labels: label map, each structure written as one value; background where nothing is known.
        ignored: bool, of its shape, voxels of which nothing is known; None where there are none.
        unknown: the value that each structure is written as which was not drawn.
    """

    labels: Volume
    ignored: npt.NDArray[np.bool_] | None
    unknown: tuple[int, ...] = ()

    @property
    def ignored_voxels(self) -> int:
        """How many voxels nothing is known of."""
        return 0 if self.ignored is None else int(self.ignored.sum())


def truth_of(case: Case, scheme: LabelScheme) -> Truth:
    """Read what is known of a case.

    Raises:
        DataError: a file cannot be read, or everything is ignored.
        GeometryError: the mask of what is ignored lies on another grid.
    """
    view = None if case.ignore is None else read_label(case.ignore, case.first)
    return known_truth(read_truth(case, scheme), scheme, view, case.labelled)


def known_truth(
    labels: Volume, scheme: LabelScheme, view: Volume | None = None, labelled: Sequence[str] | None = None
) -> Truth:
    """Say what a label map tells.

    Args:
        labels: the label map.
        scheme: what the values stand for.
        view: a mask in whose 0 voxels nothing is known.
        labelled: names of the structures that were drawn; None is all.

    Raises:
        DataError: everything is ignored.
        GeometryError: the mask of what is ignored lies on another grid.
    """
    ignored = ignored_voxels(labels, view, scheme.ignore)
    if ignored is not None:
        labels = labels.with_array(np.where(ignored, 0, labels.array))
    written = list(scheme.structures)
    return Truth(scheme.merge(labels), ignored, tuple(written[k] for k in scheme.unknown(labelled)))


def ignored_voxels(labels: Volume, view: Volume | None, value: int | None) -> npt.NDArray[np.bool_] | None:
    """Find the voxels of which nothing is known; None where there are none.

    Args:
        labels: label map.
        view: a mask such as a field of view, in whose 0 voxels nothing is known.
        value: label value of which nothing is known.

    Raises:
        DataError: there are no others.
        GeometryError: the mask lies on another grid.
    """
    parts: list[npt.NDArray[Any]] = [] if value is None else [labels.array == value]
    if view is not None:
        require_same_grid(labels, view, "the label map and the mask of what is ignored")
        parts.append(view.array == 0)
    if not parts or not any(part.any() for part in parts):
        return None
    ignored: npt.NDArray[np.bool_] = parts[0] | parts[-1]
    if ignored.all():
        raise DataError("every voxel is ignored: nothing is known of it; leave the case out, or correct its mask")
    return ignored
