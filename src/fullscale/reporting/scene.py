"""What a picture shows before it is drawn: a scan and its masks turned upright, painted, windowed, and cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fullscale.errors import UsageError
from fullscale.geometry.orientation import reorient
from fullscale.geometry.units import LENGTH, Unit
from fullscale.geometry.volume import Affine, Volume, require_same_grid
from fullscale.reporting.figures import PALETTES, PaletteName
from fullscale.reporting.frame import Frame, body_frame

AXIAL, CORONAL, SAGITTAL = 2, 1, 0
"""The axis of an `LPS` array along which each view looks."""

Kinds = npt.NDArray[np.uint16]
"""What is painted on each voxel: 0 nothing, k the k-th colour."""

_PERCENTILES = (0.5, 99.5)
_AIR_HU, _SOFT_TISSUE_HU = -500, (-160.0, 240.0)
_TAIL = 0.01


@dataclass(frozen=True)
class RenderOptions:
    """How a picture looks.

    Attributes:
        window: grey values shown black and white, HU for CT. By default percentiles 0.5 and 99.5 of the slices drawn,
            or from -160 to 240 where the former is below -500, as only air in HU is. The picture names it.
        names: name of each label, for the legend.
        palette: the paper's colours, or `safe`, told apart with any kind of colour vision.
        contour: outlines alone instead of translucent areas with their outline.
        members: values of each label that is made of several, where labels overlap; these are drawn as outlines.

    Raises:
        UsageError: the window is empty.
    """

    window: tuple[float, float] | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    palette: PaletteName = "paper"
    contour: bool = False
    members: Mapping[int, Sequence[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.window is not None and not self.window[0] < self.window[1]:
            low, high = self.window
            raise UsageError(f"the window from {low:g} to {high:g} is empty, expected a lower and a higher value")


@dataclass(frozen=True)
class Outline:
    """A structure that may overlap others, `[X, Y, Z]` as the scene; the truth is None where it is not shown."""

    colour: str
    name: str
    found: npt.NDArray[np.bool_]
    truth: npt.NDArray[np.bool_] | None


@dataclass(frozen=True)
class Scene:
    """Scan and painting, `[X, Y, Z]` toward left, posterior and superior, with what places them.

    A scan in colours is `[X, Y, Z, 3]`. An image alone is shown whole, as it is stored, without directions. Structures
    that overlap are outlines and not painted; what is ignored is hatched. Beside a truth, `borders` are those of its
    structures, where there are several. Values are `HU`, `grey` or `colours`.
    """

    scan: npt.NDArray[Any]
    kinds: Kinds
    colours: list[str]
    names: list[str]
    spacing_mm: tuple[float, ...]
    affine: Affine
    limits: tuple[float, float]
    contour: bool
    axial: list[int]
    unit: Unit = "mm"
    outlines: list[Outline] = field(default_factory=list)
    ignored: npt.NDArray[np.bool_] | None = None
    borders: list[Outline] = field(default_factory=list)
    values: str = "grey"
    frame: Frame | None = None

    @property
    def is_image(self) -> bool:
        """Whether it is an image alone, no scan of a patient."""
        return self.unit != "mm" and self.scan.shape[AXIAL] == 1

    def extent_mm(self, view: int) -> tuple[float, float]:
        """Width and height of a slice."""
        across, down = (axis for axis in range(3) if axis != view)
        return self.scan.shape[across] * self.spacing_mm[across], self.scan.shape[down] * self.spacing_mm[down]

    def shown_mm(self, view: int) -> tuple[float, float, float, float]:
        """Left, right, top and bottom of what is shown of a slice, from its upper left corner."""
        across, down = (axis for axis in range(3) if axis != view)
        width, height = self.extent_mm(view)
        if self.frame is None:
            return 0.0, width, 0.0, height
        (left, right), (first, last) = self.frame[across], self.frame[down]
        top, bottom = (first, last) if view == AXIAL else (self.scan.shape[down] - last, self.scan.shape[down] - first)
        step_across, step_down = self.spacing_mm[across], self.spacing_mm[down]
        return left * step_across, right * step_across, top * step_down, bottom * step_down

    def fullest(self, view: int) -> int:
        """The slice of a view with the most paint, the middle one where there is none."""
        others = tuple(axis for axis in range(3) if axis != view)
        area = (self.kinds != 0).sum(axis=others)
        return int(area.argmax()) if area.any() else len(area) // 2

    def place_mm(self, view: int, position: int) -> float:
        """Where the middle of a slice lies on the axis it is cut along, in mm toward right, front or head."""
        index = (np.array([*self.scan.shape, 3]) - 1) / 2
        index[view] = position
        return float((self.affine @ index)[view])

    def nearest(self, view: int, at_mm: float) -> int:
        """The slice whose middle lies closest to a place in mm.

        Raises:
            UsageError: the scan does not reach there.
        """
        places = np.array([self.place_mm(view, position) for position in range(self.scan.shape[view])])
        closest = int(np.abs(places - at_mm).argmin())
        if abs(places[closest] - at_mm) > self.spacing_mm[view]:
            unit = LENGTH[self.unit]
            raise UsageError(
                f"there is no slice at {at_mm:g} {unit}: the scan goes from {places.min():g} to {places.max():g} {unit}"
            )
        return closest


def build_scene(
    scan: Volume | Sequence[Volume],
    mask: Volume,
    truth: Volume | None,
    options: RenderOptions,
    slices: int,
    ignored: Volume | None = None,
) -> Scene:
    """Turn scan and masks upright, paint them, and choose the axial slices; three scans are red, green and blue.

    Raises:
        GeometryError: the grids differ.
        UsageError: fewer than one slice is wanted.
    """
    if slices < 1:
        raise UsageError(f"{slices} slices are wanted, expected at least 1")
    channels = [scan] if isinstance(scan, Volume) else list(scan)
    for channel in channels:
        require_same_grid(channel, mask, "scan and mask")
    for what, other in (("truth", truth), ("what is ignored", ignored)):
        if other is not None:
            require_same_grid(channels[0], other, f"scan and {what}")
    volume = reorient(channels[0], "LPS")
    shown = volume.array if len(channels) == 1 else np.stack([reorient(c, "LPS").array for c in channels], axis=-1)
    hidden = None if ignored is None else reorient(ignored, "LPS").array != 0
    paint = _painted(mask, truth, hidden, options)
    axial = _axial_positions(paint.kinds != 0, slices)
    low, high = _intensity_limits(shown[:, :, axial])
    is_ct = shown.ndim == 3 and low < _AIR_HU
    return Scene(
        scan=shown,
        kinds=paint.kinds,
        colours=paint.colours,
        names=paint.names,
        spacing_mm=tuple(round(step, 6) for step in volume.spacing_mm),
        affine=volume.affine,
        limits=options.window or (_SOFT_TISSUE_HU if is_ct else (low, high)),
        contour=options.contour,
        axial=axial,
        unit=volume.unit,
        outlines=paint.outlines,
        ignored=hidden,
        borders=paint.borders,
        values="colours" if shown.ndim == 4 else "HU" if is_ct else "grey",
        frame=None if volume.unit != "mm" else body_frame(shown, paint.kinds, is_ct),
    )


def repainted(scene: Scene, mask: Volume, truth: Volume | None, options: RenderOptions) -> Scene:
    """Paint another mask of the same scan; slices, window and frame stay those of the scene.

    Args:
        scene: of the scan.
        mask: label map on the scan's grid, in any orientation.
        truth: the true label map on that grid.
        options: as those of the scene.
    """
    return replace(scene, **_painted(mask, truth, scene.ignored, options)._asdict())


class _Paint(NamedTuple):
    """What a mask adds to a scan; see `Scene`."""

    kinds: Kinds
    colours: list[str]
    names: list[str]
    outlines: list[Outline]
    borders: list[Outline]


def _painted(
    mask: Volume, truth: Volume | None, hidden: npt.NDArray[np.bool_] | None, options: RenderOptions
) -> _Paint:
    labels, real = reorient(mask, "LPS").array, None if truth is None else reorient(truth, "LPS").array
    outlines = _outlines(labels, real, options.members, options)
    if outlines:
        return _Paint(_any_of(outlines), [], [], outlines, [])
    if real is None:
        kinds, colours, names = _label_kinds(labels, options)
    else:
        kinds, colours, names = _agreement_kinds(labels, real, options)
    if hidden is not None:
        kinds = np.where(hidden, 0, kinds)
    return _Paint(kinds, colours, names, [], [] if real is None else _borders(real, options))


def _borders(truth: npt.NDArray[Any], options: RenderOptions) -> list[Outline]:
    """Return the structures of a truth, where there are several."""
    values = np.unique(truth[truth != 0]).tolist()
    return _outlines(truth, None, {value: (value,) for value in values}, options) if len(values) > 1 else []


def _outlines(
    labels: npt.NDArray[Any],
    truth: npt.NDArray[Any] | None,
    members: Mapping[int, Sequence[int]],
    options: RenderOptions,
) -> list[Outline]:
    """Outline structures that are made of these values, in their order, each in a colour of its own."""
    colours = cycle(PALETTES[options.palette].labels)
    return [
        Outline(
            *(colour, options.names.get(label, f"label {label}"), np.isin(labels, values)),
            None if truth is None else np.isin(truth, values),
        )
        for colour, (label, values) in zip(colours, members.items(), strict=False)
    ]


def _any_of(outlines: Sequence[Outline]) -> Kinds:
    """Say where anything is outlined."""
    parts = [part for outline in outlines for part in (outline.found, outline.truth) if part is not None]
    kinds: Kinds = np.logical_or.reduce(parts).astype(np.uint16)
    return kinds


def _label_kinds(labels: npt.NDArray[Any], options: RenderOptions) -> tuple[Kinds, list[str], list[str]]:
    """Number the labels that occur from 1; give the colour and the name of each."""
    inside = labels != 0
    values = np.unique(labels[inside])
    kinds = np.zeros(labels.shape, np.uint16)
    kinds[inside] = np.searchsorted(values, labels[inside]) + 1
    colours = [colour for colour, _ in zip(cycle(PALETTES[options.palette].labels), values, strict=False)]
    return kinds, colours, [options.names.get(int(value), f"label {value}") for value in values]


def _agreement_kinds(
    labels: npt.NDArray[Any], truth: npt.NDArray[Any], options: RenderOptions
) -> tuple[Kinds, list[str], list[str]]:
    """Number true positives 1, false negatives 2, false positives 3 and structures of another class 4."""
    found, real = labels != 0, truth != 0
    kinds = np.zeros(labels.shape, np.uint16)
    kinds[found & real] = 1
    kinds[real & ~found] = 2
    kinds[found & ~real] = 3
    wrong = found & real & (labels != truth)
    kinds[wrong] = 4
    colours = list(PALETTES[options.palette].agreement)
    legend = [
        "true positive",
        "false negative (missed)",
        "false positive (invented)",
        "one structure taken for another",
    ]
    shown = 4 if wrong.any() else 3
    return kinds, colours[:shown], legend[:shown]


def _intensity_limits(array: npt.NDArray[Any]) -> tuple[float, float]:
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    if finite.size == 0:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(finite, _PERCENTILES))
    return (low, high) if low < high else (low, low + 1.0)


def _axial_positions(painted: npt.NDArray[np.bool_], slices: int) -> list[int]:
    """Choose slices evenly across what is painted, or across the scan where nothing is, from head to foot.

    The outermost hundredth of the paint is left out, so that a stray voxel does not pull the slices apart.
    """
    area = painted.sum(axis=(0, 1)).astype(float)
    share = np.cumsum(area if area.any() else area + 1)
    share /= share[-1]
    first, last = int(np.argmax(share > _TAIL)), int(np.argmax(share >= 1 - _TAIL))
    count = min(slices, last - first + 1)
    return [int(first + (k + 0.5) * (last - first + 1) / count) for k in reversed(range(count))]
