"""The card of a model: what it is, and how scans are brought to it."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from fullscale.data.labels import Algorithm
from fullscale.data.recipe import Recipe
from fullscale.errors import DataError
from fullscale.networks import create_network
from fullscale.networks.protocol import Network

CARD = "model.json"


class ModelCard(BaseModel):
    """What a model is and how scans are brought to it.

    Attributes:
        network: a name that `create_network` knows.
        options: its further arguments.
        classes: channels of the output; 1 means sigmoid, more mean softmax with background first.
        labels: value in the label volume and name of each structure, in the order of the foreground classes.
        trained_labels: structure of each value in the masks it was trained on. Values that share a name are merged, and
            values without a name are background.
        recipe: what is done to a scan first.
        modality: what the model was trained on, such as `"CT"`.
        provenance: data set, fold, scores, versions: for people, not read back.
    """

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    network: str
    options: dict[str, Any]
    classes: PositiveInt
    labels: dict[int, str]
    trained_labels: dict[int, str] = {}
    recipe: Recipe
    modality: str
    provenance: dict[str, Any] = {}

    @property
    def algorithm(self) -> Algorithm:
        """How masks name the model that made them: the network, this package's version, a digest of the card."""
        digest = card_digest(self.model_dump_json().encode())[:12]
        return Algorithm(f"fullscale {self.network}", f"{version('fullscale')} model {digest}")

    def build(self) -> Network:
        """Create the network, with fresh weights."""
        return create_network(self.network, self.recipe.in_channels, self.classes, **self.options)


def read_card(path: Path) -> ModelCard:
    """Read a model card.

    Raises:
        DataError: it is not there, or not a card of this version.
    """
    try:
        return ModelCard.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read the model card {path}: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "its text"
        raise DataError(f"{path} is not a model card of this version: {where}: {first['msg']}") from error


def card_beside(model: Path) -> Path:
    """Return where the card of an exported model lies: `liver.json` for `liver.onnx`."""
    return model.with_suffix(".json")


def card_digest(card: bytes) -> str:
    """Return what an exported model keeps of its card, to know it again."""
    return hashlib.sha256(card).hexdigest()
