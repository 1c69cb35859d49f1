"""A network from an ONNX file (the only home of ONNX Runtime)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fullscale.bundle.card import ModelCard, card_beside
from fullscale.errors import DataError
from fullscale.extras import needs
from fullscale.inference.runtimes.exported import CARD_DIGEST, IMAGE, LOGITS, open_with_card
from fullscale.inference.runtimes.torch import on_the_cpu
from fullscale.networks.spatial import check_image


class OnnxRuntime:
    """An exported network, computed on the CPU with as many threads as torch uses.

    Its gate is part of the graph and cannot be left out.

    Args:
        path: a file written by `fullscale export`.

    Attributes:
        device: the CPU.
        in_channels: channels C of the images `[B, C, ...]`.
        spatial_dims: 2 for images `[B, C, H, W]`, 3 for volumes `[B, C, D, H, W]`.
        channels: of the logits `[B, channels, ...]`.
        card_digest: digest of the model card it was exported with, or None.

    Raises:
        DataError: the file cannot be read, or is no network of this kind.
        UsageError: ONNX Runtime is not installed.
    """

    device = torch.device("cpu")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._session = _open(path)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if [i.name for i in inputs] != [IMAGE] or [o.name for o in outputs] != [LOGITS]:
            names = ", ".join(value.name for value in (*inputs, *outputs))
            raise DataError(f"{path} has the inputs and outputs {names}: expected '{IMAGE}' and '{LOGITS}'")
        self.in_channels: int = inputs[0].shape[1]
        self.spatial_dims = len(inputs[0].shape) - 2
        self.channels: int = outputs[0].shape[1]
        self.card_digest: str | None = self._session.get_modelmeta().custom_metadata_map.get(CARD_DIGEST)

    def __reduce__(self) -> tuple[type[OnnxRuntime], tuple[Path]]:
        """Travel to another process as the file's place; a session of ONNX Runtime cannot."""
        return OnnxRuntime, (self._path,)

    def describe(self) -> str:
        """Say in a few words what computes, in which precision and where."""
        return f"ONNX Runtime in float32 {on_the_cpu()}"

    def logits(self, image: Tensor) -> Tensor:
        """Take images `[B, in_channels, ...]` to float32 logits `[B, channels, ...]`, absent structures gated.

        Raises:
            UsageError: the image has another rank, another number of channels, or integer values.
        """
        check_image(image, self.in_channels, self.spatial_dims)
        [logits] = self._session.run([LOGITS], {IMAGE: image.detach().float().cpu().numpy()})
        return torch.from_numpy(logits)

    def segment(self, image: Tensor) -> tuple[Tensor, None]:
        """Return the gated logits: the graph has no others, and says nothing of presence."""
        return self.logits(image), None


def open_onnx(path: Path) -> tuple[ModelCard, OnnxRuntime]:
    """Open an ONNX model written by `fullscale export`, with the card beside it.

    Raises:
        DataError: the model or its card is missing or damaged, or the card is another model's.
        UsageError: ONNX Runtime is not installed.
    """
    if path.is_file() and card_beside(path).is_file():
        require_runtime()  # before its card is held against it
    return open_with_card(path, OnnxRuntime, (".onnx",))


def require_runtime() -> Any:
    """Import ONNX Runtime.

    Raises:
        UsageError: it is not installed.
    """
    with needs("export", "ONNX models"):
        import onnxruntime
    return onnxruntime


def _open(path: Path) -> Any:
    runtime = require_runtime()
    if not path.is_file():
        raise DataError(f"{path} does not exist; give an .onnx file written by fullscale export")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    try:
        return runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        first_line = str(error).strip().splitlines()[0]
        raise DataError(f"{path} cannot be read as an ONNX model, export it again: {first_line}") from error
