"""The one recipe that turns a scan into what a network sees, shared by training and prediction, and its way back.

A scan is reoriented to RAS, so that whatever the file stores, axis 2 runs from feet to head; it is cut along that axis
into slices `[S, H, W]` (H from posterior to anterior, W from left to right), resized to the recipe's spacing, clipped
and normalised. A network of slices sees each of them with its neighbours, and nothing is resampled across slices. A
network of patches sees all three axes, and each has a spacing of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, PositiveFloat, model_validator

from fullscale.data.case import ONE_CHANNEL
from fullscale.data.labels import IGNORED, LabelScheme
from fullscale.errors import DataError
from fullscale.geometry.orientation import Reorientation, reorientation
from fullscale.geometry.resample import resize_label_volume, resize_slices, resize_volume
from fullscale.geometry.units import LENGTH, Unit
from fullscale.geometry.volume import Volume

CANONICAL = "RAS"
MIN_SIDE, MAX_SIDE = 8, 8192
"""Slices are never resized below the one; a recipe that would enlarge them beyond the other is refused."""
_VOXELS_AT_ONCE = 1 << 20
"""Of a scan that is prepared: they stay in a processor's cache, and a large scan is not held a second time."""

Neighbours = Literal[0, 1, 2, 3]
View = Literal["slices", "patches"]
Counted = Literal["all", "nonzero", "body"]
"""The voxels of a scan that its statistics are taken of."""
Spacing = PositiveFloat | tuple[PositiveFloat, PositiveFloat, PositiveFloat]
"""In mm: that of rows and columns alike, or one each across slices, of rows and of columns."""

Mirror = Literal["left-right", "front-back", "head-foot"]
MIRRORS: dict[Mirror, int] = {"left-right": -1, "front-back": -2, "head-foot": -3}
"""The axis of prepared voxels `[..., S, H, W]` that each mirror turns over."""


