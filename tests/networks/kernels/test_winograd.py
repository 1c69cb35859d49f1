"""Minimal filtering: the direct convolution, its gradients, its error in float32, and what it counts."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from torch.nn import functional as F

from fullscale.networks.kernels.winograd import (
    POINTS,
    TAPS,
    A,
    B,
    G,
    _convolve,
    _groups,
    _weight_gradient,
    cook_toom,
    multiply_accumulates,
    tile_grid,
    winograd_conv,
)
from fullscale.networks.parameters import count_macs


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm().clamp(min=1e-300)).item()


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 40),
    channels=st.integers(1, 7),
    out=st.integers(1, 7),
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    bias=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_output_and_gradients_are_those_of_the_direct_convolution(batch, channels, out, height, width, bias, seed):
    rng = torch.Generator().manual_seed(seed)
    x, weight, shift = (
        torch.randn(shape, generator=rng, dtype=torch.float64, requires_grad=True)
        for shape in ((batch, channels, height, width), (out, channels, 3, 3), (out,))
    )
    inputs = (x, weight, shift) if bias else (x, weight)
    found = winograd_conv(x, weight, shift if bias else None)
    expected = F.conv2d(x, weight, shift if bias else None, padding=1)
    assert found.shape == expected.shape
    assert relative_error(found, expected) < 1e-12
    arriving = torch.randn(expected.shape, generator=rng, dtype=torch.float64)
    for ours, theirs in zip(
        torch.autograd.grad(found, inputs, arriving), torch.autograd.grad(expected, inputs, arriving), strict=True
    ):
        assert relative_error(ours, theirs) < 1e-12


@pytest.mark.parametrize(("batch", "channels", "out", "height", "width"), [(2, 160, 3, 45, 70), (9, 300, 2, 21, 30)])
def test_many_blocks_and_groups_are_put_together_rightly(batch, channels, out, height, width):
    rows, columns = tile_grid(height, width)
    groups = list(_groups(batch, rows, columns, channels))
    assert len(groups) > 1
    assert max(map(len, groups)) > 1
    tiles = torch.zeros(batch, rows, dtype=torch.int)
    for group in groups:
        assert [block.at.start for block in group] == [0, *(block.at.stop for block in group[:-1])]
        for images, some_rows, at in group:
            tiles[images, some_rows] += 1
            assert at.stop - at.start == tiles[images, some_rows].numel() * columns
    assert (tiles == 1).all()
    torch.manual_seed(0)
    x = torch.randn(batch, channels, height, width, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(out, channels, 3, 3, dtype=torch.float64, requires_grad=True)
    found, expected = winograd_conv(x, weight, None), F.conv2d(x, weight, padding=1)
    assert relative_error(found, expected) < 1e-12
    arriving = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad(found, (x, weight), arriving),
        torch.autograd.grad(expected, (x, weight), arriving),
        strict=True,
    ):
        assert relative_error(ours, theirs) < 1e-12


def test_no_image_at_all():
    assert winograd_conv(torch.empty(0, 3, 8, 8), torch.empty(2, 3, 3, 3), None).shape == (0, 2, 8, 8)


@pytest.mark.parametrize(("points", "taps"), [(POINTS, 3), ((Fraction(0), Fraction(1), Fraction(-1)), 3), (POINTS, 2)])
def test_the_matrices_filter_exactly(points, taps):
    a, g, b = cook_toom(points, taps)
    n = len(points) + 1
    data, weight = torch.arange(1.0, n + 1).double() ** 2, torch.arange(1.0, taps + 1).double() ** 3
    expected = torch.stack([data[i : i + taps] @ weight for i in range(n + 1 - taps)])
    torch.testing.assert_close(a @ ((g @ weight) * (b @ data)), expected, rtol=1e-12, atol=1e-12)


def test_float32_loses_at_most_three_times_what_the_direct_convolution_loses():
    torch.manual_seed(0)
    x, weight = torch.randn(1, 320, 24, 20).relu(), torch.randn(320, 320, 3, 3) / 54
    x = x.to(memory_format=torch.channels_last)
    truth = F.conv2d(x.double(), weight.double(), padding=1)
    direct = relative_error(F.conv2d(x, weight, padding=1), truth)
    assert relative_error(winograd_conv(x, weight, None), truth) < 3 * direct


@pytest.mark.parametrize("shape", [(1, 5, 7, 33, 18), (9, 4, 3, 8, 5)])
def test_the_count_is_that_of_the_products_that_are_done(shape):
    batch, channels, out, height, width = shape
    x, weight = torch.randn(batch, height, width, channels), torch.randn(out, channels, 3, 3)
    for work in (lambda: _convolve(x, weight, None), lambda: _weight_gradient(x, torch.randn(*x.shape[:3], out))):
        assert count_macs(work) == multiply_accumulates(*shape)
    image, kernel = x.permute(0, 3, 1, 2).requires_grad_(), weight.requires_grad_()
    back = multiply_accumulates(batch, out, channels, height, width)
    step = count_macs(lambda: winograd_conv(image, kernel, None).sum().backward())
    assert step == 2 * multiply_accumulates(*shape) + back


def test_it_compiles_into_one_graph_and_passes_the_checks_of_a_custom_operator():
    x, weight, bias = torch.randn(2, 9, 10, 3), torch.randn(4, 3, 3, 3), torch.randn(4)
    inputs = tuple(tensor.requires_grad_() for tensor in (x, weight, bias))
    torch.library.opcheck(torch.ops.fullscale.winograd_conv, inputs)
    compiled = torch.compile(winograd_conv, fullgraph=True, backend="aot_eager")
    image = torch.randn(2, 3, 9, 10)
    torch.testing.assert_close(compiled(image, weight, bias), winograd_conv(image, weight, bias))


def test_a_tensor_of_monai_is_convolved_like_any_other():
    x, weight = torch.randn(2, 3, 16, 16, dtype=torch.float64), torch.randn(4, 3, 3, 3, dtype=torch.float64)
    weight.requires_grad_()
    found, expected = winograd_conv(MetaTensor(x), weight, None), F.conv2d(x, weight, padding=1)
    assert relative_error(found, expected) < 1e-12
    (ours,), (theirs,) = (torch.autograd.grad(y.square().sum(), weight) for y in (found, expected))
    assert relative_error(ours, theirs) < 1e-12


def test_the_matrices_have_content_wherever_they_are_made():
    """A model is built without content, on the device "meta", and that may be when this module is first imported."""
    with torch.device("meta"):
        matrices = cook_toom(POINTS, TAPS)
    assert all(torch.equal(torch.kron(one, one), known) for one, known in zip(matrices, (A, G, B), strict=True))
