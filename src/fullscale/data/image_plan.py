"""What suits single images: no neighbours, as much detail as their structures have, and mirrors."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fullscale.data.recipe import Mirror
from fullscale.data.sides import safe_mirrors
from fullscale.geometry.units import Unit

LARGEST = {"CPU": 192, "GPU": 512}
"""Rows or columns of an image that a training copes with, where its structures stay thick enough."""
LEAST_THICKNESS = 8.0
"""Pixels across the thinnest structure, or across the background between two, below which images are not shrunk."""


class ImageFacts(NamedTuple):
    """What a plan asks of an image.

    Attributes:
        size: rows and columns.
        spacing: of rows and of columns.
        unit: what the spacing is counted in.
        thickness: pixels across the thinnest class, see `mean_thickness`; None where there is no border.
    """

    size: tuple[int, int]
    spacing: tuple[float, float]
    unit: Unit
    thickness: float | None


class ImageChoices(NamedTuple):
    """What suits images.

    Attributes:
        pixel: length of a median pixel, in the unit that is chosen.
        choices: value and reason of each, by the names of the plan.
    """

    pixel: float
    choices: dict[str, tuple[Any, str]]


class Shrinking(NamedTuple):
    """How many pixels of an image become one along rows and columns, and why."""

    factor: float
    reason: str


def plan_images(images: Sequence[ImageFacts], structures: Collection[str], on_cpu: bool) -> ImageChoices:
    """Choose unit, spacing, neighbours and mirrors.

    Args:
        images: of the data set, at least one.
        structures: their names.
        on_cpu: whether it will be trained on a CPU.
    """
    unit, why_unit = _unit([image.unit for image in images])
    pixel = 1.0 if unit == "px" else float(np.median([step for image in images for step in image.spacing]))
    side = float(np.median([max(image.size) for image in images]))
    shrunk = shrinking(side, [image.thickness for image in images if image.thickness is not None], on_cpu)
    mirrors, why_mirrors = image_mirrors(structures, {image.unit for image in images})
    choices = {
        "unit": (unit, why_unit),
        "spacing_mm": (round(pixel * shrunk.factor, 6), shrunk.reason),
        "neighbours": (0, "single images have no neighbours"),
        "augment": ({"flip": 0.5, "mirrors": list(mirrors)} if mirrors else {}, why_mirrors),
    }
    return ImageChoices(pixel, choices)


def _unit(units: Sequence[Unit]) -> tuple[Unit, str]:
    """Count in pixels as soon as one image does not say how large they are."""
    if len(set(units)) == 1:
        known = "do not state" if units[0] == "px" else "state"
        return units[0], f"the images {known} how large their pixels are"
    return "px", f"{units.count('px')} of {len(units)} images do not state how large their pixels are"


def is_image(shape: Sequence[int]) -> bool:
    """Tell a single image from a scan of several slices."""
    return min(shape) == 1


def mean_thickness(labels: npt.NDArray[np.integer]) -> float | None:
    """Return the mean thickness in pixels of the thinnest class of a label map `[H, W]`, background included.

    The thickness of a class is twice its area over the length of its border: the width of a line, the radius of a disc.
    A border in pixels is longer than the curve it follows, by 4/pi on average over directions. None where there is no
    border.
    """
    found = []
    for value in np.unique(labels):
        inside = labels == value
        steps = np.count_nonzero(inside[1:] != inside[:-1]) + np.count_nonzero(inside[:, 1:] != inside[:, :-1])
        if steps:
            found.append(2 * np.count_nonzero(inside) / (steps * np.pi / 4))
    return min(found, default=None)


def shrinking(side: float, thicknesses: Collection[float], on_cpu: bool) -> Shrinking:
    """Choose how much images are shrunk: as a training on the machine likes it, and no more than structures allow.

    Args:
        side: rows or columns of a median image, the larger of the two.
        thicknesses: of the thinnest class of each image, see `mean_thickness`.
        on_cpu: whether it will be trained on a CPU.
    """
    machine = "CPU" if on_cpu else "GPU"
    largest = LARGEST[machine]
    thinnest = float(np.median(list(thicknesses))) if thicknesses else float("inf")
    allowed = max(1.0, thinnest / LEAST_THICKNESS)
    factor = round(min(max(1.0, side / largest), allowed), 4)
    if factor == 1.0:
        why = (
            f"no side is above {largest}" if side <= largest else f"the thinnest parts are {thinnest:.1f} pixels across"
        )
        return Shrinking(1.0, f"images keep their pixels: {why}")
    return Shrinking(
        factor,
        f"{factor:.3g} pixels become one, so that a side of {side:.0f} becomes {side / factor:.0f} and the thinnest "
        f"parts, {thinnest:.0f} pixels across, stay {thinnest / factor:.0f}",
    )


def image_mirrors(structures: Collection[str], units: Collection[Unit]) -> tuple[tuple[Mirror, ...], str]:
    """Choose the mirrors of single images, and say why.

    Args:
        structures: their names.
        units: of the images; those in mm are slices or projections of a patient, as DICOM has them.
    """
    if "mm" in units:
        return (), "they are of a patient, whose left is not like the right"
    mirrors = safe_mirrors(structures, "slices")
    if not mirrors:
        return (), "structures are named after sides"
    ways = {"left-right": "left and right", "front-back": "top and bottom"}
    return mirrors, (
        f"crops are mirrored, {' and '.join(ways[mirror] for mirror in mirrors)}: no structure is named after such a "
        "side, and tissue under a microscope or a retina has none; set flip to 0 where yours has"
    )
