"""What is measured: a network of the paper's kind on random slices, in inference and in training."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
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

IN_CHANNELS = 3
CLASSES = 1


@dataclass(frozen=True)
class Workload:
    """A network, its size and its input.

    Attributes:
        name: of the network.
        width: channels of its first level; its skips have as many.
        size: rows and columns of the input.
        batch: slices at once.
        device: `cpu`, `cuda`, `cuda:1`, `mps`.
        form: how resized skips are convolved.
        bf16: under bf16 autocast.
        channels_last: memory format of network and input.
    """

    name: str = "unet3+"
    width: int = 64
    size: int = 320
    batch: int = 1
    device: str = "cpu"
    form: Form = "auto"
    bf16: bool = False
    channels_last: bool = True

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
        network = create_network(self.name, IN_CHANNELS, CLASSES, **self._options())
        set_form(network, self.form)
        memory_format = torch.channels_last if self.channels_last else torch.contiguous_format
        return network.to(self.torch_device, memory_format=memory_format)

    def image(self) -> Tensor:
        """Draw random slices `[B, 3, H, W]`."""
        generator = torch.Generator().manual_seed(0)
        image = torch.randn(self.batch, IN_CHANNELS, self.size, self.size, generator=generator).to(self.torch_device)
        return image.contiguous(memory_format=torch.channels_last) if self.channels_last else image

    def inference(self, network: Callable[[Tensor], Any]) -> Callable[[], object]:
        """One forward pass of a network in evaluation mode."""
        image = self.image()

        def run() -> object:
            with torch.inference_mode(), self._precision():
                return network(image)

        return run

    def training_step(self, network: Network) -> Callable[[], object]:
        """Forward, loss over all supervised outputs and presence, backward, SGD."""
        network.train()
        image = self.image()
        target = torch.zeros(self.batch, self.size, self.size, dtype=torch.long, device=self.torch_device)
        target[:, self.size // 4 : self.size // 2, self.size // 4 : self.size // 2] = 1
        loss = SupervisedLoss(create_loss("ce+dice"))
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-6, momentum=0.9, nesterov=True)

        def run() -> object:
            optimizer.zero_grad(set_to_none=True)
            with self._precision():
                total = loss(network(image), target).total
            total.backward()
            return optimizer.step()

        return run

    def _options(self) -> dict[str, Any]:
        return {word: self.width for word in ("width", "skip_channels") if word in network_options(self.name)}

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.torch_device.type, torch.bfloat16, enabled=self.bf16)


def freeze(network: Network) -> Network:
    """Compile for inference: weights become constants, so that batch norms are folded and layouts chosen once."""
    return cast("Network", torch.compile(network, options={"freezing": True}))  # its wrapper passes attributes on
