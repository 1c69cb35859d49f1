"""A trained model as one folder: `model.safetensors` and `model.json`. All that prediction needs, and no pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fullscale.bundle.card import CARD, ModelCard, card_beside, card_digest, read_card
from fullscale.errors import DataError
from fullscale.files import atomic_folder
from fullscale.networks.onnx_network import OnnxNetwork
from fullscale.networks.protocol import Network
from fullscale.runfolder import RunFolder

WEIGHTS = "model.safetensors"


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
    for folder in (path, RunFolder(path).bundle):
        if (folder / CARD).is_file():
            return folder
    if not path.exists():
        raise DataError(f"{path} does not exist; give a run folder, or a folder with {CARD} and {WEIGHTS}")
    if path.is_file():
        raise DataError(f"{path} holds no model that is read here; give a run folder, a bundle or an .onnx file")
    raise DataError(f"{path} holds no model ({CARD} and {WEIGHTS}); has its training finished an epoch?")


def load_bundle(path: Path) -> tuple[ModelCard, Network]:
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