class Scale(NamedTuple):
    """Limits that voxels are clipped at, then the mean that is subtracted and the deviation that divides."""

    low: float
    high: float
    mean: float
    std: float

    def apply(self, voxels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Normalise voxels in float32: some of a scan, or all."""
        values = voxels.astype(np.float32)
        np.clip(values, self.low, self.high, out=values)
        values -= self.mean
        values /= self.std
        return values


class Intensity(BaseModel):
    """How voxel values become network inputs: clip, then subtract the mean and divide by the deviation.

    With `per="dataset"` the four numbers below are in the scan's own units (HU for CT) and serve every scan. With
    `per="scan"` they are found anew in each scan: the clip from the two percentiles, mean and deviation after it, of
    all voxels, of those that are not 0 where most of a scan is empty, or of the "body": those that differ from the
    padding, the value that all corners of the scan share.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    per: Literal["dataset", "scan"]
    low: float = 0.5
    high: float = 99.5
    mean: float = 0.0
    std: PositiveFloat = 1.0
    voxels: Counted = "all"

    @model_validator(mode="after")
    def _ordered(self) -> Intensity:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.per == "scan" and not (self.low >= 0 and self.high <= 100):
            raise ValueError(f"low ({self.low}) and high ({self.high}) are percentiles of each scan, from 0 to 100")
        return self

    def describe_limits(self) -> str:
        """Name the two limits of the clip."""
        return (
            f"{self.low:g} and {self.high:g}"
            if self.per == "dataset"
            else f"percentiles {self.low:g} and {self.high:g}"
        )

    def scale(self, slices: npt.NDArray[Any]) -> Scale:
        """Work out from the voxels of a whole scan what is done to each of them."""
        if self.per == "dataset":
            return Scale(self.low, self.high, self.mean, self.std)
        counted = self._counted(slices.astype(np.float32))
        low, high = np.percentile(counted, [self.low, self.high]) if counted.size else (0.0, 0.0)
        counted = counted.clip(low, high)
        mean, std = (float(counted.mean()), float(counted.std())) if counted.size else (0.0, 0.0)
        return Scale(float(low), float(high), mean, max(std, 1e-6))

    def _counted(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if self.voxels == "all":
            return values
        empty = 0.0 if self.voxels == "nonzero" else padding_value(values)
        return values if empty is None else values[values != empty]


def padding_value(voxels: npt.NDArray[Any]) -> float | None:
    """Return the value that all corners of a scan share, such as that around a brain; None where they differ."""
    corners = voxels[tuple(slice(None, None, max(1, side - 1)) for side in voxels.shape)]
    return float(corners.flat[0]) if bool((corners == corners.flat[0]).all()) else None


class Recipe(BaseModel):
    """All that is done to a scan before a network sees it.

    Attributes:
        intensity: clipping and normalisation; where a scan has several channels, of each by its name, in their order.
        spacing_mm: distance between voxel centres that a scan is resized to: in plane, or along three axes, or None to
            keep each scan's own.
        neighbours: slices above and below the one to segment that are shown with it (1 means three channels).
        view: whether a network is shown slices, or patches of three dimensions, which need no neighbours.
        resample_channels: whether channels on other grids are brought onto that of the first, or refused.
        unit: what `spacing_mm` is counted in; images whose pixel size is not known lie in pixels.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    intensity: Intensity | dict[str, Intensity]
    spacing_mm: Spacing | None
    neighbours: Neighbours = 1
    view: View = "slices"
    resample_channels: bool = False
    unit: Unit = "mm"

    @model_validator(mode="after")
    def _fitting_the_view(self) -> Recipe:
        if self.view == "slices" and isinstance(self.spacing_mm, tuple):
            raise ValueError("spacing_mm has three numbers, but slices are resized in plane: expected one number")
        if self.view == "patches" and self.neighbours:
            raise ValueError(f"neighbours is {self.neighbours}, but patches hold their neighbours: expected 0")
        return self

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @property
    def intensities(self) -> dict[str, Intensity]:
        """What is done to each channel, by its name, in their order."""
        return {ONE_CHANNEL: self.intensity} if isinstance(self.intensity, Intensity) else self.intensity

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of a scan's channels, in their order."""
        return tuple(self.intensities)

    @property
    def in_channels(self) -> int:
        """Channels of the network's input: of each channel the slice and its neighbours."""
        return len(self.channels) * (2 * self.neighbours + 1)

    @property
    def spatial_dims(self) -> int:
        """Dimensions of what the network is shown."""
        return 3 if self.view == "patches" else 2


@dataclass(frozen=True)
class SliceGeometry:
    """Where a stack of slices came from: enough to take labels back onto the scan's own grid.

    Attributes:
        change: the reorientation that was applied.
        shape: slices, rows and columns before resizing.
        network_shape: slices, rows and columns as the network sees them.
        spacing_mm: of `shape`, in the same order (across slices, rows, columns).
    """

    change: Reorientation
    shape: tuple[int, int, int]
    network_shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]

    def of_volume(self, volume: Volume) -> npt.NDArray[Any]:
        """Cut a volume on the scan's grid into slices of `shape` `[S, H, W]` (a view, not a copy)."""
        return self.change.apply(volume.array).transpose(2, 1, 0)

    def to_volume(self, labels: npt.NDArray[Any], scan: Volume) -> Volume:
        """Put label slices of `shape` `[S, H, W]` back onto the grid of `scan`, with its affine and header."""
        return scan.with_array(self.change.undo(labels.transpose(2, 1, 0)).copy(order="K"))  # as files have it


def slice_geometry(scan: Volume, recipe: Recipe) -> SliceGeometry:
    """Work out how `recipe` will cut and resize `scan`.

    Raises:
        DataError: the recipe's spacing is so small that slices would have more than `MAX_SIDE` voxels a side; or it
            is in mm, and the scan in pixels.
    """
    change = reorientation(scan.affine, CANONICAL)
    columns, rows, slices = (scan.shape[axis] for axis in change.axes)
    steps = (1.0, 1.0, 1.0) if recipe.unit == "px" else scan.spacing_mm  # a size that training did not know of
    if scan.unit == "px" and recipe.unit != "px" and recipe.spacing_mm is not None:
        raise DataError(
            f"nothing says how large its pixels are, and the model looks at {LENGTH[recipe.unit]}: give a TIFF with "
            "its resolution"
        )
    spacing_columns, spacing_rows, spacing_slices = (steps[axis] for axis in change.axes)
    shape, spacing = (slices, rows, columns), (spacing_slices, spacing_rows, spacing_columns)
    return SliceGeometry(change, shape, _network_shape(shape, spacing, recipe), spacing)


def _network_shape(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], recipe: Recipe
) -> tuple[int, int, int]:
    """Work out slices, rows and columns at the recipe's spacing.

    Raises:
        DataError: there would be more than `MAX_SIDE` along an axis, and more than there are.
    """
    wanted = recipe.spacing_mm
    if wanted is None:
        return shape
    across, row, column = wanted if isinstance(wanted, tuple) else (None, wanted, wanted)
    slices = shape[0] if across is None else max(1, round(shape[0] * spacing_mm[0] / across))
    rows = max(MIN_SIDE, round(shape[1] * spacing_mm[1] / row))
    columns = max(MIN_SIDE, round(shape[2] * spacing_mm[2] / column))
    found = (slices, rows, columns)
    if max(found) > max(MAX_SIDE, *shape):
        unit = LENGTH[recipe.unit]
        what = f"{wanted:g}" if not isinstance(wanted, tuple) else " x ".join(f"{step:g}" for step in wanted)
        raise DataError(
            f"at spacing_mm {what} its slices of {shape[1]}x{shape[2]} would become {rows}x{columns}, {slices} in "
            f"number; choose a spacing nearer to its own {spacing_mm[1]:g}x{spacing_mm[2]:g} {unit}, slices "
            f"{spacing_mm[0]:g} {unit} apart"
        )
    return found


