"""A network as a program of `torch.export`, for code of one's own."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from fullscale.errors import FullscaleError
from fullscale.export.parity import Answer, Size
from fullscale.inference.runtimes.onnx import CARD_DIGEST
from fullscale.text import first_line

EXAMPLE: Size = (2, 45, 37)
SIZES: list[Size] = [(1, 96, 96), (3, 67, 45), (2, 40, 131)]
"""Sizes that the program is compared with PyTorch on; it takes none of a single stride a side."""


def write_program(network: nn.Module, in_channels: int, path: Path, digest: str) -> Answer:
    """Write a network in evaluation mode, batch and size free, and return what computes the file.

    Args:
        network: in the form that is exported.
        in_channels: of its images.
        path: where to.
        digest: of its card, kept beside the program in the file.

    Raises:
        FullscaleError: it cannot be exported.
    """
    batch, height, width = EXAMPLE
    free = torch.export.Dim.DYNAMIC
    try:
        example = (torch.zeros(batch, in_channels, height, width),)
        program = torch.export.export(network, example, dynamic_shapes=({0: free, 2: free, 3: free},))
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # lines and paths of the code that was traced
        torch.export.save(program, path, extra_files={CARD_DIGEST: digest})
        return torch.export.load(path).module()
    except Exception as error:
        raise FullscaleError(f"the network cannot be exported by torch.export: {first_line(error)}") from error
