"""A network as an OpenVINO graph."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from fullscale.errors import FullscaleError
from fullscale.inference.export.parity import Answer
from fullscale.inference.runtimes.exported import CARD_DIGEST, IMAGE, LOGITS
from fullscale.inference.runtimes.openvino import CHANNELS, MAP, PRESENCE, STRIDE, OpenVinoRuntime, require_openvino
from fullscale.networks.protocol import DividedNetwork, Network
from fullscale.networks.spatial import LAYERS
from fullscale.text import first_line

MOST_STRIDES = 4096
"""Of a side of an image, as the graph is told; far more than fit into memory."""


class _Parts(nn.Module):
    """What is computed of images: logits before any gate, and where there is guidance, presence and the maps."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        if isinstance(self.network, DividedNetwork):
            logits, presence, maps = self.network.segment_with_maps(image)
            return (logits,) if presence is None else (logits, presence, *maps)
        assert isinstance(self.network, Network)
        return (self.network.segment(image)[0],)


def write_openvino(
    network: nn.Module, spatial_dims: int, in_channels: int, files: tuple[Path, ...], digest: str
) -> Answer:
    """Write a network in evaluation mode, batch and size free, and return what computes the files.

    Args:
        network: in the form that is exported.
        spatial_dims: 2 for images, 3 for volumes.
        in_channels: of its images.
        files: where to, the graph and its weights.
        digest: of its card, kept in the graph's metadata.

    Raises:
        FullscaleError: it cannot be exported.
        OSError: a file cannot be written.
    """
    openvino = require_openvino()
    assert isinstance(network, Network)
    axes = LAYERS[spatial_dims].axes
    sides = [number * step for number, step in zip((3, 4, 5), network.stride, strict=False)]
    free = {0: torch.export.Dim("batch", min=1, max=MOST_STRIDES)} | {
        axis: step * torch.export.Dim(name, min=1, max=MOST_STRIDES)
        for axis, (name, step) in enumerate(zip(axes, network.stride, strict=True), 2)
    }
    try:
        with torch.no_grad():
            example = (torch.zeros(2, in_channels, *sides),)
            program = torch.export.export(_Parts(network).eval(), example, dynamic_shapes=(free,))
        model = openvino.convert_model(program)
        model.inputs[0].get_tensor().set_names({IMAGE})
        maps = [f"{MAP}{level}" for level in range(len(model.outputs) - 2)]
        for output, name in zip(model.outputs, [LOGITS, PRESENCE, *maps], strict=False):
            output.get_tensor().set_names({name})
        model.set_rt_info(digest, CARD_DIGEST)
        model.set_rt_info(" ".join(map(str, network.stride)), STRIDE)
        model.set_rt_info(f"{in_channels} {network.classes}", CHANNELS)
        openvino.serialize(model, *map(str, files))
        graph, weights = files
        return OpenVinoRuntime(graph, weights).logits
    except OSError:
        raise
    except Exception as error:
        raise FullscaleError(f"the network cannot be exported by OpenVINO: {first_line(error)}") from error
