import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from fullscale.networks.kernels import scaled_conv3d as module
from fullscale.networks.kernels.scaled_conv3d import ScaledConv3d, cost
from fullscale.networks.parameters import count_macs


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm().clamp(min=1e-300)).item()


def values_and_gradients(
    conv: ScaledConv3d, form: str, volume: torch.Tensor, upstream: torch.Tensor
) -> list[torch.Tensor]:
    conv.form = form
    conv.zero_grad()
    leaf = volume.clone().requires_grad_()
    output = conv(leaf)
    output.backward(upstream)
    bias = [] if conv.bias is None else [conv.bias.grad.clone()]
    return [output.detach(), leaf.grad, conv.weight.grad.clone(), *bias]


@settings(deadline=None, max_examples=60)
@given(
    log2_scale=st.tuples(*(st.integers(0, 4),) * 3),
    sides=st.tuples(st.integers(1, 20), st.integers(1, 5), st.integers(1, 5)),
    channels=st.integers(1, 4),
    out=st.integers(1, 3),
    batch=st.integers(1, 3),
    bias=st.booleans(),
    channels_last=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_the_factored_form_is_the_direct_form_in_value_and_gradients(
    log2_scale, sides, channels, out, batch, bias, channels_last, seed
):
    log2_scale = log2_scale if sum(log2_scale) <= 8 else (min(log2_scale),) * 3
    generator = torch.Generator().manual_seed(seed)
    conv = ScaledConv3d(channels, out, log2_scale, bias=bias).double()
    with torch.no_grad():
        conv.weight.copy_(torch.randn(conv.weight.shape, generator=generator))
    volume = torch.randn(batch, channels, *sides, dtype=torch.float64, generator=generator)
    if channels_last:
        volume = volume.contiguous(memory_format=torch.channels_last_3d)
    high = (side << scale for side, scale in zip(sides, log2_scale, strict=True))
    upstream = torch.randn(batch, out, *high, dtype=torch.float64, generator=generator)
    direct = values_and_gradients(conv, "direct", volume, upstream)
    factored = values_and_gradients(conv, "factored", volume, upstream)
    for a, b in zip(factored, direct, strict=True):
        assert a.shape == b.shape
        assert relative_error(a, b) < 1e-12


@pytest.mark.parametrize("form", ["direct", "factored"])
def test_upsampled_convolution_against_a_literal_reading(form):
    """Each axis interpolated by NumPy at voxel centres, the convolution as a sum over 27 shifts of a zero border."""
    rng = np.random.default_rng(0)
    low, weight, bias = rng.normal(size=(2, 3, 2, 4)), rng.normal(size=(2, 2, 3, 3, 3)), rng.normal(size=2)
    high = low
    for axis, factor in enumerate((1, 2, 4), 1):
        side = high.shape[axis]
        centres = (np.arange(factor * side) + 0.5) / factor - 0.5
        high = np.apply_along_axis(lambda line, c=centres, n=side: np.interp(c, np.arange(n), line), axis, high)
    bordered = np.pad(high, ((0, 0), (1, 1), (1, 1), (1, 1)))
    depth, rows, columns = high.shape[1:]
    expected = np.zeros((2, depth, rows, columns)) + bias[:, None, None, None]
    for z in range(3):
        for y in range(3):
            for x in range(3):
                shifted = bordered[:, z : z + depth, y : y + rows, x : x + columns]
                expected += np.einsum("oi,izyx->ozyx", weight[:, :, z, y, x], shifted)
    conv = ScaledConv3d(2, 2, (0, 1, 2), form=form).double()
    conv.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
    output = conv(torch.from_numpy(low)[None])[0].detach().numpy()
    np.testing.assert_allclose(output, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", ["auto", "direct", "factored"])
def test_pooled_skip_is_maximum_of_blocks_then_convolution(form):
    conv = ScaledConv3d(2, 3, (0, -1, -2), form=form).double()
    volume = torch.randn(2, 2, 3, 4, 8, dtype=torch.float64)
    blocks = volume.reshape(2, 2, 3, 2, 2, 2, 4).amax(dim=(4, 6))
    torch.testing.assert_close(conv(volume), F.conv3d(blocks, conv.weight, conv.bias, padding=1))


def test_a_strided_convolution_is_torchs_own():
    conv = ScaledConv3d(2, 3, stride=(1, 2, 2), form="factored")
    volume = torch.randn(1, 2, 4, 6, 6)
    expected = F.conv3d(volume, conv.weight, conv.bias, padding=1, stride=(1, 2, 2))
    assert torch.equal(conv(volume), expected)


@pytest.mark.parametrize(
    ("channels", "low", "log2_scale"), [(32, 8, (1, 1, 1)), (64, 4, (1, 2, 2)), (64, 2, (3, 3, 3))]
)
def test_under_bf16_the_factored_form_is_as_near_to_the_truth_as_the_direct_form(channels, low, log2_scale):
    torch.manual_seed(0)
    conv, volume = ScaledConv3d(channels, 8, log2_scale), torch.randn(2, channels, low, low, low).relu().bfloat16()
    truth = copy.deepcopy(conv).double()(volume.double())
    errors = {}
    for form in ("direct", "factored"):
        conv.form = form
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = conv(volume)
        assert output.dtype == torch.bfloat16
        errors[form] = relative_error(output.double(), truth)
    assert errors["factored"] < errors["direct"]


@pytest.mark.parametrize("block", [8, None])
@pytest.mark.parametrize("form", ["direct", "factored"])
@pytest.mark.parametrize(
    ("batch", "inputs", "outputs", "sides", "log2_scale"),
    [(1, 5, 3, (3, 4, 5), (1, 1, 1)), (2, 20, 4, (17, 6, 5), (1, 2, 0)), (1, 6, 2, (9, 5, 4), (0, 1, 1))],
)
def test_costs_count_the_multiply_accumulates_that_are_done(
    monkeypatch, batch, inputs, outputs, sides, log2_scale, form, block
):
    monkeypatch.setattr(module, "MACS_PER_BYTE", 0)
    monkeypatch.setattr(module, "CPU_SLICES", block)
    conv, volume = ScaledConv3d(inputs, outputs, log2_scale, form), torch.randn(batch, inputs, *sides)
    with torch.no_grad():
        assert count_macs(lambda: conv(volume)) == cost(form, batch, inputs, outputs, sides, conv.factors, block)


@pytest.mark.parametrize(
    ("form", "channels", "out", "sides", "log2_scale"),
    [
        ("factored", 128, 8, (4, 6, 4), (3, 3, 3)),  # the deepest map of a small network, brought to the finest level
        ("factored", 32, 8, (16, 24, 16), (1, 1, 1)),
        ("factored", 512, 32, (6, 6, 6), (4, 4, 4)),
        ("factored", 64, 8, (16, 12, 8), (0, 1, 1)),
    ],
)
def test_auto_takes_the_form_of_least_cost(form, channels, out, sides, log2_scale):
    conv = ScaledConv3d(channels, out, log2_scale)
    assert conv.choose(torch.empty(1, channels, *sides, device="cpu")) == form


def test_auto_exports_as_the_direct_form_and_factored_as_itself_for_any_size():
    free = torch.export.Dim.DYNAMIC
    for form, factored in (("auto", False), ("factored", True)):
        conv = ScaledConv3d(16, 2, (1, 1, 1), form)
        example = (torch.randn(2, 16, 5, 6, 4),)
        program = torch.export.export(conv, example, dynamic_shapes=({0: free, 2: free, 3: free, 4: free},))
        calls = [str(node.target) for node in program.graph.nodes]
        assert any("mm" in call or "matmul" in call for call in calls) == factored
        volume = torch.randn(3, 16, 3, 4, 7)
        torch.testing.assert_close(program.module()(volume), conv(volume), rtol=1e-4, atol=1e-5)
