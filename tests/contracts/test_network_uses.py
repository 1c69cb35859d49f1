"""What people do with a network beside calling it: any size and type of image, copies, pickles, wrappers, compilers."""

import copy
import io
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import SMALL
from torch import nn

from fullscale.networks import create_network, list_networks
from fullscale.networks.state_dicts import unwrap_state_dict

ONE_IMAGE_IS_REFUSED = ("deeplabv3", "deeplabv3+")
"""In training they normalise one value an image, and say so; see `require_batch`."""

pytestmark = pytest.mark.parametrize("name", list_networks())


def build(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return create_network(name, 2, 3, **SMALL[name]).eval()


@settings(deadline=None, max_examples=12)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    batch=st.integers(1, 2),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    channels_last=st.booleans(),
)
def test_images_of_any_size_and_floating_type_give_finite_logits_of_that_size(
    name, height, width, batch, dtype, channels_last
):
    network = build(name).to(dtype)
    image = torch.randn(batch, 2, height, width, dtype=dtype)
    if channels_last:
        image = image.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        logits = network(image)
    assert logits.shape == (batch, 3, height, width)
    assert logits.dtype == dtype
    assert logits.isfinite().all()


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (33, 32)])
def test_a_single_image_trains(name, size):
    if name in ONE_IMAGE_IS_REFUSED:
        pytest.skip("refused in words, which test_dilated.py tests")
    network = build(name).train()
    output = network(torch.randn(1, 2, *size))
    outputs = [output] if isinstance(output, torch.Tensor) else output.logits
    sum(logits.square().mean() for logits in outputs).backward()
    assert all(logits.shape == (1, 3, *size) for logits in outputs)
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


def test_a_copy_and_a_pickle_answer_the_same_and_are_networks_of_their_own(name):
    network, image = build(name), torch.randn(1, 2, 33, 20)
    with torch.no_grad():
        expected = network(image)
        copies = [copy.deepcopy(network), pickle.loads(pickle.dumps(network))]
        for parameter in network.parameters():
            parameter.zero_()
        assert all(torch.equal(twin(image), expected) for twin in copies)


def test_weights_of_a_data_parallel_wrapper_load(name):
    network, image = build(name), torch.randn(1, 2, 33, 20)
    file = io.BytesIO()
    torch.save({"state_dict": nn.DataParallel(network).state_dict()}, file)
    file.seek(0)
    other = build(name, seed=1)
    other.load_state_dict(unwrap_state_dict(torch.load(file, weights_only=True)))
    with torch.no_grad():
        assert torch.equal(other(image), network(image))


@pytest.mark.slow
def test_it_compiles_as_one_graph(name):
    network, image = build(name), torch.randn(2, 2, 33, 20)
    torch.compiler.reset()
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(image), network(image), rtol=1e-4, atol=1e-5)
