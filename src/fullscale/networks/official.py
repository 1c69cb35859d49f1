"""Weights written by the authors' own code, read strictly and brought into this module's names.

Their names, with i the level decoded and k the level it draws from, both 1 (finest) to 5:
`conv{k}.conv{1,2}.{0,1}` the encoder's convolutions and norms; `h{k}_PT_hd{i}` (k < i, pooled), `h{i}_Cat_hd{i}` and
`hd{k}_UT_hd{i}` (k > i, up-sampled) the skips, each `_conv` and `_bn`; `conv{i}d_1`, `bn{i}d_1` the fusion;
`outconv{i}` the heads; `cls.1` the 1x1 convolution of the guidance.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from fullscale.errors import DataError
from fullscale.networks.encoders import LEVELS
from fullscale.networks.state_dicts import read_state_dict, unwrap_state_dict
from fullscale.networks.unet3plus import UNet3Plus

Variant = Literal["plain", "supervised", "guided"]

_CONV = ("weight", "bias")
_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class OfficialNetwork:
    """Which of the authors' networks a state dict belongs to.

    Attributes:
        variant: "plain" (one head), "supervised" (five), or "guided" (five, and the classification).
        in_channels: channels of its images.
        classes: channels of its logits.
        width: channels of the finest encoder level, 64 in the paper.
        skip_channels: channels of each skip, 64 in the paper.
        keys: entries of the state dict.
    """

    variant: Variant
    in_channels: int
    classes: int
    width: int
    skip_channels: int
    keys: int

    def options(self) -> dict[str, Any]:
        """Return the arguments of `UNet3Plus` (or `create_network("unet3+", ...)`) that build this network."""
        return {
            "in_channels": self.in_channels,
            "classes": self.classes,
            "width": self.width,
            "skip_channels": self.skip_channels,
            "deep_supervision": self.variant != "plain",
            "classification_guided": self.variant == "guided",
        }

    def __str__(self) -> str:
        return (
            f"UNet 3+ {self.variant}: {self.in_channels} input channels, {self.classes} classes, "
            f"width {self.width}, {self.skip_channels} skip channels, {self.keys} keys"
        )


def translate_state_dict(state: dict[str, Any]) -> tuple[dict[str, Tensor], OfficialNetwork]:
    """Rename the weights of the authors' code for `UNet3Plus`.

    Args:
        state: their state dict; a `{"state_dict": ...}` wrapper and a `module.` prefix are taken off.

    Returns:
        The state dict of `UNet3Plus(**network.options())`, and that network's description.

    Raises:
        DataError: a key is missing or unexpected, or a weight has another shape; the first is named.
    """
    state = unwrap_state_dict(state)
    variant = _find_variant(state)
    names = _official_names(variant)
    _check_keys(state, list(names.values()))
    network = _describe(state, variant)
    with torch.device("meta"):
        expected = UNet3Plus(**network.options()).state_dict()
    translated = {ours: state[theirs] for ours, theirs in names.items()}
    _check_shapes(translated, expected, names)
    return translated, network


def load_official(path: str | Path) -> UNet3Plus:
    """Build the network whose weights a file of the authors' code holds, in evaluation mode.

    Raises:
        DataError: the file is missing, cannot be read safely, or is no UNet 3+ of the authors'.
    """
    state, network = read_official(path)
    model = UNet3Plus(**network.options())
    model.load_state_dict(state, strict=True)
    return model.eval()


def read_official(path: str | Path) -> tuple[dict[str, Tensor], OfficialNetwork]:
    """Read a file of the authors' code as `translate_state_dict` does.

    Raises:
        DataError: the file is missing, cannot be read safely, or is no UNet 3+ of the authors'.
    """
    state = read_state_dict(path)
    try:
        return translate_state_dict(state)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _find_variant(state: dict[str, Any]) -> Variant:
    if any(key.startswith("cls.") for key in state):
        return "guided"
    return "supervised" if any(f"outconv{level}.weight" in state for level in range(2, LEVELS + 1)) else "plain"


def _official_names(variant: Variant) -> dict[str, str]:
    """Map every key of our state dict to theirs: 240 for plain, 248 supervised, 250 guided."""
    modules = _encoder_names() | _decoder_names()
    names = {f"{ours}.conv.{part}": f"{conv}.{part}" for ours, (conv, _) in modules.items() for part in _CONV}
    names |= {f"{ours}.norm.{part}": f"{norm}.{part}" for ours, (_, norm) in modules.items() for part in _NORM}
    heads = 1 if variant == "plain" else LEVELS
    names |= {f"heads.{level}.{part}": f"outconv{level + 1}.{part}" for level in range(heads) for part in _CONV}
    if variant == "guided":
        names |= {f"guidance.conv.{part}": f"cls.1.{part}" for part in _CONV}
    return names


def _encoder_names() -> dict[str, tuple[str, str]]:
    return {
        f"encoder.levels.{k - 1}.{n - 1}": (f"conv{k}.conv{n}.0", f"conv{k}.conv{n}.1")
        for k in range(1, LEVELS + 1)
        for n in (1, 2)
    }


def _decoder_names() -> dict[str, tuple[str, str]]:
    names = {}
    for i in range(1, LEVELS):
        for k in range(1, LEVELS + 1):
            skip = f"h{k}_PT_hd{i}" if k < i else f"h{i}_Cat_hd{i}" if k == i else f"hd{k}_UT_hd{i}"
            names[f"decoders.{i - 1}.skips.{k - 1}"] = (f"{skip}_conv", f"{skip}_bn")
        names[f"decoders.{i - 1}.fuse"] = (f"conv{i}d_1", f"bn{i}d_1")
    return names


def _check_keys(state: dict[str, Any], expected: list[str]) -> None:
    known = set(expected)
    missing = [key for key in expected if key not in state]
    unexpected = [key for key in state if key not in known]
    for fault, keys in (("missing", missing), ("unexpected", unexpected)):
        if keys:
            raise DataError(
                f"not a UNet 3+ of the authors' code: {len(keys)} keys are {fault}, first '{keys[0]}' "
                f"({len(state)} keys read, {len(expected)} expected)"
            )
    for key in expected:
        if not isinstance(state[key], Tensor):
            raise DataError(f"'{key}' is a {type(state[key]).__name__}: expected a tensor")


def _describe(state: dict[str, Any], variant: Variant) -> OfficialNetwork:
    shapes = {}
    for key in ("conv1.conv1.0.weight", "h1_Cat_hd1_conv.weight", "outconv1.weight"):
        shapes[key] = tuple(state[key].shape)
        if len(shapes[key]) != 4 or 0 in shapes[key]:
            raise DataError(f"'{key}' has shape {list(shapes[key])}: expected a 3x3 convolution's [out, in, 3, 3]")
    first, skip, head = shapes.values()
    return OfficialNetwork(
        variant, in_channels=first[1], classes=head[0], width=first[0], skip_channels=skip[0], keys=len(state)
    )


def _check_shapes(translated: dict[str, Tensor], expected: dict[str, Tensor], names: dict[str, str]) -> None:
    wrong = [key for key in expected if translated[key].shape != expected[key].shape]
    if wrong:
        key = wrong[0]
        raise DataError(
            f"{len(wrong)} weights have another shape, first '{names[key]}': {list(translated[key].shape)}, "
            f"expected {list(expected[key].shape)}"
        )