def image_slices(channels: Mapping[str, Volume], geometry: SliceGeometry, recipe: Recipe) -> npt.NDArray[np.float32]:
    """Cut, resize and normalise the channels of a scan: float32 `[C, S, H, W]` of the geometry's `network_shape`.

    Raises:
        DataError: a channel holds NaN or infinity.
    """
    image = np.empty((len(recipe.channels), *geometry.network_shape), dtype=np.float32)
    for prepared, (name, intensity) in zip(image, recipe.intensities.items(), strict=True):
        _prepare(channels[name], geometry, intensity, prepared)
    return image


def _prepare(scan: Volume, geometry: SliceGeometry, intensity: Intensity, prepared: npt.NDArray[np.float32]) -> None:
    """Fill `prepared`, of the geometry's `network_shape`, a few slices at a time: a large scan is not held twice."""
    if np.issubdtype(scan.array.dtype, np.floating) and not np.isfinite(scan.array).all():
        bad = int((~np.isfinite(scan.array)).sum())
        raise DataError(f"the scan holds {bad} NaN or infinite voxels; replace them before use")
    slices = geometry.of_volume(scan)
    scale = intensity.scale(slices)
    number, *plane = slices.shape
    in_plane = (number, *geometry.network_shape[1:])
    resized = prepared if prepared.shape == in_plane else np.empty(in_plane, dtype=np.float32)
    step = max(1, _VOXELS_AT_ONCE // math.prod(plane))
    for start in range(0, number, step):
        part = slice(start, start + step)
        resized[part] = resize_slices(scale.apply(slices[part]), geometry.network_shape[1:])
    if resized is not prepared:
        prepared[...] = resize_volume(resized, geometry.network_shape)


def require_contrast(image: npt.NDArray[Any], channels: Mapping[str, Volume], recipe: Recipe) -> None:
    """Refuse a prepared scan `[C, S, H, W]` with a channel whose voxels are all the same: nothing can be learned.

    Raises:
        DataError: it is so; the limits of the clip are named.
    """
    for slices, (name, intensity) in zip(image, recipe.intensities.items(), strict=True):
        if slices.min() == slices.max():
            of = f"channel {name}: " if len(recipe.channels) > 1 else ""
            raise DataError(
                f"{of}every voxel is the same after clipping at {intensity.describe_limits()}; the scan runs from "
                f"{channels[name].array.min():g} to {channels[name].array.max():g}. Is it in the unit of the others?"
            )


def label_slices(
    mask: Volume, geometry: SliceGeometry, scheme: LabelScheme, ignored: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.uint8]:
    """Cut and resize a label volume: class indices uint8 `[S, H, W]`, `IGNORED` where nothing is known.

    Values that share a name are merged; values that have no name become background.

    Args:
        mask: label volume.
        geometry: of the scan.
        scheme: what the values stand for.
        ignored: bool, of the mask's shape, voxels of which nothing is known.
    """
    classes = scheme.targets(geometry.of_volume(mask))
    if ignored is not None:
        classes[geometry.of_volume(mask.with_array(ignored))] = IGNORED
    return np.ascontiguousarray(resize_label_volume(classes, geometry.network_shape))
