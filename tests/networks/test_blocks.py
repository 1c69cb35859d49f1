import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from fullscale.errors import UsageError
from fullscale.networks.base import SegmentationNetwork, crop, pad_to_stride
from fullscale.networks.blocks import (
    ConvNormAct,
    initialise,
    require_positive,
)
from fullscale.networks.heads import Head, Head3d
from fullscale.networks.kernels import forms
from fullscale.networks.norms import InstanceNorm
from fullscale.networks.spatial import check_image, log2_scale, step_strides, upsample


@pytest.mark.parametrize("log2_scale", [-1, 0, 1, 3])
def test_evaluation_folds_the_normalisation_into_the_convolution(log2_scale):
    block = ConvNormAct(3, 5, (log2_scale, log2_scale)).double()
    with torch.no_grad():
        block.norm.running_mean.normal_()
        block.norm.running_var.uniform_(0.1, 3)
        block.norm.weight.normal_()
        block.norm.bias.normal_()
    image = torch.randn(2, 3, 16, 18, dtype=torch.float64)
    expected = torch.relu(block.eval().norm(block.conv(image)))
    torch.testing.assert_close(block(image), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("shape", [(2, 5, 7, 4), (1, 3, 1, 1), (3, 2, 1, 6)])
def test_a_head_is_a_convolution(shape, classes):
    head = Head(shape[1], classes).double()
    image, upstream = torch.randn(shape, dtype=torch.float64), torch.randn(shape[0], classes, *shape[2:]).double()
    found = []
    for forward in (head, lambda x: F.conv2d(x, head.weight, head.bias, padding=1)):
        head.zero_grad()
        x = image.clone().requires_grad_()
        logits = forward(x)
        logits.backward(upstream)
        found.append((logits.detach(), x.grad, head.weight.grad.clone(), head.bias.grad.clone()))
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("shape", [(2, 5, 11, 4, 3), (1, 3, 1, 1, 1), (1, 2, 8, 1, 6)])
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("long_vectors", [True, False])
def test_a_head_for_volumes_is_a_convolution(monkeypatch, shape, classes, channels_last, long_vectors):
    monkeypatch.setattr(forms, "has_long_vectors", lambda: long_vectors)
    head = Head3d(shape[1], classes).double()
    volume, upstream = torch.randn(shape, dtype=torch.float64), torch.randn(shape[0], classes, *shape[2:]).double()
    if channels_last:
        volume = volume.contiguous(memory_format=torch.channels_last_3d)
    found = []
    for forward in (head, lambda x: F.conv3d(x, head.weight, head.bias, padding=1)):
        head.zero_grad()
        x = volume.clone().requires_grad_()
        logits = forward(x)
        logits.backward(upstream)
        found.append((logits.detach(), x.grad, head.weight.grad.clone(), head.bias.grad.clone()))
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)


def test_a_head_in_bf16_is_the_convolution_itself():
    head, image = Head(4, 1), torch.randn(1, 4, 9, 8)
    with torch.autocast("cpu", torch.bfloat16):
        plain = F.conv2d(image, head.weight, head.bias, padding=1)
        assert torch.equal(head(image), plain)


def test_block_is_convolution_norm_and_relu():
    block = ConvNormAct(2, 3).eval()
    image = torch.randn(1, 2, 4, 4)
    convolved = F.conv2d(image, block.conv.weight, block.conv.bias, padding=1)
    torch.testing.assert_close(block(image), (convolved / math.sqrt(1 + block.norm.eps)).clamp(min=0))


def test_padding_repeats_the_last_row_and_column_and_crop_takes_them_off():
    image = torch.arange(15.0).reshape(1, 1, 3, 5)
    padded = pad_to_stride(image, (4, 4), training=False)
    assert padded.shape == (1, 1, 4, 8)
    assert padded[0, 0, 3].tolist() == [10, 11, 12, 13, 14, 14, 14, 14]
    assert torch.equal(crop(padded, (3, 5)), image)


@pytest.mark.parametrize(
    ("batch", "side", "training", "width"), [(1, 16, True, 32), (1, 1, True, 32), (2, 16, True, 16), (1, 16, False, 16)]
)
def test_a_single_deepest_pixel_is_widened_only_when_training_alone(batch, side, training, width):
    assert pad_to_stride(torch.zeros(batch, 1, side, side), (16, 16), training).shape == (batch, 1, 16, width)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 2, 8, 8), (1, 3, 8, 8, 8), (1, 3, 0, 8)])
def test_wrong_image_shape_is_named_with_the_expected_one(shape):
    with pytest.raises(UsageError, match="expected") as caught:
        check_image(torch.zeros(shape), 3, 2)
    assert str(list(shape)) in str(caught.value)


@pytest.mark.parametrize("shape", [(3, 8, 8, 8), (1, 3, 8, 8), (1, 2, 8, 8, 8), (1, 3, 0, 8, 8)])
def test_wrong_volume_shape_is_named_with_the_expected_one(shape):
    with pytest.raises(UsageError, match="expected") as caught:
        check_image(torch.zeros(shape), 3, 3)
    assert str(list(shape)) in str(caught.value)


def test_a_volume_is_padded_at_the_end_of_each_axis_by_its_own_stride():
    volume = torch.arange(12.0).reshape(1, 1, 2, 3, 2)
    padded = pad_to_stride(volume, (1, 2, 4), training=False)
    assert padded.shape == (1, 1, 2, 4, 4)
    assert padded[0, 0, 1].tolist() == [[6, 7, 7, 7], [8, 9, 9, 9], [10, 11, 11, 11], [10, 11, 11, 11]]
    assert torch.equal(crop(padded, (2, 3, 2)), volume)
    assert pad_to_stride(torch.zeros(1, 1, 1, 2, 3), (1, 2, 4), training=True).shape == (1, 1, 1, 2, 8)


