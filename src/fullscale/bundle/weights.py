"""Weights to start from, and what network they are of: out of a bundle, a run, a fold, or a file of weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fullscale.bundle.card import CARD, EXPORTED, ModelCard, read_card
from fullscale.bundle.store import find_bundle, load_state, single_card
from fullscale.documents import parse_json
from fullscale.errors import DataError, UsageError
from fullscale.networks.official import read_official
from fullscale.networks.state_dicts import read_state_dict
from fullscale.text import first_line

DIGEST_OF_WEIGHTS = "sha256:"
"""What a run's configuration has in place of the path of the weights that it started from begins with this."""


@dataclass(frozen=True)
class Weights:
    """A state dict and what is known of it.

    Attributes:
        origin: where they come from, for people.
        state: weights by name, as the network named below calls them.
        network: a name that `create_network` knows, or None where the file does not say.
        in_channels: of its images; None where the file does not say.
        channels: of its logits; None where the file does not say.
        options: its further arguments; None where the file does not say.
        card: of the bundle that they come from, or None.
        title: which they are, without where they lie.
    """

    origin: str
    state: dict[str, Tensor]
    network: str | None = None
    in_channels: int | None = None
    channels: int | None = None
    options: dict[str, Any] | None = None
    card: ModelCard | None = None
    title: str = ""


def read_weights(path: Path) -> Weights:
    """Read weights to start from, without executing anything in a file.

    Args:
        path: a bundle of one model, a run whose bundle has one member, the folder of a fold; a `.safetensors` file,
            or a state dict saved by torch, be it of the authors' UNet 3+ or of a network of this package.

    Raises:
        UsageError: it is an ensemble of several models, or an ONNX model.
        DataError: nothing can be read there.
    """
    if str(path).startswith(DIGEST_OF_WEIGHTS):
        raise UsageError(f"network.init={path}: a run keeps the digest of its first weights alone; give their path")
    if path.suffix in EXPORTED:
        raise UsageError(f"{path}: training cannot start from an exported model; give the run it was exported from")
    if path.is_dir() or not path.exists():
        return _of_bundle(path)
    state = read_state_dict(path)
    if "outconv1.weight" in state:  # the authors' names; ours begin otherwise
        state, official = read_official(path)
        return _described(path, f" ({official})", state, "unet3+", official.options())
    _require_weights(path, state)
    metadata = _metadata(path)
    return _described(path, "", state, metadata.get("network"), _options(path, metadata))


def _described(
    path: Path, what: str, state: dict[str, Tensor], network: str | None, arguments: dict[str, Any] | None
) -> Weights:
    """Tell the channels among the arguments of a network's class from its options."""
    options = dict(arguments or {})
    in_channels, channels = options.pop("in_channels", None), options.pop("classes", None)
    known = None if arguments is None else options
    return Weights(f"{path}{what}", state, network, in_channels, channels, known, title=f"{path.name}{what}")


def _of_bundle(path: Path) -> Weights:
    folder = find_bundle(path)
    card = read_card(folder / CARD)
    if not isinstance(card, ModelCard):
        names = list(card.members)
        if len(names) > 1:
            raise UsageError(
                f"{path} is an ensemble of {len(names)} models: training starts from one, such as {folder / names[0]}"
            )
        folder = folder / names[0]
        card = single_card(folder)
    return Weights(
        origin=str(folder),
        state=load_state(folder, card),
        network=card.network,
        in_channels=card.recipe.in_channels,
        channels=card.scheme.channels,
        options=card.options,
        card=card,
        title=f"{card.algorithm.name} {card.algorithm.version}",
    )


def _require_weights(path: Path, state: dict[str, Any]) -> None:
    for name, value in state.items():
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized:
            raise DataError(f"{path}: {name!r:.80} is a {type(value).__name__}, expected a plain tensor of weights")


def _options(path: Path, metadata: dict[str, str]) -> dict[str, Any] | None:
    """Read the arguments of the network that the metadata of a file name; None where they name none."""
    if "options" not in metadata:
        return None
    try:
        options = parse_json(metadata["options"])
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: the options in its metadata are not JSON ({first_line(error)})") from error
    if not isinstance(options, dict) or not all(
        isinstance(options.get(name), int | None) for name in ("in_channels", "classes")
    ):
        raise DataError(f"{path}: the options in its metadata are {options!r:.80}, expected arguments of a network")
    return options


def _metadata(path: Path) -> dict[str, str]:
    """Return the metadata that `import_weights` writes into a .safetensors file; other files have none."""
    if path.suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise DataError(f"cannot read the weights {path}: {error}") from error
