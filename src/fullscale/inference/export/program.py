"""A network as a program of `torch.export`, for code of one's own."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from fullscale.errors import FullscaleError
from fullscale.files import for_library
from fullscale.inference.export.parity import Answer, Size
from fullscale.inference.runtimes.exported import CARD_DIGEST
from fullscale.text import first_line

EXAMPLE: dict[int, Size] = {2: (2, 45, 37), 3: (2, 20, 37, 35)}
SIZES: dict[int, list[Size]] = {
    2: [(1, 96, 96), (3, 67, 45), (2, 40, 131)],
    3: [(1, 48, 48, 48), (2, 36, 33, 40)],
}
"""Sizes of images and volumes that it is compared with PyTorch on; a program takes none of a single stride a side."""


def write_program(
    network: nn.Module, spatial_dims: int, in_channels: int, files: tuple[Path, ...], digest: str
) -> Answer:
    """Write a network in evaluation mode, batch and size free, and return what computes the file.

    Args:
        network: in the form that is exported.
        spatial_dims: 2 for images, 3 for volumes.
        in_channels: of its images.
        files: where to; one file.
        digest: of its card, kept beside the program in the file.

    Raises:
        FullscaleError: it cannot be exported.
        OSError: the file cannot be written.
    """
    [path] = files
    batch, *sides = EXAMPLE[spatial_dims]
    free = dict.fromkeys((0, *range(2, 2 + spatial_dims)), torch.export.Dim.DYNAMIC)
    try:
        example = (torch.zeros(batch, in_channels, *sides),)
        program = torch.export.export(network, example, dynamic_shapes=(free,))
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # lines and paths of the code that was traced
        with for_library(path) as file:
            torch.export.save(program, file, extra_files={CARD_DIGEST: digest})
        return torch.export.load(path).module()
    except OSError:
        raise
    except Exception as error:
        raise FullscaleError(f"the network cannot be exported by torch.export: {first_line(error)}") from error
