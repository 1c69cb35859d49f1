"""Encoders: an image in, five maps out, finest first. The paper's plain one, or any fitting timm backbone by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fullscale.errors import DataError, FullscaleError, UsageError
from fullscale.networks.blocks import ConvNormAct, initialise
from fullscale.text import first_line, nearest

LEVELS = 5
TIMM_STRIDES = (2, 4, 8, 16, 32)
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names under which model hubs keep the weights in a model's folder."""


class PlainEncoder(nn.Module):
    """The paper's encoder (its "VGG-16"): two 3x3 convolutions a level, max-pooling by 2 between levels.

    With 3 inputs and width 64 it has 18,851,136 parameters.

    Args:
        in_channels: channels C of the image.
        width: channels of the finest level; they double with each further one.

    Attributes:
        channels: of the five maps, finest first.
        strides: 1, 2, 4, 8, 16.
    """

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.channels = tuple(width * 2**level for level in range(LEVELS))
        self.strides = tuple(2**level for level in range(LEVELS))
        sources = (in_channels, *self.channels)
        self.levels = nn.ModuleList(
            nn.Sequential(ConvNormAct(source, out), ConvNormAct(out, out))
            for source, out in zip(sources, self.channels, strict=False)
        )
        initialise(self)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Take `[B, C, H, W]`, sides multiples of 16, to five maps `[B, channels[i], H / 2**i, W / 2**i]`."""
        maps: list[Tensor] = []
        for level in self.levels:
            maps.append(level(F.max_pool2d(maps[-1], kernel_size=2) if maps else image))
        return maps


class TimmEncoder(nn.Module):
    """A timm backbone that gives features at strides 2 to 32.

    Attributes:
        channels: of the five maps, finest first, as timm's feature_info has them.
        strides: 2, 4, 8, 16, 32.
    """

    def __init__(self, name: str, in_channels: int, pretrained: bool | str | Path) -> None:
        super().__init__()
        self.backbone = create_backbone(name, in_channels, pretrained)
        info = self.backbone.feature_info
        self.channels = tuple(info.channels()[-LEVELS:])
        self.strides = tuple(info.reduction()[-LEVELS:])
        if self.strides != TIMM_STRIDES:
            raise UsageError(
                f"encoder '{name}' gives features at strides {info.reduction()}: expected {list(TIMM_STRIDES)}; "
                "choose a backbone such as resnet34 or efficientnet_b0"
            )
        self._check_sizes(name, in_channels)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Take `[B, C, H, W]`, sides multiples of 32, to five maps `[B, channels[i], H / strides[i], ...]`."""
        return list(self.backbone(image)[-LEVELS:])

    @torch.no_grad()
    def _check_sizes(self, name: str, in_channels: int) -> None:
        side = 2 * self.strides[-1]
        expected = [[1, out, side // s, side // s] for out, s in zip(self.channels, self.strides, strict=True)]
        self.eval()
        try:
            found = [list(features.shape) for features in self(torch.zeros(1, in_channels, side, side))]
        except (RuntimeError, ValueError, AssertionError) as error:
            raise UsageError(f"encoder '{name}' refuses images of {side} pixels: {first_line(error)}") from error
        if found != expected:
            raise UsageError(f"encoder '{name}' gives maps {found} of {side} pixels: expected {expected}")
        self.train()


def create_encoder(
    name: str, in_channels: int, width: int = 64, pretrained: bool | str | Path = False
) -> PlainEncoder | TimmEncoder:
    """Build an encoder by name.

    Args:
        name: "plain", or a timm backbone ("resnet34") with features at strides 2, 4, 8, 16 and 32.
        in_channels: channels of the image.
        width: channels of the finest level of "plain"; a backbone has its own.
        pretrained: False draws weights and never touches the network; True lets timm fetch its own; a path reads a
            local file of the backbone's weights (.safetensors, or .pth without executable content), or a folder that
            holds one, as a download from a model hub does.

    Raises:
        UsageError: unknown name, features at other strides, a backbone of fixed input size, "plain" pretrained.
        DataError: the file of weights cannot be read or is of another backbone.
        FullscaleError: timm's weights cannot be fetched.
    """
    if name != "plain":
        return TimmEncoder(name, in_channels, pretrained)
    if pretrained:
        raise UsageError("encoder 'plain' has no pretrained weights: use pretrained=False or a timm backbone")
    return PlainEncoder(in_channels, width)


def create_backbone(name: str, in_channels: int, pretrained: bool | str | Path, **options: Any) -> Any:
    """Build a timm backbone that gives features.

    Args:
        name: of the backbone.
        in_channels: channels of the image.
        pretrained: see `create_encoder`.
        options: of the backbone, such as `output_stride=8`.

    Raises:
        UsageError: unknown name, no features, an option it does not take, a fixed input size.
        DataError: the file of weights cannot be read or is of another backbone.
        FullscaleError: timm's weights cannot be fetched.
    """
    check_backbone(name)
    if isinstance(pretrained, bool):
        return (_fetch_backbone if pretrained else _build_backbone)(name, in_channels, **options)
    return _load_backbone(name, in_channels, Path(pretrained), **options)


def check_backbone(name: str) -> None:
    """Refuse what is not the name of a timm backbone that takes images of any size.

    Raises:
        UsageError: it is none.
    """
    import timm

    if name == "plain":
        raise UsageError("encoder 'plain' cannot be dilated: give this network a timm backbone such as resnet101")
    if not timm.is_model(name):
        raise UsageError(f"encoder '{name}' is unknown{nearest(name, timm.list_models())}")
    try:
        default = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise UsageError(f"encoder '{name}' is unknown to timm: {first_line(error)}") from error
    if default is not None and default.fixed_input_size:
        raise UsageError(f"encoder '{name}' takes images of one size only: choose a convolutional backbone")


def _build_backbone(name: str, in_channels: int, **options: Any) -> Any:
    import timm

    try:
        return timm.create_model(name, features_only=True, in_chans=in_channels, **options)
    except (RuntimeError, TypeError, AttributeError, AssertionError) as error:
        if options.get("pretrained"):
            raise
        how = f" with {', '.join(f'{key}={value}' for key, value in options.items())}" if options else ""
        raise UsageError(f"encoder '{name}' gives no features at several strides{how}: {first_line(error)}") from error


def _fetch_backbone(name: str, in_channels: int, **options: Any) -> Any:
    try:
        return _build_backbone(name, in_channels, pretrained=True, **options)
    except Exception as error:
        raise FullscaleError(
            f"pretrained weights of '{name}' cannot be fetched ({first_line(error)}): where there is no network, "
            "give pretrained=PATH of a local .safetensors or .pth file, or of the folder that holds it"
        ) from error


def _load_backbone(name: str, in_channels: int, path: Path, **options: Any) -> Any:
    """Load a local file through timm, which renames old keys and adapts the first convolution to the channels.

    timm passes over keys that the file does not hold. So the backbone is built twice: a weight that comes out
    different was drawn at random, not read.
    """
    options |= {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": read_state_dict(path)}}
    try:
        backbone = _build_backbone(name, in_channels, **options)
        with torch.random.fork_rng(devices=[]):
            again = _build_backbone(name, in_channels, **options)
    except Exception as error:
        raise DataError(f"{path} does not hold weights of '{name}': {first_line(error)}") from error
    twin = again.state_dict()
    drawn = [key for key, value in backbone.state_dict().items() if not torch.equal(value, twin[key])]
    if drawn:
        raise DataError(f"{path} does not hold weights of '{name}': {len(drawn)} are missing, first '{drawn[0]}'")
    backbone.pretrained_cfg.pop("state_dict", None)
    return backbone


def read_state_dict(path: str | Path) -> dict[str, Any]:
    """Read a file of weights without executing anything in it, free of a wrapper and of DataParallel's prefix.

    Args:
        path: a .safetensors file, one written by `torch.save`, or a folder with one of `HUB_FILES`.

    Raises:
        DataError: no such file, unreadable, or not a dictionary of weights.
    """
    path = Path(path)
    if path.is_dir():
        path = next((path / name for name in HUB_FILES if (path / name).is_file()), path / HUB_FILES[0])
    if not path.is_file():
        raise DataError(f"{path} is not there: expected a .safetensors or .pth file of weights")
    try:
        state = _read(path)
    except Exception as error:
        raise DataError(
            f"{path} cannot be read as weights ({first_line(error)}): expected .safetensors, or a state dict saved "
            "by torch without other objects"
        ) from error
    return unwrap_state_dict(state, str(path))


def unwrap_state_dict(state: Any, source: str = "state dict") -> dict[str, Any]:
    """Take a state dict out of a checkpoint's `{"state_dict": ...}` and strip DataParallel's `module.` prefix.

    Raises:
        DataError: not a dictionary with names as keys; `source` says in the message what was read.
    """
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not state or not all(isinstance(key, str) for key in state):
        raise DataError(f"{source} holds no state dict ({type(state).__name__}): expected weights by name")
    if all(key.startswith("module.") for key in state):
        return {key.removeprefix("module."): value for key, value in state.items()}
    return dict(state)


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)
