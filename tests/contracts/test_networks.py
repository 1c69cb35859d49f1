"""What every network of the table must do."""

import io

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fullscale.errors import UsageError
from fullscale.networks import create_network, list_networks, network_options
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


def training_outputs(network: nn.Module, image: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor | None]:
    """Return what a network gives in training as a list of logits, and presence."""
    output = network.train()(image)
    return ([output], None) if isinstance(output, torch.Tensor) else (output.logits, output.presence)


def settled(network: nn.Module, in_channels: int = 3) -> nn.Module:
    with torch.no_grad():
        network.train()(torch.randn(4, in_channels, 32, 32))
    return network.eval()


@pytest.mark.parametrize("size", [(32, 48), (33, 47), (61, 19), (5, 80)])
@pytest.mark.parametrize("classes", [1, 3])
def test_logits_have_the_size_of_the_image(name, size, classes):
    network, image = build(name, classes=classes), torch.randn(2, 3, *size)
    outputs, presence = training_outputs(network, image)
    assert all(logits.shape == (2, classes, *size) for logits in outputs)
    assert presence is None or presence.shape == (2, max(1, classes - 1), 2)
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
    outputs, presence = training_outputs(network, torch.randn(2, 3, 33, 32))
    loss = sum(logits.square().mean() for logits in outputs)
    if presence is not None:
        loss = loss + presence.square().mean()
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
    outputs, presence = training_outputs(network, torch.randn(2, 2, 32, 32))
    assert network.num_supervised == len(outputs)
    assert (presence is None) == (network.segment(torch.randn(2, 2, 32, 32))[1] is None)


def test_segment_gives_logits_of_the_size_of_the_image_and_presence_or_none(name):
    network = settled(build(name))
    logits, presence = network.segment(torch.randn(2, 3, 33, 20))
    assert logits.shape == (2, 3, 33, 20)
    assert presence is None or presence.shape == (2, 2, 2)


def test_any_size_is_the_image_padded_to_the_stride_and_cropped(name):
    network, image = settled(build(name)), torch.randn(2, 3, 37, 50)
    below, beside = -37 % network.stride, -50 % network.stride
    padded = network(F.pad(image, (0, beside, 0, below), mode="replicate"))
    torch.testing.assert_close(network(image), padded[..., :37, :50], rtol=0, atol=0)


def test_training_gives_a_plain_tensor_where_there_is_nothing_else_to_say(name):
    options = {"deep_supervision": False, "classification_guided": False}
    options = {option: value for option, value in options.items() if option in network_options(name)}
    torch.manual_seed(0)
    network = create_network(name, 3, 2, **SMALL[name] | options).train()
    logits = network(torch.randn(2, 3, 33, 32))
    assert isinstance(logits, torch.Tensor)
    assert logits.shape == (2, 2, 33, 32)
    F.cross_entropy(logits, torch.zeros(2, 33, 32, dtype=torch.long)).backward()


def test_training_gives_its_outputs_together_where_there_are_several(name):
    network = build(name).train()
    output = network(torch.randn(2, 3, 32, 32))
    several = network.num_supervised > 1 or network.segment(torch.randn(2, 3, 32, 32))[1] is not None
    assert isinstance(output, SegmentationOutput if several else torch.Tensor)


def test_a_network_that_was_never_taught_presence_gates_nothing(name):
    network = settled(build(name))
    images = 3 * torch.randn(4, 3, 32, 32)
    images[0] = 0
    ungated, _ = network.segment(images)
    torch.testing.assert_close(network(images), ungated, rtol=0, atol=0)
