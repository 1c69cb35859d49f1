"""Training from weights that are there already: layer by layer, what is taken over, what is adapted, what begins anew.

A layer is taken over where name and shape agree. A convolution on the image whose input channels differ is adapted:
each new channel gets the mean of the old ones, scaled so that the same image in every channel gives the same output.
Every other layer of another shape keeps the values it was built with.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fullscale.bundle.weights import DIGEST_OF_WEIGHTS, Weights, read_weights
from fullscale.config.schema import Config
from fullscale.errors import UsageError
from fullscale.networks.protocol import Network
from fullscale.networks.state_dicts import read_state_dict

PRETRAINED = "pretrained"
"""Option of a network that names weights of its backbone: a path, or whether timm's are fetched."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Transfer:
    """What became of each layer.

    Attributes:
        loaded: names of those that were taken over.
        adapted: by name, what was done.
        fresh: by name, why they begin anew.
        unused: names of weights that the network has no layer for.
    """

    loaded: list[str] = field(default_factory=list)
    adapted: dict[str, str] = field(default_factory=dict)
    fresh: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = f"{len(self.loaded)} layers loaded, {len(self.adapted)} adapted, {len(self.fresh)} fresh"
        return counts + (f", {len(self.unused)} of the weights unused" if self.unused else "")


def start_from(network: Network, weights: Weights) -> Transfer:
    """Put weights into a network, as far as they fit.

    Returns:
        What became of each layer. Layers that are not loaded are logged one by one.

    Raises:
        UsageError: no layer fits.
    """
    fresh = network.state_dict()
    transfer = Transfer(unused=sorted(weights.state.keys() - fresh.keys()))
    merged = {name: _merge(name, value, weights.state.get(name), network, transfer) for name, value in fresh.items()}
    if not any(name.endswith("weight") for name in (*transfer.loaded, *transfer.adapted)):
        of = f" of network '{weights.network}'" if weights.network else ""
        raise UsageError(
            f"network.init={weights.origin}: none of its {len(weights.state)} weights{of} fits a layer of the network "
            "to be trained; choose the network and the width that they belong to"
        )
    network.load_state_dict(merged)
    _log.info("starting from %s: %s", weights.origin, transfer)
    for how, layers in (("adapted", transfer.adapted), ("fresh", transfer.fresh)):
        for name, reason in layers.items():
            _log.info("%s: %s (%s)", how, name, reason)
    for name in transfer.unused:
        _log.info("unused: %s", name)
    return transfer


def warn_of_other_structures(weights: Weights, structures: Mapping[int, str]) -> None:
    """Say where the channels of the weights stand for other structures than those to be learned, though they fit."""
    before = [] if weights.card is None else list(weights.card.structures.values())
    now = list(structures.values())
    if weights.card is not None and len(before) == len(now) and before != now:
        _log.warning(
            "%s was trained on %s; its last layer fits and is taken over, and now learns %s in their place",
            weights.origin,
            ", ".join(before),
            ", ".join(now),
        )


def state_digest(state: Mapping[str, Any]) -> str:
    """Return a digest of weights that does not depend on the file they came in; what is no tensor does not count."""
    digest = hashlib.sha256()
    for name in sorted(name for name, value in state.items() if isinstance(value, Tensor)):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def digests_of_paths(config: Config) -> dict[str, str]:
    """Return the digest of the weights at each path that a configuration names to start from.

    Raises:
        UsageError, DataError: there are no weights that can be read.
    """
    init, pretrained = config.network.init, config.network.options.get(PRETRAINED)
    states: dict[str, Mapping[str, Any]] = {} if init is None else {init: read_weights(Path(init)).state}
    if isinstance(pretrained, str) and Path(pretrained).exists():  # another package may take names
        states[pretrained] = read_state_dict(pretrained)
    return {path: state_digest(state) for path, state in states.items()}


def without_paths(content: Any, digests: Mapping[str, str]) -> Any:
    """Put digests in place of paths of weights, anywhere in plain values: results do not tell where these lie."""
    if isinstance(content, dict):
        return {key: without_paths(value, digests) for key, value in content.items()}
    if isinstance(content, list):
        return [without_paths(value, digests) for value in content]
    return f"{DIGEST_OF_WEIGHTS}{digests[content]}" if isinstance(content, str) and content in digests else content


def describe_start(weights: Weights, transfer: Transfer) -> dict[str, Any]:
    """Say for a model's card what it started from."""
    return {
        "from": weights.title,
        "digest": state_digest(weights.state),
        "loaded": len(transfer.loaded),
        "adapted": list(transfer.adapted),
        "fresh": list(transfer.fresh),
    }


def _merge(name: str, fresh: Tensor, given: Tensor | None, network: Network, transfer: Transfer) -> Tensor:
    """Return what a layer starts with, and note where it is from."""
    if given is None:
        transfer.fresh[name] = "not among the weights"
    elif given.shape == fresh.shape:
        transfer.loaded.append(name)
        return given.to(fresh.dtype)
    elif _sees_the_image(fresh, given, network.in_channels):
        new, old = fresh.shape[1], given.shape[1]
        transfer.adapted[name] = f"mean of {old} input channels for each of {new}"
        return adapt_channels(given, new).to(fresh.dtype)
    else:
        transfer.fresh[name] = f"{_shape(fresh)} here, {_shape(given)} in the weights"
    return fresh


def adapt_channels(weight: Tensor, channels: int) -> Tensor:
    """Bring a convolution `[out, in, ...]` to other input channels: the mean of the old ones, of the same sum."""
    old = weight.shape[1]
    repeats = [1, channels] + [1] * (weight.dim() - 2)
    return weight.mean(dim=1, keepdim=True).repeat(repeats) * (old / channels)


def _sees_the_image(fresh: Tensor, given: Tensor, in_channels: int) -> bool:
    """Tell whether two convolutions differ in their input channels alone, and these are the image's."""
    same = fresh.dim() == given.dim() >= 3 and fresh.shape[0] == given.shape[0] and fresh.shape[2:] == given.shape[2:]
    return same and fresh.shape[1] == in_channels


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"
