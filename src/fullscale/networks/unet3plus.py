"""UNet 3+ (Huang et al., ICASSP 2020): every decoder level sees every scale.

Letters: B batch, H W the input's size, C encoder channels of a level, S skip channels (64 in the paper), F = 5 S.
Levels are counted from the finest, 0 here and 1 in the paper, to the deepest, 4 here and 5 in the paper.

One list of maps, finest first, is walked from coarse to fine, each entry replaced as it is decoded: at every step the
finer entries are still encoder maps, the coarser ones already decoded, which is just what the next level fuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from fullscale.errors import UsageError
from fullscale.networks.base import crop, pad_to_stride, training_output
from fullscale.networks.blocks import ConvNorm, ConvNormAct, Head, check_image, initialise, require_positive
from fullscale.networks.encoders import LEVELS, create_encoder
from fullscale.networks.guidance import TRAINING_ABSENT_LOGIT, Guidance, count_structures, decode_present, gate
from fullscale.networks.kernels.fusion import fuse_scales
from fullscale.networks.kernels.recompute import recompute
from fullscale.networks.protocol import SegmentationOutput


class DecoderLevel(nn.Module):
    """One decoder level (equation 1): five maps brought to its scale, S channels each, fused to F = 5 S.

    Args:
        level: counted from the finest, 0.
        channels: of the five maps, finest first.
        skip_channels: S.
        gradient_checkpointing: see `fuse_scales`.
    """

    def __init__(
        self, level: int, channels: Sequence[int], skip_channels: int, gradient_checkpointing: bool = False
    ) -> None:
        super().__init__()
        self.skips = nn.ModuleList(
            ConvNorm(source_channels, skip_channels, log2_scale=source - level)
            for source, source_channels in enumerate(channels)
        )
        self.fuse = ConvNormAct(LEVELS * skip_channels, LEVELS * skip_channels)
        self.gradient_checkpointing = gradient_checkpointing

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Fuse five maps, finest first, into `[B, F, h, w]`, the size of the map at this level."""
        return fuse_scales(maps, cast("Sequence[ConvNorm]", self.skips), self.fuse, self.gradient_checkpointing)


