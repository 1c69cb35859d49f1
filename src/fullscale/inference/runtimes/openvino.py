"""A network from an OpenVINO file (the only home of OpenVINO)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fullscale.bundle.card import ModelCard
from fullscale.errors import DataError
from fullscale.extras import needs
from fullscale.inference.runtimes.blobs import Blobs
from fullscale.inference.runtimes.exported import CARD_DIGEST, IMAGE, LOGITS, open_with_card
from fullscale.inference.runtimes.torch import on_the_cpu
from fullscale.networks.base import crop, pad_to_stride
from fullscale.networks.guidance import decode_present
from fullscale.networks.spatial import check_image
from fullscale.text import first_line

PRESENCE, MAP = "presence", "map_"
"""Names of the outputs of guidance and of each of the encoder's maps, where there are such."""

STRIDE = "stride"
"""Key of the file's metadata: the sides of its images are multiples of this, one number an axis."""

CHANNELS = "channels"
"""Key of the file's metadata: channels of the images, and of the logits."""

WEIGHTS = ".bin"
"""Suffix of the second file, beside the `.xml`."""

Precision = Literal["float32", "bf16"]
"""In which a graph computes; its inputs and outputs are float32 in either.

With guidance, "bf16" is the decoder's alone: it does most of the work, what the encoder rounds changes five times as
many voxels, and whether a structure is present is decided in float32.
"""

Request = Any
"""An `openvino.InferRequest`."""


