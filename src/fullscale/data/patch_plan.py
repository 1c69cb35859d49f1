"""What suits a network of three dimensions: spacing, patch and levels, from what the scans are like.

Letters: axes are those of prepared voxels, across slices (feet to head), rows and columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

Sides = tuple[int, int, int]
Spacings = tuple[float, float, float]

CPU_PATCH_VOXELS = 48 << 10
"""Of the trials behind it: 32x48x32 voxels, two at a time, learned fastest per minute of one core."""
GPU_PATCH_VOXELS = 112**3
"""For 24 GiB of GPU memory, with two patches at a time."""
CPU_LEVELS, GPU_LEVELS = 4, 5
LARGEST = 1.25
"""How much larger than planned a patch may become by rounding its sides."""
LEAST_DEEPEST = 4
"""Voxels a side of the deepest map, at least."""

MOST_ANISOTROPIC = 3.0
"""From this ratio of slice distance to voxel size on, slices are shown one by one."""
FEWEST_SLICES = 16
MOST_PATCHES = 32
"""A CPU sees too little of a scan that holds more patches than this."""


class PatchShape(NamedTuple):
    """A patch, and the steps between the levels of a network that fits it.

    Attributes:
        sides: slices, rows and columns, each a multiple of its stride at the deepest level.
        strides: for each step from a level to the next, along each axis.
    """

    sides: Sides
    strides: tuple[Sides, ...]


def why_slices(shape: Sequence[float], spacing_mm: Spacings, on_cpu: bool) -> str | None:
    """Say why scans of this kind are better shown in slices; None where patches suit them.

    Args:
        shape: voxels of a median scan across slices, of rows and of columns.
        spacing_mm: their median distances.
        on_cpu: whether it will be trained on a CPU.
    """
    ratio, slices = spacing_mm[0] / min(spacing_mm[1:]), shape[0]
    if ratio > MOST_ANISOTROPIC:
        return f"slices lie {spacing_mm[0]:.3g} mm apart, {ratio:.2g} times the distance of voxels within them"
    if slices == 1:
        return "they are single images"
    if slices < FEWEST_SLICES:
        return f"the median scan has {slices:.0f} slices, fewer than {FEWEST_SLICES}"
    patches = math.prod(shape) / CPU_PATCH_VOXELS
    if on_cpu and patches > MOST_PATCHES:
        return (
            f"the median scan is {patches:.0f} times the patch that a CPU trains on quickly, so a patch would show "
            "little of it"
        )
    return None


def patch_shape(shape: Sequence[float], spacing_mm: Spacings, gpu_gib: float | None) -> PatchShape:
    """Choose a patch of the proportions of a scan, and how each level of the network halves it.

    An axis is halved as long as its voxels are less than twice as long as those of the finest axis, so that the coarser
    levels become isotropic, and the deepest map keeps at least `LEAST_DEEPEST` voxels a side. Of a scan too small for
    that, the longest side is halved.

    Args:
        shape: voxels of a median scan, at the spacing that it is resized to.
        spacing_mm: that spacing.
        gpu_gib: memory of the GPU that will train, or None for a CPU.
    """
    voxels = CPU_PATCH_VOXELS if gpu_gib is None else GPU_PATCH_VOXELS * gpu_gib / 24
    scale = min(1.0, (voxels / math.prod(shape)) ** (1 / 3))
    wanted = [side * scale for side in shape]
    strides = _strides(wanted, spacing_mm, CPU_LEVELS if gpu_gib is None else GPU_LEVELS)
    deepest = [math.prod(step[axis] for step in strides) for axis in range(3)]
    depth, rows, columns = (max(1, round(side / by)) * by for side, by in zip(wanted, deepest, strict=True))
    sides = [depth, rows, columns]
    while math.prod(sides) > LARGEST * voxels and sides != deepest:
        axis = max(
            (axis for axis in range(3) if sides[axis] > deepest[axis]), key=lambda axis: sides[axis] / wanted[axis]
        )
        sides[axis] -= deepest[axis]
    return PatchShape((sides[0], sides[1], sides[2]), strides)


def _strides(sides: Sequence[float], spacing_mm: Spacings, levels: int) -> tuple[Sides, ...]:
    left, spacing, steps = list(sides), list(spacing_mm), []
    for _ in range(levels - 1):
        roomy = [axis for axis in range(3) if left[axis] / 2 >= LEAST_DEEPEST - 0.5]
        possible = roomy or [max(range(3), key=lambda axis: left[axis])]
        finest = min(spacing[axis] for axis in possible)
        halved = {axis for axis in possible if spacing[axis] < 2 * finest}
        step = tuple(2 if axis in halved else 1 for axis in range(3))
        steps.append((step[0], step[1], step[2]))
        left = [side / by for side, by in zip(left, step, strict=True)]
        spacing = [mm * by for mm, by in zip(spacing, step, strict=True)]
    return tuple(steps)
