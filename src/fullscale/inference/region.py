"""Looking only where the structures are: a coarse pass finds a box, and it grows until no mask touches its sides.

Letters: S H W slices, rows and columns of the scan, h w rows and columns as the network sees them.

Boxes hold slices of the scan, and rows and columns of the network's grid. They begin and end at multiples of `ALIGN` in
plane, so that a network pools the same pixels together as in the whole slice: boxes that began elsewhere changed 0.5 %
of a liver, aligned ones 0.2 % and less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from fullscale.data.labels import LabelScheme
from fullscale.views.protocol import LIMIT, Compute
from fullscale.views.slices import SliceView, stack_images

RegionMode = Literal["whole", "coarse"]

ALIGN = 32
"""Rows and columns: the deepest stride of any network here."""
MARGIN = 16
"""Rows and columns, at least, that a box leaves around what the coarse pass found."""
MARGIN_MM = 40.0
"""The same across slices: the thin ends of a structure are not seen at half the resolution."""
COARSE_STEP_MM = 10.0
"""Between the slices that the coarse pass looks at; a structure that is thinner may lie between two of them."""
SMALLEST = 2 * ALIGN
"""Rows and columns below which there is nothing to save."""

EDGE = 2
"""Rows and columns of a side of a box in which nothing may be found."""

Range = tuple[int, int]


class Box(NamedTuple):
    """From the first to behind the last of slices, rows and columns."""

    slices: Range
    rows: Range
    columns: Range


class BoxView(SliceView):
    """Slices of a box alone; around it, maps say background.

    Args:
        box: what is computed.
        scheme: says which channel is the background.
        neighbours: slices above and below that are shown with each.
        batch_size: slices at once; default by the device's memory.
    """

    def __init__(self, box: Box, scheme: LabelScheme, neighbours: int, batch_size: int | None = None) -> None:
        super().__init__(neighbours, batch_size)
        self.box = box
        self.background = 0 if scheme.activation == "softmax" else None

    def maps(self, compute: Compute, image: npt.NDArray[Any], device: torch.device) -> Iterator[Tensor]:
        """Compute `[C, S, h, w]` batch by batch: maps `[b, K, h, w]` of the box's slices."""
        (first, end), rows, columns = self.box.slices, slice(*self.box.rows), slice(*self.box.columns)
        inside = np.ascontiguousarray(image[:, :, rows, columns])
        size = self.slab(inside.shape[1:], device)
        for start in range(first, end, size):
            found = compute(stack_images(inside, start, min(size, end - start), self.neighbours).to(device))
            maps = found.new_full((*found.shape[:2], *image.shape[2:]), -LIMIT)
            if self.background is not None:
                maps[:, self.background] = LIMIT
            maps[:, :, rows, columns] = found
            yield maps


def find_box(
    compute: Compute,
    image: npt.NDArray[Any],
    spacing_mm: float,
    scheme: LabelScheme,
    view: SliceView,
    device: torch.device,
) -> Box | None:
    """Look for structures in every few slices at half the resolution.

    Args:
        compute: takes slices to logits.
        image: `[C, S, h, w]`, prepared.
        spacing_mm: between slices.
        scheme: decides the logits.
        view: says how many neighbours are shown with each slice, and how many slices at once.
        device: where to compute.

    Returns:
        A box with a margin around all that was found; None where nothing was.
    """
    slices, *sides = image.shape[1:]
    step = min(max(1, int(COARSE_STEP_MM / spacing_mm)), slices)
    seen = range(step // 2, slices, step)
    size = view.slab((slices, *coarse_sides(sides)), device)
    found = []
    for start in range(0, len(seen), size):
        shown = torch.cat([stack_images(image, z, 1, view.neighbours) for z in seen[start : start + size]])
        classes = scheme.decide(compute(F.avg_pool2d(shown, 2, ceil_mode=True).to(device)))
        found.append(np.argwhere(classes.cpu().numpy()) + np.array([start, 0, 0]))
    places = np.concatenate(found)
    if len(places) == 0:
        return None
    (first, top, left), (last, bottom, right) = places.min(axis=0).tolist(), places.max(axis=0).tolist()
    around = int(np.ceil(MARGIN_MM / spacing_mm))
    box = Box(
        (seen[first] - around, seen[last] + 1 + around),
        (2 * top - MARGIN, 2 * bottom + 2 + MARGIN),
        (2 * left - MARGIN, 2 * right + 2 + MARGIN),
    )
    return within(box, image.shape[1:])


def coarse_sides(sides: Sequence[int]) -> tuple[int, ...]:
    """Return the rows and columns that the coarse pass is shown of a slice of so many."""
    return tuple(-(-side // 2) for side in sides)


def within(box: Box, shape: tuple[int, ...]) -> Box:
    """Align a box in plane, outwards, and cut off what lies beyond the scan `[S, h, w]`."""
    first, end = box.slices
    plane = [
        (max(0, low // ALIGN * ALIGN), min(size, -(-high // ALIGN) * ALIGN))
        for (low, high), size in zip(box[1:], shape[1:], strict=True)
    ]
    return Box((max(0, first), min(shape[0], end)), plane[0], plane[1])


def segment_box(
    box: Box, shape: tuple[int, ...], classes: npt.NDArray[np.uint8], decide: Callable[[Box], npt.NDArray[np.uint8]]
) -> Box:
    """Segment a box, and more, until what is found touches no side of it but those of the scan.

    Args:
        box: to begin with.
        shape: of the network's grid `[S, h, w]`.
        classes: `[S, H, W]`, of the scan, all 0; takes what is found.
        decide: takes a box to the class indices `[s, H, W]` of its slices.

    Returns:
        The box in the end.
    """
    parts = [box]
    while parts:
        for part in parts:
            first, end = part.slices
            classes[first:end] = decide(part)
        larger = grown(box, shape, classes)
        parts = _added(box, larger)
        box = larger
    return box


def grown(box: Box, shape: tuple[int, ...], classes: npt.NDArray[np.uint8]) -> Box:
    """Move each side of a box that a structure touches."""
    held = classes[slice(*box.slices)]
    ranges = [_grown_slices(box.slices, shape[0], held)]
    for axis in (1, 2):
        low, high = box[axis]
        scale = classes.shape[axis] / shape[axis]
        more = max(ALIGN, high - low)
        at_low = low > 0 and held.take(_edge(low, low + EDGE, scale), axis).any()
        at_high = high < shape[axis] and held.take(_edge(high - EDGE, high, scale), axis).any()
        ranges.append((low - more * bool(at_low), high + more * bool(at_high)))
    return within(Box(*ranges), shape)


def _grown_slices(slices: Range, count: int, held: npt.NDArray[np.uint8]) -> Range:
    first, end = slices
    more = max(4, (end - first) // 4)
    return first - more * bool(first > 0 and held[0].any()), end + more * bool(end < count and held[-1].any())


def _edge(low: int, high: int, scale: float) -> npt.NDArray[np.int64]:
    """Return the scan's indices that rows `low` to before `high` of the network's grid cover."""
    return np.arange(int(low * scale), max(int(low * scale) + 1, int(high * scale)))


def _added(box: Box, larger: Box) -> list[Box]:
    """List what of a larger box is not computed yet: all of it where rows or columns came in, else its new slices."""
    if larger[1:] != box[1:]:
        return [larger]
    ends = [(larger.slices[0], box.slices[0]), (box.slices[1], larger.slices[1])]
    return [larger._replace(slices=(first, end)) for first, end in ends if first < end]