class OpenVinoRuntime:
    """An exported network, computed on the CPU with as many threads as torch uses.

    Images are computed one at a time, by a graph that is compiled once for each size. Where the network has guidance,
    an image in which it finds no structure is encoded and not decoded.

    Args:
        path: an `.xml` written by `fullscale export`.
        weights: the file of its weights; by default beside it.
        precision: in which it is computed.
        why: of the precision, in a few words for `describe`; nothing where there is nothing to say.
        compiled: folder in which graphs are kept once they are compiled; None keeps none.

    Attributes:
        device: the CPU.
        in_channels: channels C of the images `[B, C, ...]`.
        spatial_dims: 2 for images `[B, C, H, W]`, 3 for volumes `[B, C, D, H, W]`.
        channels: of the logits `[B, channels, ...]`.
        card_digest: digest of the model card it was exported with, or None.

    Raises:
        DataError: the files cannot be read, or are no network of this kind.
        UsageError: OpenVINO is not installed.
    """

    device = torch.device("cpu")

    def __init__(
        self,
        path: Path,
        weights: Path | None = None,
        precision: Precision = "float32",
        why: str = "",
        compiled: Path | None = None,
    ) -> None:
        self._made_of = path, weights or path.with_suffix(WEIGHTS), precision, why, compiled
        self._files, self._precision, self._why = self._made_of[:2], precision, why
        self._blobs = None if compiled is None else Blobs(compiled)
        model = _read(*self._files)
        outputs = [output.get_any_name() for output in model.outputs]
        if (
            [i.get_any_name() for i in model.inputs] != [IMAGE]
            or LOGITS not in outputs
            or not model.has_rt_info(STRIDE)
        ):
            raise DataError(f"{path} is no network that fullscale exported; export it again")
        self.in_channels, self.channels = (int(number) for number in model.get_rt_info(CHANNELS).astype(str).split())
        self.card_digest: str | None = model.get_rt_info(CARD_DIGEST).astype(str)
        self._stride = [int(step) for step in model.get_rt_info(STRIDE).astype(str).split()]
        self.spatial_dims = len(self._stride)
        self._guided = PRESENCE in outputs
        self._ready: dict[tuple[int, ...], list[Request]] = {}

    def __reduce__(self) -> tuple[type[OpenVinoRuntime], tuple[Any, ...]]:
        """Travel to another process as the files' places; compiled graphs cannot."""
        return OpenVinoRuntime, self._made_of

    def describe(self) -> str:
        """Say in a few words what computes, in which precision and where."""
        encoder = ", the encoder in float32" if self._guided and self._precision == "bf16" else ""
        why = f" ({self._why})" if self._why else ""
        return f"OpenVINO in {self._precision}{encoder}{why} {on_the_cpu()}"

    def logits(self, image: Tensor) -> Tensor:
        """Take images `[B, in_channels, ...]` to float32 logits `[B, channels, ...]`, absent structures gated.

        Raises:
            UsageError: the image has another rank, another number of channels, or integer values.
        """
        padded, [encoder, *decoder] = self._padded(image)
        logits, *maps = _together(_computed(encoder, [one]) for one in padded)
        if self._guided:
            shape = (image.shape[0], self.channels, *padded.shape[2:])
            presence = logits
            logits = decode_present(lambda maps: _decoded(decoder[0], padded, maps), maps, presence, shape)
        return crop(logits, image.shape[2:])

    def segment(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return float32 logits before any gate, and presence `[B, structures, 2]` or None without guidance.

        Raises:
            UsageError: the image has another rank, another number of channels, or integer values.
        """
        if not self._guided:
            return self.logits(image), None
        padded, [encoder, decoder] = self._padded(image)
        presence, *maps = _together(_computed(encoder, [one]) for one in padded)
        return crop(_decoded(decoder, padded, maps), image.shape[2:]), presence

    def _padded(self, image: Tensor) -> tuple[Tensor, list[Request]]:
        check_image(image, self.in_channels, self.spatial_dims)
        padded = pad_to_stride(image.detach().float().cpu(), self._stride, training=False)
        sides = tuple(padded.shape[2:])
        if sides not in self._ready:
            self._ready[sides] = [compiled.create_infer_request() for compiled in self._compiled(sides)]
        return padded, self._ready[sides]

    def _compiled(self, sides: tuple[int, ...]) -> list[Any]:
        """Compile the parts of the graph for a size, or find them kept."""
        core, threads = require_openvino().Core(), torch.get_num_threads()
        last = "bf16" if self._precision == "bf16" else "f32"
        hints = ["f32", last] if self._guided else [last]
        options = [{"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": hint} for hint in hints]
        size = "x".join(map(str, sides))
        names = [f"{size}-{threads}-{hint}-{part}" for part, hint in enumerate(hints)]
        kept = [None if self._blobs is None else self._blobs.get(name) for name in names]
        if None not in kept:
            return [core.import_model(BytesIO(blob), "CPU", of) for blob, of in zip(kept, options, strict=True) if blob]
        model = _read(*self._files)
        model.reshape([1, self.in_channels, *sides])
        parts = _divided(model) if self._guided else [model]
        compiled = [core.compile_model(part, "CPU", of) for part, of in zip(parts, options, strict=True)]
        if self._blobs is not None:
            for name, part in zip(names, compiled, strict=True):
                self._blobs.put(name, part.export_model().getvalue())
        return compiled


def open_openvino(
    path: Path, precision: Precision = "float32", why: str = "", compiled: Path | None = None
) -> tuple[ModelCard, OpenVinoRuntime]:
    """Open an OpenVINO model written by `fullscale export`, with the card beside it.

    Args:
        path: the `.xml`.
        precision: of it, as the others an argument of `OpenVinoRuntime`.
        why: see there.
        compiled: see there.

    Raises:
        DataError: the model or its card is missing or damaged, or the card is another model's.
        UsageError: OpenVINO is not installed.
    """
    require_openvino()
    opened = partial(OpenVinoRuntime, precision=precision, why=why, compiled=compiled)
    return open_with_card(path, opened, (".xml", WEIGHTS))


def require_openvino() -> Any:
    """Import OpenVINO.

    Raises:
        UsageError: it is not installed.
    """
    with needs("openvino", "OpenVINO models"):
        import openvino
    return openvino


def _read(path: Path, weights: Path) -> Any:
    openvino = require_openvino()
    for file in (path, weights):
        if not file.is_file():
            raise DataError(f"{file} does not exist; give an .xml file written by fullscale export, with its .bin")
    try:
        return openvino.Core().read_model(str(path), str(weights))
    except Exception as error:
        raise DataError(f"{path} cannot be read as an OpenVINO model, export it again: {first_line(error)}") from error


def _divided(model: Any) -> list[Any]:
    """Cut a graph of fixed size at the encoder's maps: image to presence and maps, image and maps to logits."""
    from openvino import Model, opset13

    sources = {output.get_any_name(): output.get_node().input_value(0) for output in model.outputs}
    maps = sorted(name for name in sources if name.startswith(MAP))
    image = model.get_parameters()
    encoder = Model([opset13.result(sources[name]) for name in (PRESENCE, *maps)], image, "encoder").clone()
    given = []
    for name in maps:
        source = sources[name]
        given.append(opset13.parameter(source.get_partial_shape(), np.float32))
        for target in source.get_target_inputs():
            if target.get_node().get_type_name() != "Result":
                target.replace_source_output(given[-1].output(0))
    return [encoder, Model([opset13.result(sources[LOGITS])], [*image, *given], "decoder")]


def _computed(request: Request, inputs: Sequence[Tensor]) -> list[npt.NDArray[np.float32]]:
    """Compute one image: inputs `[C, ...]`, outputs `[1, ...]`, copies that the next image leaves alone."""
    request.infer([given.unsqueeze(0).contiguous().numpy() for given in inputs])
    return [tensor.data.copy() for tensor in request.output_tensors]


def _decoded(request: Request, padded: Tensor, maps: list[Tensor]) -> Tensor:
    # The graph asks for an image, of which only the size is used: any will do.
    return _together(_computed(request, [padded[0], *one]) for one in zip(*maps, strict=True))[0]


def _together(images: Any) -> list[Tensor]:
    """Join the outputs of several images along the batch."""
    return [torch.from_numpy(np.concatenate(outputs)) for outputs in zip(*images, strict=True)]
