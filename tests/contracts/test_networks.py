"""What every network of the table must do, for images and for volumes."""

import pytest
import torch
from torch.nn import functional as F

from fullscale.errors import UsageError
from fullscale.networks import create_network, list_networks, network_options
from fullscale.networks.protocol import Network, SegmentationOutput
from fullscale.networks.spatial import VOLUMETRIC
from fullscale.testing import networks as checks
from tests.contracts.small_networks import CASES, make, network_of

every_case = pytest.mark.parametrize("case", CASES)


def maker(case: str) -> checks.MakeNetwork:
    return lambda in_channels, classes: make(case, in_channels, classes)


def build(case: str, in_channels: int = 3, classes: int = 3) -> Network:
    return checks.build(maker(case), in_channels, classes)


@every_case
def test_logits_have_the_size_of_the_image(case):
    dims = build(case).spatial_dims
    checks.check_sizes(maker(case), 1, {2: (16, 97), 3: (16, 9, 35)}[dims])
    for size in checks.SIZES[dims]:
        checks.check_sizes(maker(case), 3, size)


@every_case
@pytest.mark.parametrize("in_channels", [1, 4])
def test_any_number_of_channels_is_taken(case, in_channels):
    checks.check_channels(maker(case), in_channels)


@every_case
def test_batch_members_do_not_know_each_other_in_evaluation(case):
    checks.check_batch(maker(case), 3)


@every_case
def test_evaluation_is_the_same_twice(case):
    checks.check_repeatable(maker(case))


@every_case
def test_weights_saved_and_loaded_give_the_same_answer_and_none_is_stored_twice(case):
    checks.check_weights(maker(case))


@every_case
@pytest.mark.parametrize("classes", [1, 3])
def test_every_parameter_gets_a_finite_gradient(case, classes):
    checks.check_gradients(maker(case), classes)


@every_case
def test_it_keeps_the_promise_of_a_network(case):
    checks.check_protocol(maker(case))
    assert isinstance(build(case), Network)


@every_case
def test_a_network_that_was_never_taught_presence_gates_nothing(case):
    checks.check_untaught(maker(case))


@every_case
def test_wrong_image_is_refused(case):
    network = build(case)
    size = checks.EVEN[network.spatial_dims]
    for shape in ((3, *size), (1, 4, *size), (1, 3, *size, 8), (1, 3, *size[1:])):
        with pytest.raises(UsageError, match="expected"):
            network(torch.zeros(shape))


@every_case
@pytest.mark.parametrize(("in_channels", "classes"), [(0, 1), (3, 0), (-1, 1)])
def test_impossible_numbers_are_refused(case, in_channels, classes):
    with pytest.raises(UsageError, match="at least 1"):
        make(case, in_channels, classes)


@every_case
def test_any_size_is_the_image_padded_to_the_stride_and_cropped(case):
    network = checks.settled(build(case), 3)
    sides = {2: (37, 50), 3: (11, 18, 21)}[network.spatial_dims]
    image = torch.randn(2, 3, *sides)
    missing = [-side % step for side, step in zip(sides, network.stride, strict=True)]
    padded = network(F.pad(image, [n for m in reversed(missing) for n in (0, m)], mode="replicate"))
    expected = padded[(..., *(slice(side) for side in sides))]
    torch.testing.assert_close(network(image), expected, rtol=0, atol=0)


@every_case
def test_training_gives_a_plain_tensor_where_there_is_nothing_else_to_say(case):
    options = {"deep_supervision": False, "classification_guided": False}
    known = network_options(network_of(case))
    torch.manual_seed(0)
    network = make(case, 3, 2, **{option: value for option, value in options.items() if option in known}).train()
    sides = checks.ODD[network.spatial_dims]
    logits = network(torch.randn(2, 3, *sides))
    assert isinstance(logits, torch.Tensor)
    assert logits.shape == (2, 2, *sides)
    F.cross_entropy(logits, torch.zeros(2, *sides, dtype=torch.long)).backward()


@every_case
def test_training_gives_its_outputs_together_where_there_are_several(case):
    network = build(case).train()
    images = torch.randn(2, 3, *checks.EVEN[network.spatial_dims])
    several = network.num_supervised > 1 or network.segment(images)[1] is not None
    assert isinstance(network(images), SegmentationOutput if several else torch.Tensor)


@pytest.mark.parametrize("name", sorted({*list_networks()} - {*VOLUMETRIC}))
def test_a_network_for_images_refuses_volumes_and_names_those_that_take_them(name):
    with pytest.raises(UsageError, match=r"spatial_dims is 3: .*unet3\+, unet, unet\+\+, attention-unet, strided-unet"):
        make(name, 1, 1, spatial_dims=3)
    assert make(name, 1, 1, spatial_dims=2).spatial_dims == 2


@pytest.mark.parametrize("name", VOLUMETRIC)
@pytest.mark.parametrize("levels", [1, 7, True, "4"])
def test_a_number_of_levels_out_of_range_is_refused(name, levels):
    with pytest.raises(UsageError, match=r"levels is .*: expected 2 to 6"):
        create_network(name, 1, 1, spatial_dims=3, levels=levels)
