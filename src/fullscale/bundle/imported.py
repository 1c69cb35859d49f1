"""Weights of the authors' code, or of a file that says what it is, as files of ours."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import get_args

from fullscale.bundle.card import ModelCard
from fullscale.bundle.store import save_bundle, write_safetensors
from fullscale.bundle.weights import Weights, read_weights
from fullscale.data.labels import BACKGROUND, LabelScheme
from fullscale.data.recipe import Neighbours, Recipe
from fullscale.errors import DataError, UsageError
from fullscale.files import atomic_path
from fullscale.networks.official import OfficialNetwork, read_official
from fullscale.text import first_line

_log = logging.getLogger(__name__)


def import_weights(source: Path, destination: Path) -> OfficialNetwork:
    """Convert a file of the authors' code to safetensors; metadata say what network it is.

    Metadata: `network` ("unet3+"), `options` (JSON, the arguments of `create_network`), `variant`.

    Raises:
        DataError: the source is missing, cannot be read safely, or is no UNet 3+ of the authors'.
        FullscaleError: the destination cannot be written.
    """
    state, network = read_official(source)
    metadata = {"network": "unet3+", "options": json.dumps(network.options()), "variant": network.variant}
    with atomic_path(destination) as temporary:
        write_safetensors(temporary, {key: value.clone() for key, value in state.items()}, metadata)
    return network


def import_bundle(
    source: Path, folder: Path, labels: LabelScheme | Mapping[int, str], recipe: Recipe, modality: str
) -> ModelCard:
    """Write a bundle around weights, so that they predict.

    What the weights do not say must be known: what their channels stand for, and how their images were normalised.

    Args:
        source: a file of the authors' code, or what `import_weights` made of it.
        folder: the bundle.
        labels: name of each structure, by the value that it is to have in masks; or a scheme, of regions too.
        recipe: how a scan is brought to the network; its neighbours must fit the network's input channels.
        modality: what the network was trained on, such as "CT".

    Raises:
        DataError: the weights are missing or damaged, or do not say what network they are of.
        UsageError: labels or recipe do not fit the network's channels.
        FullscaleError: the folder cannot be written.
    """
    weights = read_weights(source)
    if weights.network is None or weights.options is None:
        raise DataError(f"{source} does not say which network its weights are of: expected a file of the authors' code")
    scheme = LabelScheme.of(labels)
    weights = _with_one_logit(weights, scheme)
    card = ModelCard(
        network=weights.network,
        options=weights.options,
        labels=BACKGROUND | dict(scheme.labels),
        regions=dict(scheme.regions),
        region_order=scheme.order,
        ignore=scheme.ignore,
        recipe=recipe,
        modality=modality,
        provenance={"imported": weights.title},
    )
    _check_channels(weights, card)
    network = card.build()
    try:
        network.load_state_dict(weights.state)
    except RuntimeError as error:
        raise DataError(f"{source} does not fit a '{weights.network}': {first_line(error)}") from error
    save_bundle(folder, card, weights.state)
    return card


def neighbours_for(in_channels: int) -> Neighbours:
    """Return how many slices on either side a network of so many input channels sees: 1 for three channels.

    Raises:
        UsageError: there is no such number.
    """
    for neighbours in get_args(Neighbours):
        if 2 * neighbours + 1 == in_channels:
            return neighbours  # type: ignore[no-any-return]
    raise UsageError(
        f"the network takes {in_channels} input channels: expected 1, 3, 5 or 7, a slice and its neighbours"
    )


def _with_one_logit(weights: Weights, scheme: LabelScheme) -> Weights:
    """Turn the two channels of a network of one structure, background and structure, into the structure's logit.

    The softmax of two logits is the sigmoid of their difference, so the masks stay the same.

    Raises:
        UsageError: the network has guidance, whose gate is on each channel.
    """
    if weights.channels != 2 or len(scheme.structures) != 1:
        return weights
    if any(name.startswith("guidance.") for name in weights.state):
        raise UsageError(
            f"{weights.origin} has two output channels for one structure, and guidance that gates each of them, which "
            "a model of one structure cannot: only networks without guidance are taken so"
        )
    [name] = scheme.structures.values()
    _log.info("its two output channels are taken for background and %s, told apart by softmax", name)
    state = {key: value[1:] - value[:1] if key.startswith("heads.") else value for key, value in weights.state.items()}
    return replace(weights, state=state, channels=1)


def _check_channels(weights: Weights, card: ModelCard) -> None:
    expected = (card.recipe.in_channels, card.scheme.channels)
    if weights.in_channels not in (None, expected[0]):
        raise UsageError(
            f"the network takes {weights.in_channels} input channels, but with neighbours={card.recipe.neighbours} it "
            f"would be given {expected[0]}"
        )
    if weights.channels not in (None, expected[1]):
        structures = ", ".join(card.structures.values())
        raise UsageError(
            f"the network has {weights.channels} output channels, but {structures} need {expected[1]}: one channel is "
            "a single structure, more are background and one for each; name as many structures with --labels"
        )
