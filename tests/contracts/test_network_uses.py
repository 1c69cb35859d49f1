"""What people do with a network beside calling it: any size and type of image, copies, pickles, wrappers, compilers."""

import copy
import io
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fullscale.networks import list_networks
from fullscale.networks.state_dicts import unwrap_state_dict
from tests.contracts.small_networks import CASES, IN_3D, make, shallow

ONE_IMAGE_IS_REFUSED = ("deeplabv3", "deeplabv3+")
"""In training they normalise one value an image, and say so; see `require_batch`."""

SIZE = {2: (33, 20), 3: (9, 20, 12)}
"""Of an image and a volume."""

every_case = pytest.mark.parametrize("case", CASES)
every_image_network = pytest.mark.parametrize("case", list_networks())
every_volume_network = pytest.mark.parametrize("case", IN_3D)


def build(case: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return make(case, 2, 3).eval()


@every_image_network
@settings(deadline=None, max_examples=12)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    batch=st.integers(1, 2),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    channels_last=st.booleans(),
)
def test_images_of_any_size_and_floating_type_give_finite_logits_of_that_size(
    case, height, width, batch, dtype, channels_last
):
    network = build(case).to(dtype)
    image = torch.randn(batch, 2, height, width, dtype=dtype)
    if channels_last:
        image = image.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        logits = network(image)
    assert logits.shape == (batch, 3, height, width)
    assert logits.dtype == dtype
    assert logits.isfinite().all()


@every_volume_network
@settings(deadline=None, max_examples=4)
@given(
    size=st.tuples(*(st.integers(1, 20),) * 3),
    batch=st.integers(1, 2),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    channels_last=st.booleans(),
)
def test_volumes_of_any_size_and_floating_type_give_finite_logits_of_that_size(case, size, batch, dtype, channels_last):
    network = build(case).to(dtype)
    volume = torch.randn(batch, 2, *size, dtype=dtype)
    if channels_last:
        volume = volume.contiguous(memory_format=torch.channels_last_3d)
    with torch.no_grad():
        logits = network(volume)
    assert logits.shape == (batch, 3, *size)
    assert logits.dtype == dtype
    assert logits.isfinite().all()


@every_volume_network
@pytest.mark.parametrize("size", [(1, 1, 1), (3, 20, 9)])
def test_a_single_volume_trains(case, size):
    train_on_one(build(case).train(), size)


@every_image_network
@pytest.mark.parametrize("size", [(1, 1), (3, 40), (33, 32)])
def test_a_single_image_trains(case, size):
    if case in ONE_IMAGE_IS_REFUSED:
        pytest.skip("refused in words, which test_dilated.py tests")
    train_on_one(build(case).train(), size)


def train_on_one(network: nn.Module, size: tuple[int, ...]) -> None:
    output = network(torch.randn(1, 2, *size))
    outputs = [output] if isinstance(output, torch.Tensor) else output.logits
    sum(logits.square().mean() for logits in outputs).backward()
    assert all(logits.shape == (1, 3, *size) for logits in outputs)
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


@every_case
def test_a_copy_and_a_pickle_answer_the_same_and_are_networks_of_their_own(case):
    network = build(case)
    image = torch.randn(1, 2, *SIZE[network.spatial_dims])
    with torch.no_grad():
        expected = network(image)
        copies = [copy.deepcopy(network), pickle.loads(pickle.dumps(network))]
        for parameter in network.parameters():
            parameter.zero_()
        assert all(torch.equal(twin(image), expected) for twin in copies)


@every_case
def test_weights_of_a_data_parallel_wrapper_load(case):
    network = build(case)
    image = torch.randn(1, 2, *SIZE[network.spatial_dims])
    file = io.BytesIO()
    torch.save({"state_dict": nn.DataParallel(network).state_dict()}, file)
    file.seek(0)
    other = build(case, seed=1)
    other.load_state_dict(unwrap_state_dict(torch.load(file, weights_only=True)))
    with torch.no_grad():
        assert torch.equal(other(image), network(image))


@pytest.mark.slow
@every_case
def test_it_compiles_as_one_graph(case):
    network = (
        make(case, 2, 3, **shallow(case)).eval().double()
    )  # an instance norm of a few voxels makes much of float32's rounding
    image = torch.randn(2, 2, *SIZE[network.spatial_dims], dtype=torch.float64)
    torch.compiler.reset()
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(image), network(image), rtol=1e-4, atol=1e-5)
