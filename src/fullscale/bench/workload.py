"""What is measured: a network of the paper's kind on random slices or volumes, in inference and in training."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor

from fullscale.bench.measure import environment, roofline_gflops
from fullscale.errors import UsageError
from fullscale.losses import create_loss
from fullscale.losses.supervision import SupervisedLoss
from fullscale.networks import create_network, network_options
from fullscale.networks.kernels.forms import Form, set_form
from fullscale.networks.protocol import Network

IN_CHANNELS = {2: 3, 3: 1}
"""Of a slice with its neighbours, and of a volume."""

CLASSES = 1
META = "meta"
"""The device on which tensors have a shape and no numbers: memory can be counted there."""

FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}


@dataclass(frozen=True)
class Workload:
    """A network, its size and its input.

    Attributes:
        name: of the network.
        width: channels of its first level; its skips have as many.
        size: rows and columns of the input; of a volume, slices too.
        batch: slices or volumes at once.
        device: `cpu`, `cuda`, `cuda:1`, `mps`, or `meta`, on which nothing is computed.
        form: how resized skips are convolved.
        bf16: under bf16 autocast.
        channels_last: memory format of network and input.
        spatial_dims: 2 for slices, 3 for volumes.
        levels: of the network.
    """

    name: str = "unet3+"
    width: int = 64
    size: int = 320
    batch: int = 1
    device: str = "cpu"
    form: Form = "auto"
    bf16: bool = False
    channels_last: bool = True
    spatial_dims: int = 2
    levels: int = 5

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the input: `[B, C, H, W]` or `[B, C, D, H, W]`."""
        return (self.batch, IN_CHANNELS[self.spatial_dims], *(self.size,) * self.spatial_dims)

    @property
    def torch_device(self) -> torch.device:
        """The device.

        Raises:
            UsageError: this machine does not have it.
        """
        try:
            device = torch.device(self.device)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise UsageError(f"device '{self.device}' is not here: {str(error).splitlines()[0]}") from error
        return device

    def roofline_gflops(self) -> float:
        """Measure what a matrix product reaches on the device, in the type that the network computes in."""
        return roofline_gflops(self.torch_device, torch.bfloat16 if self.bf16 else torch.float32)

    def head(self, benchmark: str, varied: str, repeats: int, roofline: float) -> dict[str, Any]:
        """Say for JSON what was measured on what; `varied` is the attribute that differs within the benchmark."""
        return {
            "benchmark": benchmark,
            "workload": {key: value for key, value in asdict(self).items() if key != varied},
            "repeats": repeats,
            "environment": environment(self.torch_device),
            "roofline_gflops": roofline,
        }

    def network(self) -> Network:
        """Build the network, with the same random weights every time.

        Fresh guidance finds every structure. A slice without structures would not be decoded, which would make every
        form look quick.
        """
        torch.manual_seed(0)
        network = create_network(self.name, self.shape[1], CLASSES, **self._options())
        set_form(network, self.form)
        return network.to(self.torch_device, dtype=self._dtype, memory_format=self._format)

    def image(self) -> Tensor:
        """Draw random slices `[B, 3, H, W]`, or volumes `[B, 1, D, H, W]`."""
        image = torch.randn(self.shape, generator=torch.Generator().manual_seed(0))
        image = image.to(self.torch_device, self._dtype)
        return image.contiguous(memory_format=self._format)

    def inference(self, network: Callable[[Tensor], Any]) -> Callable[[], object]:
        """One forward pass of a network in evaluation mode."""
        image = self.image()

        def run() -> object:
            with torch.inference_mode(), self.precision():
                return network(image)

        return run

    def training_step(self, network: Network) -> Callable[[], object]:
        """Forward, loss over all supervised outputs and presence, backward, SGD."""
        network.train()
        image = self.image()
        target = torch.zeros(self.batch, *self.shape[2:], dtype=torch.long, device=self.torch_device)
        target[(slice(None), *(slice(self.size // 4, self.size // 2),) * self.spatial_dims)] = 1
        loss = SupervisedLoss(create_loss("ce+dice"))
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-6, momentum=0.9, nesterov=True)

        def run() -> object:
            optimizer.zero_grad(set_to_none=True)
            with self.precision():
                total = loss(network(image), target).total
            total.backward()
            return optimizer.step()

        return run

    def precision(self) -> AbstractContextManager[Any]:
        """Cast automatically within this context, where the workload is in bf16."""
        if self.device == META:
            return nullcontext()
        return torch.autocast(self.torch_device.type, torch.bfloat16, enabled=self.bf16)

    @property
    def _format(self) -> torch.memory_format:
        return FORMATS[self.spatial_dims] if self.channels_last else torch.contiguous_format

    def _options(self) -> dict[str, Any]:
        words = {"width": self.width, "skip_channels": self.width}
        if self.spatial_dims == 3:
            words |= {"spatial_dims": self.spatial_dims, "levels": self.levels}
        known = network_options(self.name)
        return {word: number for word, number in words.items() if word in known}

    @property
    def _dtype(self) -> torch.dtype:
        """Of weights and input: float32, but where nothing can be cast automatically."""
        return torch.bfloat16 if self.bf16 and self.device == META else torch.float32


def freeze(network: Network) -> Network:
    """Compile for inference: weights become constants, so that batch norms are folded and layouts chosen once."""
    return cast("Network", torch.compile(network, options={"freezing": True}))  # its wrapper passes attributes on
