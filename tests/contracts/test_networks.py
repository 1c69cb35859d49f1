"""What every network of the table must do."""

import io

import pytest
import torch
from torch import nn

from fullscale.errors import UsageError
from fullscale.networks import create_network, list_networks
from fullscale.networks.protocol import Network, SegmentationOutput

SMALL = {
    "unet3+": {"width": 2, "skip_channels": 4},
    "unet": {"width": 2},
    "unet++": {"width": 2},
    "attention-unet": {"width": 2},
    "pspnet": {"encoder": "resnet10t", "width": 4},
    "deeplabv2": {"encoder": "resnet10t"},
    "deeplabv3": {"encoder": "resnet10t", "width": 4},
    "deeplabv3+": {"encoder": "resnet10t", "width": 4},
}
"""Options that make a network quick to run."""

pytestmark = pytest.mark.parametrize("name", list_networks())


def build(name: str, in_channels: int = 3, classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return create_network(name, in_channels, classes, **SMALL[name])


def settled(network: nn.Module, in_channels: int = 3) -> nn.Module:
    with torch.no_grad():
        network.train()(torch.randn(4, in_channels, 32, 32))
    return network.eval()


@pytest.mark.parametrize("size", [(32, 48), (33, 47), (61, 19), (5, 80)])
@pytest.mark.parametrize("classes", [1, 3])
def test_logits_have_the_size_of_the_image(name, size, classes):
    network, image = build(name, classes=classes), torch.randn(2, 3, *size)
    output = network.train()(image)
    assert isinstance(output, SegmentationOutput)
    assert all(logits.shape == (2, classes, *size) for logits in output.logits)
    assert output.presence is None or output.presence.shape == (2, max(1, classes - 1), 2)
    logits = network.eval()(image)
    assert isinstance(logits, torch.Tensor)
    assert logits.shape == (2, classes, *size)
    assert logits.isfinite().all()


@pytest.mark.parametrize("in_channels", [1, 2, 3, 4, 5])
def test_any_number_of_channels_is_taken(name, in_channels):
    network = build(name, in_channels=in_channels).eval()
    assert network(torch.randn(1, in_channels, 32, 32)).shape == (1, 3, 32, 32)


@pytest.mark.parametrize("classes", [1, 3])
def test_batch_members_do_not_know_each_other_in_evaluation(name, classes):
    network = settled(build(name, classes=classes))
    images = torch.randn(2, 3, 40, 33)
    together = network(images)
    for member in range(2):
        alone = network(images[member : member + 1])[0]
        torch.testing.assert_close(together[member], alone, rtol=1e-4, atol=1e-5)


def test_evaluation_is_the_same_twice(name):
    network, image = settled(build(name)), torch.randn(1, 3, 32, 32)
    assert torch.equal(network(image), network(image))


def test_weights_saved_and_loaded_give_the_same_answer(name):
    network, image = settled(build(name)), torch.randn(1, 3, 32, 32)
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    torch.manual_seed(1)
    other = create_network(name, 3, 3, **SMALL[name]).eval()
    assert not torch.equal(other(image), network(image))
    other.load_state_dict(torch.load(file, weights_only=True), strict=True)
    assert torch.equal(other(image), network(image))


def test_no_weight_is_stored_twice(name):
    state = build(name).state_dict()
    assert len({tensor.data_ptr() for tensor in state.values()}) == len(state)


@pytest.mark.parametrize("classes", [1, 3])
def test_every_parameter_gets_a_finite_gradient(name, classes):
    network = build(name, classes=classes).train()
    output = network(torch.randn(2, 3, 33, 32))
    loss = sum(logits.square().mean() for logits in output.logits)
    if output.presence is not None:
        loss = loss + output.presence.square().mean()
    loss.backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 4, 32, 32)])
def test_wrong_image_is_refused(name, shape):
    with pytest.raises(UsageError, match="expected"):
        build(name)(torch.zeros(shape))


@pytest.mark.parametrize(("in_channels", "classes"), [(0, 1), (3, 0), (-1, 1)])
def test_impossible_numbers_are_refused(name, in_channels, classes):
    with pytest.raises(UsageError, match="at least 1"):
        create_network(name, in_channels, classes, **SMALL[name])


def test_it_keeps_the_promise_of_a_network(name):
    network = build(name, in_channels=2, classes=3)
    assert isinstance(network, Network)
    assert (network.in_channels, network.classes, network.spatial_dims) == (2, 3, 2)
    output = network.train()(torch.randn(2, 2, 32, 32))
    assert network.num_supervised == len(output.logits)


def test_segment_gives_logits_of_the_size_of_the_image_and_presence_or_none(name):
    network = settled(build(name))
    logits, presence = network.segment(torch.randn(2, 3, 33, 20))
    assert logits.shape == (2, 3, 33, 20)
    assert presence is None or presence.shape == (2, 2, 2)


def test_a_side_of_one_stride_needs_no_padding(name):
    network, seen = settled(build(name)), []
    first = next(part for part in network.modules() if isinstance(part, nn.Conv2d))
    first.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[2:])))
    network(torch.randn(1, 3, network.stride, 3 * network.stride))
    network(torch.randn(1, 3, network.stride + 1, 1))
    assert seen == [(network.stride, 3 * network.stride), (2 * network.stride, network.stride)]
