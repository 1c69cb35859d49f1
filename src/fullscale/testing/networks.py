"""The contract of a network, for images or volumes: the network says which by its `spatial_dims`."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from fullscale.networks.protocol import Network, SegmentationOutput

MakeNetwork = Callable[[int, int], Network]
"""Builds a network from the channels of its images and the number of its classes, with fresh weights."""

SIZES: dict[int, tuple[tuple[int, ...], ...]] = {
    2: ((32, 48), (33, 47), (61, 19), (5, 80)),
    3: ((16, 32, 16), (17, 15, 20), (9, 33, 16), (1, 7, 40)),
}
"""Of images and of volumes."""

EVEN: dict[int, tuple[int, ...]] = {2: (32, 32), 3: (16, 16, 32)}
ODD: dict[int, tuple[int, ...]] = {2: (40, 33), 3: (16, 20, 17)}


def check_network(make: MakeNetwork) -> None:
    """Hold a network against all that training, prediction and export rely on.

    Args:
        make: builds it from `in_channels` and `classes`, such as `lambda in_channels, classes: TinyNet(in_channels,
            classes, width=4)`. It is built about thirty times: choose a small one.

    Raises:
        AssertionError: it fails; one line says in what.
    """
    check_protocol(make)
    for classes in (1, 3):
        for size in SIZES[build(make, 3, classes).spatial_dims]:
            check_sizes(make, classes, size)
        check_gradients(make, classes)
        check_batch(make, classes)
    for channels in (1, 2, 5):
        check_channels(make, channels)
    check_untaught(make)
    check_repeatable(make)
    check_weights(make)
    check_refusals(make)


def check_protocol(make: MakeNetwork) -> None:
    """It is an `nn.Module` with the members of `fullscale.networks.protocol.Network`, which say the truth."""
    network = build(make, 2, 3)
    assert isinstance(network, nn.Module), f"{_name(network)} is no torch.nn.Module"
    said = {"in_channels": 2, "classes": 3}
    for member in ("forward", "segment", "num_supervised", "stride", "spatial_dims", *said):
        assert hasattr(network, member), f"{_name(network)} has no '{member}', which a Network has"
    for member, value in said.items():
        found = getattr(network, member)
        assert found == value, f"{_name(network)}.{member} is {found!r} for 2 channels and 3 classes, not {value}"
    check_stride(network)
    images = _images(2, 2, EVEN[network.spatial_dims])
    outputs, presence = training_outputs(network, images)
    assert network.num_supervised == len(outputs), (
        f"{_name(network)}.num_supervised is {network.num_supervised}, and it gives {len(outputs)} logits in training"
    )
    told = network.segment(images)[1]
    assert (told is None) == (presence is None), f"{_name(network)} tells presence in training or in segment, not both"


def check_stride(network: Network) -> None:
    """It is for images or volumes, and has one stride for each of their axes."""
    dims, stride = network.spatial_dims, network.stride
    assert dims in SIZES, f"{_name(network)}.spatial_dims is {dims!r}, not 2 or 3"
    fits = isinstance(stride, tuple) and len(stride) == dims and all(isinstance(s, int) and s >= 1 for s in stride)
    assert fits, f"{_name(network)}.stride is {stride!r}, not a tuple of {dims} whole numbers of at least 1"


def check_sizes(make: MakeNetwork, classes: int, size: Sequence[int]) -> None:
    """Images of any size give finite logits of that size, in training and in evaluation."""
    network, images = build(make, 3, classes), _images(2, 3, size)
    expected = (2, classes, *size)
    outputs, presence = training_outputs(network, images)
    for logits in outputs:
        assert logits.shape == expected, f"logits in training have shape {list(logits.shape)}, not {list(expected)}"
    network.eval()
    logits = network(images)
    assert isinstance(logits, Tensor), f"in evaluation it returns {type(logits).__name__}, not one tensor of logits"
    segmented, told = network.segment(images)
    for found, where in ((logits, "in evaluation"), (segmented, "of segment")):
        assert found.shape == expected, f"logits {where} have shape {list(found.shape)}, not {list(expected)}"
        assert bool(found.isfinite().all()), f"logits {where} of images {list(size)} are not finite"
    structures = [2, max(1, classes - 1), 2]
    for said in (presence, told):
        assert said is None or list(said.shape) == structures, f"presence has shape {list(said.shape)}"


def check_channels(make: MakeNetwork, in_channels: int) -> None:
    """Images of any number of channels are taken."""
    network = build(make, in_channels, 3).eval()
    size = EVEN[network.spatial_dims]
    shape = network(_images(1, in_channels, size)).shape
    assert shape == (1, 3, *size), f"with {in_channels} channels logits have shape {list(shape)}"


def check_batch(make: MakeNetwork, classes: int) -> None:
    """In evaluation the images of a batch do not know each other; in float64, where rounding cannot hide it."""
    network = settled(build(make, 3, classes), 3).to(torch.float64)
    images = _images(2, 3, ODD[network.spatial_dims]).double()
    together = network(images)
    for index in range(2):
        alone = network(images[index : index + 1])[0]
        close = torch.allclose(together[index], alone, rtol=1e-9, atol=1e-9)
        assert close, "in evaluation the logits of an image depend on the other images of its batch"


def check_repeatable(make: MakeNetwork) -> None:
    """In evaluation the same image gives the same logits twice."""
    network = settled(build(make, 3, 3), 3)
    images = _images(1, 3, EVEN[network.spatial_dims])
    assert torch.equal(network(images), network(images)), "in evaluation the same image gives other logits each time"


def check_weights(make: MakeNetwork) -> None:
    """Weights alone make the answer: saved and loaded they give it again, and none is kept twice."""
    network = settled(build(make, 3, 3), 3)
    images = _images(1, 3, EVEN[network.spatial_dims])
    state = network.state_dict()
    assert len({tensor.data_ptr() for tensor in state.values()}) == len(state), "two names share one weight"
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    other = build(make, 3, 3, seed=1).eval()
    assert not torch.equal(other(images), network(images)), "weights drawn with another seed give the same logits"
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(images), network(images)), "weights saved and loaded give other logits"


def check_gradients(make: MakeNetwork, classes: int) -> None:
    """Every parameter gets a finite gradient from the outputs in training."""
    network = build(make, 3, classes)
    outputs, presence = training_outputs(network, _images(2, 3, ODD[network.spatial_dims]))
    found = [*outputs] if presence is None else [*outputs, presence]
    torch.autograd.backward([each.square().mean() for each in found])
    assert isinstance(network, nn.Module)
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, (
            f"parameter '{key}' gets no gradient: it is not part of the output in training"
        )
        assert bool(parameter.grad.isfinite().all()), f"the gradient of parameter '{key}' is not finite"


def check_untaught(make: MakeNetwork) -> None:
    """A network that was never taught presence does not gate: its logits are those before any gate."""
    network = settled(build(make, 3, 3), 3)
    images = 3 * _images(4, 3, EVEN[network.spatial_dims])
    images[0] = 0
    ungated = torch.equal(network(images), network.segment(images)[0])
    assert ungated, "before it is taught presence it changes its logits by it: start with every structure present"


def check_refusals(make: MakeNetwork) -> None:
    """Images of another rank or number of channels are refused, not broadcast."""
    network = build(make, 3, 3).eval()
    size = EVEN[network.spatial_dims]
    for shape in ((3, *size), (1, 4, *size)):
        try:
            network(torch.zeros(shape))
        except Exception:
            continue
        raise AssertionError(f"an image of shape {list(shape)} is taken by a network of 3 channels")


def build(make: MakeNetwork, in_channels: int, classes: int, seed: int = 0) -> Network:
    """Build a network whose weights depend on `seed` alone, and leave torch's generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(in_channels, classes)


def settled(network: Network, in_channels: int) -> Network:
    """Show a network some images in training, for the statistics of its norms, and switch it to evaluation."""
    with torch.no_grad():
        network.train()(_images(4, in_channels, EVEN[network.spatial_dims]))
    return network.eval()


def training_outputs(network: Network, images: Tensor) -> tuple[Sequence[Tensor], Tensor | None]:
    """Return what a network gives in training: its logits, finest first, and presence or None."""
    output = network.train()(images)
    if isinstance(output, Tensor):
        return [output], None
    assert isinstance(output, SegmentationOutput), (
        f"in training {_name(network)} returns {type(output).__name__}, not a tensor or a SegmentationOutput"
    )
    more = len(output.logits) > 1 or output.presence is not None
    assert more, f"in training {_name(network)} returns a SegmentationOutput of one tensor: return the tensor itself"
    return output.logits, output.presence


def _images(batch: int, channels: int, size: Sequence[int]) -> Tensor:
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(3))


def _name(network: object) -> str:
    return type(network).__name__
