"""A network as an ONNX graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from fullscale.errors import FullscaleError
from fullscale.extras import needs
from fullscale.inference.export.parity import Answer, Size
from fullscale.inference.runtimes.exported import CARD_DIGEST, IMAGE, LOGITS
from fullscale.inference.runtimes.onnx import OnnxRuntime, require_runtime
from fullscale.networks.spatial import LAYERS
from fullscale.text import first_line

EXAMPLE: dict[int, Size] = {2: (2, 45, 37), 3: (2, 20, 37, 35)}


def require_onnx() -> None:
    """Check that ONNX Runtime and the exporter are installed.

    Raises:
        UsageError: one of them is not.
    """
    require_runtime()
    _require_exporter()


def write_onnx(network: nn.Module, spatial_dims: int, in_channels: int, files: tuple[Path, ...], digest: str) -> Answer:
    """Write a network in evaluation mode, batch and size free, and return what computes the file.

    Args:
        network: in the form that is exported.
        spatial_dims: 2 for images, 3 for volumes.
        in_channels: of its images.
        files: where to; one file.
        digest: of its card, kept in the file's metadata.

    Raises:
        FullscaleError: it cannot be exported.
        OSError: the file cannot be written.
    """
    [path] = files
    batch, *sides = EXAMPLE[spatial_dims]
    free = {0: "batch"} | dict(enumerate(LAYERS[spatial_dims].axes, 2))
    try:
        program = torch.onnx.export(
            network,
            (torch.zeros(batch, in_channels, *sides),),
            input_names=[IMAGE],
            output_names=[LOGITS],
            dynamic_shapes=(free,),
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        for node in program.model.graph:
            node.metadata_props.clear()  # lines and paths of the code that was traced
        program.model.metadata_props[CARD_DIGEST] = digest
        program.save(path, external_data=False)
    except OSError:
        raise
    except Exception as error:
        raise FullscaleError(f"the network cannot be exported by ONNX: {first_line(error)}") from error
    return OnnxRuntime(path).logits


def _require_exporter() -> Any:
    with needs("export", "exports as ONNX"):
        import onnx  # noqa: F401
        import onnxscript
    return onnxscript
