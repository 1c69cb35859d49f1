"""Backbones of timm by name, with fresh weights, timm's own, or those of a local file. Home of timm."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

import torch

from fullscale.errors import DataError, FullscaleError, UsageError
from fullscale.extras import needs
from fullscale.networks.kernels.strided import widen_strided
from fullscale.networks.state_dicts import read_state_dict
from fullscale.text import first_line

EXAMPLES = "one such as resnet34, efficientnet_b0, convnext_tiny or swin_tiny_patch4_window7_224"

OFFERED = 4
"""Names that are offered at most for one that is unknown."""


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
    """Refuse what is not the name of a timm backbone.

    Raises:
        UsageError: it is none; the nearest name is offered, also for names as other libraries write them.
    """
    with needs("backbones", "encoders by name, such as resnet34,"):
        import timm

    if not timm.is_model(name):
        raise UsageError(f"encoder '{name}' is unknown{_nearest_backbone(name)}")
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise UsageError(f"encoder '{name}' is unknown to timm: {first_line(error)}") from error


def check_dilatable(name: str) -> None:
    """Refuse what is not the name of a timm backbone, or of one that takes images of one size; those have no strides.

    Raises:
        UsageError: it is none.
    """
    if name == "plain":
        raise UsageError("encoder 'plain' cannot be dilated: give this network a timm backbone such as resnet101")
    check_backbone(name)
    if _has_one_size(name):
        raise UsageError(f"encoder '{name}' takes images of one size only: choose a backbone such as resnet101")


def _has_one_size(name: str) -> bool:
    import timm

    default = timm.get_pretrained_cfg(name)
    return default is not None and bool(default.fixed_input_size)


def _nearest_backbone(name: str) -> str:
    """Offer what differs in case, dashes or another library's prefix only, else what begins so, else the closest."""
    import timm

    known = {_squash(model): model for model in timm.list_models()}
    squashed = _squash(re.sub(r"^(timm-|tu-|(hf-hub:)?timm/)", "", name))
    close = [squashed] if squashed in known else [model for model in known if squashed and model.startswith(squashed)]
    close = close[:OFFERED] or difflib.get_close_matches(squashed, known, n=1)
    if not close:
        return f": expected {EXAMPLES}, a name of timm.list_models()"
    return f"; did you mean {' or '.join(repr(known[model]) for model in close)}?"


def _squash(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _build_backbone(name: str, in_channels: int, **options: Any) -> Any:
    """Build a backbone for images of any size.

    A backbone of windows is built for one size, and takes any only when told so.
    """
    import timm

    if _has_one_size(name):
        options |= {"strict_img_size": False}
    try:
        backbone = timm.create_model(name, features_only=True, in_chans=in_channels, **options)
        widen_strided(backbone)
        return backbone
    except (RuntimeError, TypeError, AttributeError, AssertionError) as error:
        if "strict_img_size" in str(error):
            raise UsageError(f"encoder '{name}' takes images of one size only: choose {EXAMPLES}") from error
        if options.get("pretrained"):
            raise
        how = f" with {', '.join(f'{key}={value}' for key, value in options.items())}" if options else ""
        raise UsageError(f"encoder '{name}' gives no features at several strides{how}: {first_line(error)}") from error


def _fetch_backbone(name: str, in_channels: int, **options: Any) -> Any:
    try:
        return _build_backbone(name, in_channels, pretrained=True, **options)
    except UsageError:
        raise
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
    except UsageError:
        raise
    except Exception as error:
        raise DataError(f"{path} does not hold weights of '{name}': {first_line(error)}") from error
    twin = again.state_dict()
    drawn = [key for key, value in backbone.state_dict().items() if not torch.equal(value, twin[key])]
    if drawn:
        raise DataError(f"{path} does not hold weights of '{name}': {len(drawn)} are missing, first '{drawn[0]}'")
    backbone.pretrained_cfg.pop("state_dict", None)
    return backbone