@given(
    st.lists(st.integers(1, 5), min_size=3, max_size=3),
    st.lists(st.sampled_from([1, 2, 4, 8]), min_size=3, max_size=3),
    st.integers(1, 9),
    st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_volumes_are_brought_up_as_torch_does_it_with_the_same_gradient(sides, factors, channels, channels_last):
    volume = torch.randn(2, channels, *sides, dtype=torch.float64)
    layout = torch.channels_last_3d if channels_last else torch.contiguous_format
    ours, theirs = (volume.clone(memory_format=layout).requires_grad_() for _ in range(2))
    brought = upsample(ours, factors)
    expected = F.interpolate(theirs, scale_factor=[float(k) for k in factors], mode="trilinear")
    torch.testing.assert_close(brought, expected, rtol=1e-12, atol=1e-12)
    passed = torch.randn_like(expected)
    brought.backward(passed)
    expected.backward(passed)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-12)


def test_up_sampling_leaves_an_axis_of_factor_1_alone():
    volume = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64)
    by_slice = torch.stack([upsample(volume[:, :, z], (2, 4)) for z in range(4)], dim=2)
    torch.testing.assert_close(upsample(volume, (1, 2, 4)), by_slice, rtol=1e-12, atol=1e-12)
    assert upsample(volume, (1, 1, 1)) is volume


def test_scales_between_levels_count_doublings_along_each_axis():
    assert log2_scale((4, 8, 8), (1, 2, 1)) == (2, 2, 3)
    assert log2_scale((1, 2), (8, 8)) == (-3, -2)


@pytest.mark.parametrize(
    ("strides", "dims", "message"),
    [
        ([(1, 2, 2)], 3, "has 1 steps for 3 levels: expected 2"),
        ([(1, 1, 1), (2, 2, 2)], 3, r"has the step \[1, 1, 1\]: expected 1 or 2 .* not all 1"),
        ([(2, 2), (2, 2)], 3, r"has the step \[2, 2\]"),
        ([(3, 2, 2), (2, 2, 2)], 3, r"has the step \[3, 2, 2\]"),
        ([(1, 2), (2, 2)], 2, r"has the step \[1, 2\]: expected 2, 2"),
    ],
)
def test_strides_that_do_not_fit_are_refused_with_those_that_would(strides, dims, message):
    with pytest.raises(UsageError, match=message):
        step_strides(strides, levels=3, spatial_dims=dims)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 2, 3, 2)])
def test_instance_norm_is_torchs_own_and_stands_a_single_voxel(shape):
    norm, plain = InstanceNorm(3).double(), F.instance_norm
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(norm(x), plain(x, weight=norm.weight, bias=norm.bias))
    alone = torch.randn(2, 3, *(1,) * (len(shape) - 2), dtype=torch.float64, requires_grad=True)
    out = norm(alone)
    torch.testing.assert_close(out.flatten(1), norm.bias.expand(2, 3))
    out.sum().backward()
    assert alone.grad.isfinite().all()


def test_integer_image_is_refused():
    with pytest.raises(UsageError, match=r"torch\.uint8: expected floating point"):
        check_image(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 3, 2)


@pytest.mark.parametrize("number", [0, -1, 2.0, True, None])
def test_number_that_is_no_count_is_refused(number):
    with pytest.raises(UsageError, match=f"width is {number!r}"):
        require_positive(width=number)


def test_initial_weights_have_the_spread_of_kaiming_and_norms_near_one():
    torch.manual_seed(0)
    block = ConvNormAct(64, 256)
    block.norm.bias.data.fill_(3)
    initialise(block)
    assert math.isclose(block.conv.weight.std().item(), math.sqrt(2 / (64 * 9)), rel_tol=0.02)
    assert abs(block.norm.weight.mean().item() - 1) < 0.01
    assert math.isclose(block.norm.weight.std().item(), 0.02, rel_tol=0.2)
    assert block.norm.bias.abs().max() == 0


def test_one_stride_for_all_axes_is_refused_with_what_is_meant():
    with pytest.raises(UsageError, match=r"stride is 2: expected one number an axis, such as \(2, 2\)"):
        SegmentationNetwork(1, 1, 2)


@pytest.mark.parametrize("factors", [(2, 2, 2), (1, 4, 2), (8, 8, 8), (4, 4), (16, 8)])
def test_a_map_in_bf16_is_brought_up_with_one_rounding(factors):
    torch.manual_seed(0)
    low = torch.randn(2, 5, *(3, 4, 6)[: len(factors)]).bfloat16().requires_grad_()
    exact = low.detach().double().requires_grad_()
    found, truth = upsample(low, factors), upsample(exact, factors)
    upstream = torch.randn(truth.shape).bfloat16()
    to_low, of_truth = (
        torch.autograd.grad(x, leaf, upstream.to(x.dtype))[0] for x, leaf in ((found, low), (truth, exact))
    )
    for ours, theirs in ((found, truth), (to_low, of_truth)):
        assert ours.dtype == torch.bfloat16
        assert torch.all((ours - theirs).abs() <= 2**-8 * theirs.abs() + 1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (1, 2, 32, 1), (1, 1, 33, 2), (2, 3, 4, 2, 3)])
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_map_is_brought_up_as_torch_does(shape, factor):
    torch.manual_seed(0)
    low, sides = torch.randn(shape).double(), len(shape) - 2
    expected = F.interpolate(low, scale_factor=factor, mode="bilinear" if sides == 2 else "trilinear")
    torch.testing.assert_close(upsample(low, (factor,) * sides), expected, rtol=1e-12, atol=1e-12)
