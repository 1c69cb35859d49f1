"""What differs between images and volumes, once: torch's layers, the names of the axes, and strides along each.

Letters: B batch, C channels, H W the size of an image, D H W that of a volume: D from feet to head, H from back to
front, W from left to right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from fullscale.errors import UsageError
from fullscale.networks.kernels.pool import max_pool
from fullscale.networks.kernels.upsample import matrices_apply, upsample_by_matrices

VOLUMETRIC = ("unet3+", "unet", "unet++", "attention-unet", "strided-unet")
"""Networks of our own that take volumes too."""


class Layers(NamedTuple):
    """Torch's layers for maps of so many axes, its word for linear interpolation, and the axes' names."""

    conv: Callable[..., nn.Conv2d | nn.Conv3d]
    conv_transpose: Callable[..., nn.ConvTranspose2d | nn.ConvTranspose3d]
    batch_norm: Callable[..., nn.BatchNorm2d | nn.BatchNorm3d]
    linear: str
    axes: tuple[str, ...]


LAYERS = {
    2: Layers(nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, "bilinear", ("height", "width")),
    3: Layers(nn.Conv3d, nn.ConvTranspose3d, nn.BatchNorm3d, "trilinear", ("depth", "height", "width")),
}


def require_spatial_dims(spatial_dims: int) -> None:
    """Refuse anything but images and volumes.

    Raises:
        UsageError: spatial_dims is neither 2 nor 3.
    """
    if isinstance(spatial_dims, bool) or spatial_dims not in LAYERS:
        raise UsageError(f"spatial_dims is {spatial_dims!r}: expected 2 for images or 3 for volumes")


def require_images(network: str, spatial_dims: int) -> None:
    """Refuse volumes.

    Raises:
        UsageError: spatial_dims is not 2.
    """
    if isinstance(spatial_dims, bool) or spatial_dims != 2:
        raise UsageError(
            f"spatial_dims is {spatial_dims!r}: {network} is for images, spatial_dims=2; those that take volumes are "
            f"{', '.join(VOLUMETRIC)}"
        )


def check_image(image: Tensor, in_channels: int, spatial_dims: int) -> None:
    """Refuse what is not a batch of images `[B, in_channels, H, W]` or volumes `[B, in_channels, D, H, W]`.

    Raises:
        UsageError: another rank or number of channels, an empty side, or integer values.
    """
    if image.ndim != 2 + spatial_dims or image.shape[1] != in_channels:
        axes = ", ".join(LAYERS[spatial_dims].axes)
        raise UsageError(f"image has shape {list(image.shape)}: expected [batch, {in_channels}, {axes}]")
    if any(side < 1 for side in image.shape[2:]):
        raise UsageError(f"image has shape {list(image.shape)}: expected at least one pixel a side")
    if not image.is_floating_point():
        raise UsageError(f"image has dtype {image.dtype}: expected floating point, normalised")


def over_space(flags: Tensor, like: Tensor) -> Tensor:
    """See flags `[B]` or `[B, C]` as of the rank of a map `[B, C, ...]`, the same everywhere in it."""
    return flags.reshape(flags.shape + (1,) * (like.ndim - flags.ndim))


def upsample(x: Tensor, factors: Sequence[int]) -> Tensor:
    """Bring a map to so many times its size along each axis: linear, `align_corners=False`."""
    if all(factor == 1 for factor in factors):
        return x
    if matrices_apply(x, factors):
        return upsample_by_matrices(x, factors)
    linear = LAYERS[len(factors)].linear
    return F.interpolate(x, scale_factor=[float(factor) for factor in factors], mode=linear, align_corners=False)


def resize(x: Tensor, log2_scale: Sequence[int]) -> Tensor:
    """Resize a map by `2**log2_scale` along each axis, all of one sign.

    Linear upwards, non-overlapping max-pooling downwards.
    """
    if max(log2_scale) > 0:
        return upsample(x, [2**number for number in log2_scale])
    if min(log2_scale) < 0:
        return max_pool(x, [2**-number for number in log2_scale])
    return x


def require_levels(levels: int) -> None:
    """Refuse a number of levels that no network here has.

    Raises:
        UsageError: it is not 2 to 6.
    """
    if isinstance(levels, bool) or levels not in range(2, 7):
        raise UsageError(f"levels is {levels!r}: expected 2 to 6")


def step_between(finer: Sequence[int], coarser: Sequence[int]) -> tuple[int, ...]:
    """Return by how much a coarser level is coarser than a finer one along each axis, from the strides of both."""
    return tuple(deep // shallow for deep, shallow in zip(coarser, finer, strict=True))


def log2_scale(of: Sequence[int], onto: Sequence[int]) -> tuple[int, ...]:
    """Return how often a map is doubled, or halved if negative, to reach another's size; from the strides of both."""
    return tuple(there.bit_length() - here.bit_length() for there, here in zip(of, onto, strict=True))


def step_strides(
    strides: Sequence[Sequence[int]] | None, levels: int, spatial_dims: int
) -> tuple[tuple[int, ...], ...]:
    """Return the stride of each step from a level to the next, one number an axis: 2 throughout where none is given.

    Raises:
        UsageError: there is not one stride a step, or one is not of 1 and 2 for each axis with a 2 among them; an
            image's differ from axis to axis.
    """
    if strides is None:
        return ((2,) * spatial_dims,) * (levels - 1)
    steps = tuple(tuple(step) for step in strides)
    if len(steps) != levels - 1:
        raise UsageError(f"strides has {len(steps)} steps for {levels} levels: expected {levels - 1}, one a step")
    for step in steps:
        fits = len(step) == spatial_dims and set(step) <= {1, 2} and 2 in step
        if not fits or (spatial_dims == 2 and 1 in step):
            expected = "2, 2" if spatial_dims == 2 else "1 or 2 for each of depth, height and width, not all 1"
            raise UsageError(f"strides has the step {list(step)}: expected {expected}")
    return steps


def level_strides(steps: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """Return input voxels per voxel at every level, one number an axis, from the steps between levels."""
    strides = [(1,) * len(steps[0])]
    for step in steps:
        strides.append(tuple(stride * factor for stride, factor in zip(strides[-1], step, strict=True)))
    return tuple(strides)
