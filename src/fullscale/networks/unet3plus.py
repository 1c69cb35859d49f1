"""UNet 3+ (Huang et al., ICASSP 2020): every decoder level sees every scale. In 2D as the paper has it, and in 3D.

Letters: B batch, N levels (5 in the paper), C encoder channels of a level, S skip channels (64 in the paper), F = N S
channels of a decoded map, `...` a map's size: H W, or D H W in a volume. Levels are counted from the finest, 0 here and
1 in the paper, to the deepest.

One list of maps, finest first, is walked from coarse to fine, each entry replaced as it is decoded: at every step the
finer entries are still encoder maps, the coarser ones already decoded, which is just what the next level fuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from torch import Tensor, nn

from fullscale.errors import UsageError
from fullscale.networks.base import crop, pad_to_stride, training_output
from fullscale.networks.blocks import (
    Normalization,
    initialise,
    require_normalization,
    require_positive,
)
from fullscale.networks.encoders import LEVELS, Downsampling, create_encoder
from fullscale.networks.guidance import TRAINING_ABSENT_LOGIT, Guidance, count_structures, decode_present, gate
from fullscale.networks.heads import create_head
from fullscale.networks.kernels.recompute import recompute
from fullscale.networks.protocol import SegmentationOutput
from fullscale.networks.skips import Fusion, create_level
from fullscale.networks.spatial import check_image, log2_scale, require_levels, require_spatial_dims, upsample


class UNet3Plus(nn.Module):
    """UNet 3+ with deep supervision and classification guidance.

    Any input size is taken: the image is padded to the right and below, its last row and column repeated, to a
    multiple of the deepest stride (16 for "plain", 32 for a timm backbone), and the logits are cropped back; a volume
    likewise at the end of each axis. A graph made by `torch.export` with free sizes (`Dim.DYNAMIC`) takes every size of
    more than one stride a side.

    With 3 inputs and 1 class the paper's network has 26,971,777 parameters, 26,989,637 supervised, 26,991,687 guided.

    Args:
        in_channels: channels of the image or volume.
        classes: 1 for sigmoid; more for softmax with background as class 0; or of structures that overlap, a sigmoid
            for each and no background.
        spatial_dims: 2 for images `[B, C, H, W]`, 3 for volumes `[B, C, D, H, W]`.
        encoder: "plain", the paper's, or the name of a timm backbone, for images; see `encoders.create_encoder`.
        width: channels of the finest level of the plain encoder; they double with each further level.
        skip_channels: S, channels of each of the N skips of a level.
        deep_supervision: in training, logits from all levels and not the finest alone.
        classification_guided: tell from the deepest map which structures an image holds, and gate the others.
        pretrained: False, True, or a file of weights for the timm backbone; see `encoders.create_encoder`.
        gate_in_training: gate the training logits too, as the paper does, by the prediction.
        gradient_checkpointing: in training, keep only the maps of each level and compute the rest again in the backward
            pass: the same gradients from less memory, in more time. On a CPU in full precision the decoder keeps
            little anyway, and only the encoder is computed again.
        levels: N, 2 to 6.
        strides: of each step from a level to the next, one number an axis, such as (1, 2, 2) where slices lie far
            apart; default 2.
        normalization: "batch", the paper's, or "instance".
        downsampling: "pool", the paper's, or "stride": the first convolution of a level takes the step.
        max_width: the most channels that a level of the encoder gets.
        fusion: "paper"; "reduce": each map is reduced to S channels before it is brought up; "refine": so is each but
            the level's own, and what is fused is convolved once more; "sum": maps are convolved to the channels of the
            level and added. In all but the paper's a decoded map has the channels of its level.
        structures: how many guidance speaks of: `classes` where none of them is background, as of structures that
            overlap; default all but the background.

    Raises:
        UsageError: an impossible number, an encoder or strides that do not fit, an unknown word, gate_in_training
            without guidance.
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
        levels: int = LEVELS,
        strides: Sequence[Sequence[int]] | None = None,
        normalization: Normalization = "batch",
        downsampling: Downsampling = "pool",
        max_width: int | None = None,
        fusion: Fusion = "paper",
        structures: int | None = None,
    ) -> None:
        super().__init__()
        require_positive(in_channels=in_channels, classes=classes, width=width, skip_channels=skip_channels)
        require_spatial_dims(spatial_dims)
        require_levels(levels)
        require_normalization(normalization, "batch", "instance")
        require_fusion(fusion)
        if gate_in_training and not classification_guided:
            raise UsageError("gate_in_training=True needs classification_guided=True: without it nothing is gated")
        self.in_channels, self.classes, self.spatial_dims = in_channels, classes, spatial_dims
        self.gate_in_training = gate_in_training
        self.gradient_checkpointing = gradient_checkpointing
        plain = (spatial_dims, levels, strides, normalization, downsampling, max_width)
        self.encoder = create_encoder(encoder, in_channels, width, pretrained, *plain)
        self.stride = self.encoder.strides[-1]

        encoded, sizes = self.encoder.channels, self.encoder.strides
        fused = (levels * skip_channels,) * (levels - 1) if fusion == "paper" else encoded[:-1]
        decoded = (*fused, encoded[-1])
        self.decoders = nn.ModuleList(
            create_level(
                fusion,
                [log2_scale(size, sizes[level]) for size in sizes],
                encoded[: level + 1] + decoded[level + 1 :],
                skip_channels,
                decoded[level],
                normalization,
                gradient_checkpointing,
            )
            for level in range(levels - 1)
        )
        supervised = decoded if deep_supervision else decoded[:1]
        self.heads = nn.ModuleList(create_head(source, classes, spatial_dims) for source in supervised)
        self.num_supervised = len(self.heads)
        structures = count_structures(classes) if structures is None else structures
        if structures not in (classes, count_structures(classes)):
            raise UsageError(f"structures is {structures}: expected {classes}, or one less for a background")
        self.guidance = Guidance(encoded[-1], structures, spatial_dims) if classification_guided else None
        initialise(self.decoders)
        initialise(self.heads)

    def forward(self, image: Tensor) -> Tensor | SegmentationOutput:
        """Segment images or volumes `[B, in_channels, ...]`.

        Returns:
            In evaluation mode logits `[B, classes, ...]`, absent structures gated to a probability of exactly 0. An
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
        logits = [self._logits(level, maps, image) for level in range(len(self.heads))]  # [B, classes, ...] each
        if self.gate_in_training:
            logits = [gate(level_logits, presence, TRAINING_ABSENT_LOGIT) for level_logits in logits]
        return training_output(logits, presence)

    def segment(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the finest logits `[B, classes, ...]` before any gating, and presence `[B, structures, 2]` or None.

        Raises:
            UsageError: the image has another rank, another number of channels, or integer values.
        """
        logits, presence, _ = self.segment_with_maps(image)
        return logits, presence

    def segment_with_maps(self, image: Tensor) -> tuple[Tensor, Tensor | None, list[Tensor]]:
        """Return what `segment` does, and the encoder's maps `[B, C, ...]`, all that the decoder works on."""
        maps, presence = self._encode(image)
        return self._logits(0, self._decode(maps), image), presence, maps

    def _encode(self, image: Tensor) -> tuple[list[Tensor], Tensor | None]:
        check_image(image, self.in_channels, self.spatial_dims)
        padded = pad_to_stride(image, self.stride, self.training)
        maps = recompute(self.encoder, [padded], [self.encoder], self.gradient_checkpointing)  # [B, C, ...] each
        return maps, None if self.guidance is None else self.guidance(maps[-1])  # [B, structures, 2]

    def _decode(self, maps: list[Tensor]) -> list[Tensor]:
        maps = list(maps)
        for level in reversed(range(len(self.decoders))):
            maps[level] = self.decoders[level](maps)  # [B, F, ...]
        return maps

    def _logits(self, level: int, maps: list[Tensor], image: Tensor) -> Tensor:
        logits: Tensor = self.heads[level](maps[level])
        return crop(upsample(logits, self.encoder.strides[level]), image.shape[2:])


def require_fusion(fusion: str) -> None:
    """Refuse what is no `Fusion`.

    Raises:
        UsageError: it is unknown.
    """
    if fusion not in get_args(Fusion):
        raise UsageError(f"fusion is {fusion!r}: expected {', '.join(get_args(Fusion))}")