class UNet3Plus(nn.Module):
    """UNet 3+ with deep supervision and classification guidance.

    Any input size is taken: the image is padded to the right and below, its last row and column repeated, to a
    multiple of the deepest stride (16 for "plain", 32 for a timm backbone), and the logits are cropped back. A graph
    made by `torch.export` with free sizes (`Dim.DYNAMIC`) takes every size of more than one stride a side.

    With 3 inputs and 1 class the paper's network has 26,971,777 parameters, 26,989,637 supervised, 26,991,687 guided.

    Args:
        in_channels: channels of the image.
        classes: 1 for sigmoid; more for softmax with background as class 0.
        spatial_dims: 2, for images `[B, C, H, W]`.
        encoder: "plain", the paper's, or the name of a timm backbone; see `encoders.create_encoder`.
        width: channels of the finest level of the plain encoder; they double with each further level.
        skip_channels: S, channels of each of the five skips of a level.
        deep_supervision: in training, logits from all five levels and not the finest alone.
        classification_guided: tell from the deepest map which structures an image holds, and gate the others.
        pretrained: False, True, or a file of weights for the timm backbone; see `encoders.create_encoder`.
        gate_in_training: gate the training logits too, as the paper does, by the prediction.
        gradient_checkpointing: in training, keep only the maps of each level and compute the rest again in the backward
            pass: the same gradients from less memory, in more time. On a CPU in full precision the decoder keeps
            little anyway, and only the encoder is computed again.

    Raises:
        UsageError: a number below 1, other spatial dimensions, an encoder that does not fit, gate_in_training without
            guidance.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        spatial_dims: int = 2,
        encoder: str = "plain",
        width: int = 64,
        skip_channels: int = 64,
        deep_supervision: bool = True,
        classification_guided: bool = True,
        pretrained: bool | str | Path = False,
        gate_in_training: bool = False,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        require_positive(in_channels=in_channels, classes=classes, width=width, skip_channels=skip_channels)
        require_two_dimensions(spatial_dims)
        if gate_in_training and not classification_guided:
            raise UsageError("gate_in_training=True needs classification_guided=True: without it nothing is gated")
        self.in_channels, self.classes, self.spatial_dims = in_channels, classes, spatial_dims
        self.gate_in_training = gate_in_training
        self.gradient_checkpointing = gradient_checkpointing
        self.encoder = create_encoder(encoder, in_channels, width, pretrained)
        self.stride = self.encoder.strides[-1]

        encoded = self.encoder.channels
        decoded = (LEVELS * skip_channels,) * (LEVELS - 1) + encoded[-1:]
        self.decoders = nn.ModuleList(
            DecoderLevel(level, encoded[: level + 1] + decoded[level + 1 :], skip_channels, gradient_checkpointing)
            for level in range(LEVELS - 1)
        )
        supervised = decoded if deep_supervision else decoded[:1]
        self.heads = nn.ModuleList(Head(source, classes) for source in supervised)
        self.num_supervised = len(self.heads)
        self.guidance = Guidance(encoded[-1], count_structures(classes)) if classification_guided else None
        initialise(self.decoders)
        initialise(self.heads)

    def forward(self, image: Tensor) -> Tensor | SegmentationOutput:
        """Segment images `[B, in_channels, H, W]`.

        Returns:
            In evaluation mode logits `[B, classes, H, W]`, absent structures gated to a probability of exactly 0. An
            image in which guidance finds no structure at all is not decoded: its background logit is 0.
            In training mode a `SegmentationOutput`: logits of every supervised level at the input's size, finest first,
            and presence `[B, structures, 2]`. With one supervised level and without guidance, its logits.

        Raises:
            UsageError: the image has another rank, another number of channels, or integer values.
        """
        maps, presence = self._encode(image)
        if not self.training:
            shape = (image.shape[0], self.classes, *image.shape[2:])
            return decode_present(lambda maps: self._logits(0, self._decode(maps), image), maps, presence, shape)
        maps = self._decode(maps)
        logits = [self._logits(level, maps, image) for level in range(len(self.heads))]  # [B, classes, H, W] each
        if self.gate_in_training:
            logits = [gate(level_logits, presence, TRAINING_ABSENT_LOGIT) for level_logits in logits]
        return training_output(logits, presence)

    def segment(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the finest logits `[B, classes, H, W]` before any gating, and presence `[B, structures, 2]` or None.

        Raises:
            UsageError: the image has another rank, another number of channels, or integer values.
        """
        maps, presence = self._encode(image)
        return self._logits(0, self._decode(maps), image), presence

    def _encode(self, image: Tensor) -> tuple[list[Tensor], Tensor | None]:
        check_image(image, self.in_channels)
        padded = pad_to_stride(image, self.stride, self.training)
        maps = recompute(self.encoder, [padded], [self.encoder], self.gradient_checkpointing)  # five [B, C, h, w]
        return maps, None if self.guidance is None else self.guidance(maps[-1])  # [B, structures, 2]

    def _decode(self, maps: list[Tensor]) -> list[Tensor]:
        maps = list(maps)
        for level in reversed(range(LEVELS - 1)):
            maps[level] = self.decoders[level](maps)  # [B, F, h, w]
        return maps

    def _logits(self, level: int, maps: list[Tensor], image: Tensor) -> Tensor:
        logits: Tensor = self.heads[level](maps[level])
        stride = self.encoder.strides[level]
        if stride > 1:
            logits = F.interpolate(logits, scale_factor=float(stride), mode="bilinear", align_corners=False)
        return crop(logits, image.shape[-2], image.shape[-1])


def require_two_dimensions(spatial_dims: int) -> None:
    """Refuse volumes.

    Raises:
        UsageError: spatial_dims is not 2.
    """
    if spatial_dims != 2:
        raise UsageError(f"spatial_dims is {spatial_dims!r}: expected 2; volumes are segmented slice by slice")
