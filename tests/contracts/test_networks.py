"""What every network of the table must do."""

import pytest
import torch
from small_networks import SMALL
from torch.nn import functional as F

from fullscale.errors import UsageError
from fullscale.networks import create_network, list_networks, network_options
from fullscale.networks.protocol import Network, SegmentationOutput
from fullscale.testing import networks as checks

pytestmark = pytest.mark.parametrize("name", list_networks())


def maker(name: str) -> checks.MakeNetwork:
    return lambda in_channels, classes: create_network(name, in_channels, classes, **SMALL[name])


def build(name: str, in_channels: int = 3, classes: int = 3) -> Network:
    return checks.build(maker(name), in_channels, classes)


@pytest.mark.parametrize("size", [*checks.SIZES, (16, 97)])
@pytest.mark.parametrize("classes", [1, 3])
def test_logits_have_the_size_of_the_image(name, size, classes):
    checks.check_sizes(maker(name), classes, size)


@pytest.mark.parametrize("in_channels", [1, 2, 3, 4, 5])
def test_any_number_of_channels_is_taken(name, in_channels):
    checks.check_channels(maker(name), in_channels)


@pytest.mark.parametrize("classes", [1, 3])
def test_batch_members_do_not_know_each_other_in_evaluation(name, classes):
    checks.check_batch(maker(name), classes)


def test_evaluation_is_the_same_twice(name):
    checks.check_repeatable(maker(name))


def test_weights_saved_and_loaded_give_the_same_answer_and_none_is_stored_twice(name):
    checks.check_weights(maker(name))


@pytest.mark.parametrize("classes", [1, 3])
def test_every_parameter_gets_a_finite_gradient(name, classes):
    checks.check_gradients(maker(name), classes)


def test_it_keeps_the_promise_of_a_network(name):
    checks.check_protocol(maker(name))
    assert isinstance(build(name), Network)


def test_a_network_that_was_never_taught_presence_gates_nothing(name):
    checks.check_untaught(maker(name))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 4, 32, 32)])
def test_wrong_image_is_refused(name, shape):
    with pytest.raises(UsageError, match="expected"):
        build(name)(torch.zeros(shape))


@pytest.mark.parametrize(("in_channels", "classes"), [(0, 1), (3, 0), (-1, 1)])
def test_impossible_numbers_are_refused(name, in_channels, classes):
    with pytest.raises(UsageError, match="at least 1"):
        create_network(name, in_channels, classes, **SMALL[name])


def test_any_size_is_the_image_padded_to_the_stride_and_cropped(name):
    network, image = checks.settled(build(name), 3), torch.randn(2, 3, 37, 50)
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
