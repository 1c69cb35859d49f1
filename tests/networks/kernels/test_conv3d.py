"""The 3x3x3 convolution with its gradient by slices, against torch's own."""

import pytest
import torch
from torch.nn import functional as F

from fullscale.networks.kernels import conv3d as conv3d_module
from fullscale.networks.kernels import forms
from fullscale.networks.kernels.conv3d import conv3d


@pytest.fixture(autouse=True)
def short_vectors(monkeypatch):
    """Compute as processors do whose vectors are short, whatever this one has."""
    monkeypatch.setattr(forms, "has_long_vectors", lambda: False)


def results(function, x, weight, bias, upstream):
    leaves = [leaf.clone().requires_grad_() for leaf in (x, weight) + (() if bias is None else (bias,))]
    output = function(*leaves, *([None] if bias is None else []))
    return [output.detach(), *torch.autograd.grad(output, leaves, upstream)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5, 6), (1, 2, 1, 3, 3), (3, 1, 2, 1, 1), (1, 4, 5, 2, 7)])
def test_value_and_gradients_are_those_of_torch(monkeypatch, shape, channels_last, bias):
    monkeypatch.setattr(conv3d_module, "LEAST_PIXELS", 0)
    batch, channels, *sides = shape
    x, upstream = torch.randn(shape).double(), torch.randn(batch, 4, *sides).double()
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last_3d)
    weight, offset = torch.randn(4, channels, 3, 3, 3).double(), torch.randn(4).double() if bias else None
    ours = results(conv3d, x, weight, offset, upstream)
    theirs = results(lambda *inputs: F.conv3d(*inputs, padding=1), x, weight, offset, upstream)
    for mine, plain in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-12, atol=1e-12)


def test_a_stride_and_small_maps_are_left_to_torch():
    x, weight = torch.randn(1, 2, 4, 6, 8).double().requires_grad_(), torch.randn(3, 2, 3, 3, 3).double()
    expected = F.conv3d(x, weight, stride=(1, 2, 2), padding=1)
    torch.testing.assert_close(conv3d(x, weight, None, (1, 2, 2)), expected)
    assert "_Conv3d" not in str(conv3d(x, weight, None).grad_fn)
    large = torch.randn(1, 2, 10, 10, 10).double().requires_grad_()
    assert "_Conv3d" in str(conv3d(large, weight, None).grad_fn)


def test_a_processor_with_long_vectors_leaves_it_to_torch(monkeypatch):
    monkeypatch.setattr(forms, "has_long_vectors", lambda: True)
    volume = torch.randn(1, 2, 10, 10, 10).requires_grad_()
    assert "_Conv3d" not in str(conv3d(volume, torch.randn(3, 2, 3, 3, 3), None).grad_fn)


def test_under_autocast_it_is_torchs_own_in_bf16():
    x, weight = torch.randn(1, 2, 10, 10, 10), torch.randn(3, 2, 3, 3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(conv3d(x, weight, None), F.conv3d(x, weight, padding=1))
