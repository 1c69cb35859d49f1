"""A trained model as one folder: `model.safetensors` and `model.json`. All that prediction needs, and no pickle."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fullscale.data.labels import Algorithm
from fullscale.data.preprocess import Recipe
from fullscale.errors import DataError
from fullscale.files import atomic_folder
from fullscale.networks import create_network
from fullscale.networks.onnx_network import OnnxNetwork

WEIGHTS = "model.safetensors"
CARD = "model.json"


class ModelCard(BaseModel):
    """What a model is and how scans are brought to it.

    Attributes:
        network: a name that `create_network` knows.
        options: its further arguments.
        classes: channels of the output; 1 means sigmoid, more mean softmax with background first.
        labels: value in the label volume and name of each organ, in the order of the foreground classes.
        trained_labels: every value in the masks it was trained on, and the organ that it counts as; values of one name
            are one organ, and what is not named is background.
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

    def build(self) -> nn.Module:
        """Create the network, with fresh weights."""
        return create_network(self.network, self.recipe.in_channels, self.classes, **self.options)


def save_bundle(folder: Path, card: ModelCard, state: Mapping[str, Tensor]) -> None:
    """Write a bundle; an older one in its place is replaced only when the new one is whole."""
    with atomic_folder(folder) as temporary:
        save_file({k: v.detach().cpu().contiguous() for k, v in state.items()}, temporary / WEIGHTS)
        (temporary / CARD).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")


def find_bundle(path: Path) -> Path:
    """Return the bundle at `path`, which is one or is a run folder that holds one.

    Raises:
        DataError: there is none.
    """
    for folder in (path, path / "bundle"):
        if (folder / CARD).is_file():
            return folder
    if not path.exists():
        raise DataError(f"{path} does not exist; give a run folder, or a folder with {CARD} and {WEIGHTS}")
    if path.is_file():
        raise DataError(f"{path} holds no model that is read here; give a run folder, a bundle or an .onnx file")
    raise DataError(f"{path} holds no model ({CARD} and {WEIGHTS}); has its training finished an epoch?")


def load_bundle(path: Path) -> tuple[ModelCard, nn.Module]:
    """Load a bundle, the bundle of a run, or an exported `.onnx`: its card, and its network in evaluation mode (CPU).

    Raises:
        DataError: no model is there, or it is damaged or of a newer format.
        UsageError: it is an ONNX model, and ONNX Runtime is not installed.
    """
    if path.suffix == ".onnx" and not path.is_dir():
        return load_exported(path)
    folder = find_bundle(path)
    card = read_card(folder / CARD)
    network = card.build()
    try:
        network.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError) as error:
        raise DataError(f"cannot read the weights {folder / WEIGHTS}: {error}") from error
    except RuntimeError as error:
        first_line = str(error).splitlines()[1].strip()
        raise DataError(f"{folder / WEIGHTS} does not fit the network in {CARD}: {first_line}") from error
    return card, network.eval()


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


def load_exported(path: Path) -> tuple[ModelCard, OnnxNetwork]:
    """Load an ONNX model written by `fullscale export`, with the card beside it.

    Raises:
        DataError: the model or its card is missing or damaged, or the card is another model's.
        UsageError: ONNX Runtime is not installed.
    """
    network = OnnxNetwork(path)
    beside = card_beside(path)
    if not beside.is_file():
        raise DataError(f"{beside} is missing: it says how scans are brought to {path.name}; copy both files together")
    card = read_card(beside)
    if network.card_digest != card_digest(beside.read_bytes()):
        raise DataError(f"{beside} is not the card that {path.name} was exported with; copy both files together")
    return card, network
