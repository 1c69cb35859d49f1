import copy
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from fullscale.errors import UsageError
from fullscale.networks.kernels.forms import Form, set_form
from fullscale.networks.kernels.scaled_conv import CPU_BLOCK, ScaledConv, cost
from fullscale.networks.kernels.taps import tap_matrix
from fullscale.networks.parameters import count_macs


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm().clamp(min=1e-300)).item()


def values_and_gradients(
    conv: ScaledConv, form: str, image: torch.Tensor, upstream: torch.Tensor
) -> list[torch.Tensor]:
    conv.form = form
    conv.zero_grad()
    leaf = image.clone().requires_grad_()
    output = conv(leaf)
    output.backward(upstream)
    return [output.detach(), leaf.grad, conv.weight.grad.clone(), conv.bias.grad.clone()]


@settings(deadline=None, max_examples=60)
@given(
    form=st.sampled_from(["factored", "winograd"]),
    log2_scale=st.integers(0, 4),
    height=st.integers(1, 2 * CPU_BLOCK + 5),
    width=st.integers(1, 2 * CPU_BLOCK + 5),
    channels=st.integers(1, 5),
    out=st.integers(1, 4),
    batch=st.integers(1, 3),
    seed=st.integers(0, 2**31),
)
def test_every_form_is_the_direct_form_in_value_and_gradients(
    form, log2_scale, height, width, channels, out, batch, seed
):
    generator = torch.Generator().manual_seed(seed)
    conv = ScaledConv(channels, out, log2_scale).double()
    with torch.no_grad():
        conv.weight.copy_(torch.randn(conv.weight.shape, generator=generator))
    image = torch.randn(batch, channels, height, width, dtype=torch.float64, generator=generator)
    upstream = torch.randn(
        batch, out, height * 2**log2_scale, width * 2**log2_scale, dtype=torch.float64, generator=generator
    )
    direct = values_and_gradients(conv, "direct", image, upstream)
    other = values_and_gradients(conv, form, image, upstream)
    for a, b in zip(other, direct, strict=True):
        assert a.shape == b.shape
        assert relative_error(a, b) < 1e-12


@pytest.mark.parametrize("form", ["direct", "factored", "winograd"])
def test_upsampled_convolution_against_loops_over_pixels(form):
    rng = np.random.default_rng(0)
    low, weight, bias, k = rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 2, 3, 3)), rng.normal(size=2), 4
    high = np.zeros((2, 3 * k + 2, 5 * k + 2))  # with the convolution's border of zeros
    for y in range(3 * k):
        for x in range(5 * k):
            sy, sx = min(max((y + 0.5) / k - 0.5, 0), 2), min(max((x + 0.5) / k - 0.5, 0), 4)
            y0, x0 = int(sy), int(sx)
            y1, x1 = min(y0 + 1, 2), min(x0 + 1, 4)
            top = low[:, y0, x0] * (1 - (sx - x0)) + low[:, y0, x1] * (sx - x0)
            below = low[:, y1, x0] * (1 - (sx - x0)) + low[:, y1, x1] * (sx - x0)
            high[:, y + 1, x + 1] = top * (1 - (sy - y0)) + below * (sy - y0)
    expected = np.zeros((2, 3 * k, 5 * k))
    for y in range(3 * k):
        for x in range(5 * k):
            expected[:, y, x] = np.einsum("oiyx,iyx->o", weight, high[:, y : y + 3, x : x + 3]) + bias
    conv = ScaledConv(2, 2, log2_scale=2, form=form).double()
    conv.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
    output = conv(torch.from_numpy(low)[None])[0].detach().numpy()
    np.testing.assert_allclose(output, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", get_args(Form))
def test_pooled_skip_is_maximum_of_blocks_then_convolution(form):
    conv = ScaledConv(2, 3, log2_scale=-2, form=form).double()
    image = torch.randn(2, 2, 8, 12, dtype=torch.float64)
    blocks = image.reshape(2, 2, 2, 4, 3, 4).amax(dim=(3, 5))
    torch.testing.assert_close(conv(image), F.conv2d(blocks, conv.weight, conv.bias, padding=1))


def test_same_scale_is_a_plain_convolution_in_every_form():
    conv = ScaledConv(2, 3)
    image = torch.randn(1, 2, 5, 7)
    expected = F.conv2d(image, conv.weight, conv.bias, padding=1)
    for form in get_args(Form):
        conv.form = form
        torch.testing.assert_close(conv(image), expected)


def test_tap_matrix_of_two_pixels_doubled_by_hand():
    quarter = torch.tensor([[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])
    zero = torch.zeros(1, 2)
    expected = torch.stack([torch.cat([zero, quarter[:-1]]), quarter, torch.cat([quarter[1:], zero])], dim=2).flatten(1)
    assert torch.equal(tap_matrix(2, 2, torch.zeros(1)), expected)


def test_checkpoint_of_one_form_is_that_of_the_other():
    direct, factored = ScaledConv(2, 3, 1, "direct"), ScaledConv(2, 3, 1, "factored")
    factored.load_state_dict(direct.state_dict(), strict=True)
    image = torch.randn(1, 2, 4, 4)
    torch.testing.assert_close(factored(image), direct(image))


def test_unknown_form_is_refused_at_construction_and_later():
    with pytest.raises(UsageError, match=r"fast.*auto, direct, factored, winograd"):
        ScaledConv(1, 1, 1, form="fast")
    conv = ScaledConv(1, 1, 1)
    with pytest.raises(UsageError, match="fast"):
        set_form(torch.nn.Sequential(conv), "fast")


def test_set_form_reaches_nested_convolutions():
    network = torch.nn.Sequential(ScaledConv(1, 1, 1), torch.nn.Sequential(ScaledConv(1, 1, 2)))
    set_form(network, "factored")
    assert [module.form for module in network.modules() if isinstance(module, ScaledConv)] == ["factored"] * 2


def test_factored_form_after_inference_mode_still_trains():
    conv = ScaledConv(2, 2, 1, "factored")
    image = torch.randn(1, 2, 4, 4)
    with torch.inference_mode():
        conv(image)
    conv(image).sum().backward()
    assert conv.weight.grad is not None


def test_factored_form_survives_deepcopy_channels_last_and_bf16_autocast():
    conv = copy.deepcopy(ScaledConv(4, 6, 2, "factored")).to(memory_format=torch.channels_last)
    image = torch.randn(2, 4, 5, 6).to(memory_format=torch.channels_last)
    expected = F.conv2d(F.interpolate(image, scale_factor=4, mode="bilinear"), conv.weight, conv.bias, padding=1)
    torch.testing.assert_close(conv(image), expected, rtol=1e-5, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = conv(image)
    assert rough.dtype == torch.bfloat16 or rough.dtype == torch.float32
    torch.testing.assert_close(rough.float(), expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(("channels", "low", "log2_scale"), [(320, 20, 1), (320, 10, 2), (256, 5, 4)])
def test_under_bf16_the_factored_form_is_as_near_to_the_truth_as_the_direct_form(channels, low, log2_scale):
    torch.manual_seed(0)
    conv, image = ScaledConv(channels, 16, log2_scale), torch.randn(2, channels, low, low).relu().bfloat16()
    truth = copy.deepcopy(conv).double()(image.double())
    errors = {}
    for form in ("direct", "factored"):
        conv.form = form
        with torch.autocast("cpu", dtype=torch.bfloat16):
            errors[form] = relative_error(conv(image).double(), truth)
    assert errors["factored"] < errors["direct"]


@pytest.mark.parametrize(
    ("form", "channels", "out", "side", "log2_scale"),
    [
        ("factored", 1024, 64, 20, 4),  # the deepest map of the paper's network, brought to the finest level
        ("factored", 320, 64, 160, 1),
        ("factored", 80, 16, 24, 1),
        ("direct", 3, 64, 320, 0),  # too few channels to make up for any transform
        ("winograd", 320, 320, 320, 0),  # fusion at the finest level
        ("direct", 512, 1024, 20, 0),  # more weights than pixels
    ],
)
def test_auto_takes_the_form_of_least_cost(form, channels, out, side, log2_scale):
    conv = ScaledConv(channels, out, log2_scale)
    assert conv.choose(torch.empty(1, channels, side, side, device="cpu")) == form
    shape = (1, channels, out, side, side, log2_scale)
    forms = ("direct", "winograd", *(("factored",) if log2_scale > 0 else ()))
    assert min(forms, key=lambda form: cost(form, *shape)) == form


def test_winograds_form_is_for_full_precision_on_a_cpu_unless_asked_for():
    conv, image = ScaledConv(320, 320), torch.empty(1, 320, 64, 64)
    assert conv.choose(image) == "winograd"
    assert conv.choose(image.bfloat16()) == "direct"
    assert conv.choose(image.to("meta")) == "direct"
    with torch.autocast("cpu", torch.bfloat16):
        assert conv.choose(image) == "direct"
    conv.form = "winograd"
    assert conv.choose(image.to("meta")) == "winograd"
    conv.form = "factored"
    assert conv.choose(image) == "direct"


@pytest.mark.parametrize("block", [16, None])
@pytest.mark.parametrize("form", ["direct", "factored", "winograd"])
@pytest.mark.parametrize("shape", [(1, 5, 7, 3, 4, 1), (2, 20, 4, 40, 17, 1), (1, 6, 2, 33, 16, 2), (3, 9, 3, 5, 5, 4)])
def test_costs_count_the_multiply_accumulates_that_are_done(monkeypatch, shape, form, block):
    for constant in ("MACS_PER_BYTE", "MACS_PER_CACHED_BYTE"):
        monkeypatch.setattr(f"fullscale.networks.kernels.scaled_conv.{constant}", 0)
    monkeypatch.setattr("fullscale.networks.kernels.scaled_conv.CPU_BLOCK", block)
    batch, inputs, outputs, height, width, log2_scale = shape
    conv, image = ScaledConv(inputs, outputs, log2_scale, form), torch.randn(batch, inputs, height, width)
    with torch.no_grad():
        assert count_macs(lambda: conv(image)) == cost(form, *shape, block)


def test_costs_count_multiply_accumulates_by_hand(monkeypatch):
    for constant in ("MACS_PER_BYTE", "MACS_PER_CACHED_BYTE"):
        monkeypatch.setattr(f"fullscale.networks.kernels.scaled_conv.{constant}", 0)
    assert cost("direct", 1, 5, 7, 3, 4, 1) == 6 * 8 * 7 * 5 * 9
    mixing, columns, rows = 3 * 4 * 5 * 63, 3 * 8 * 12 * 21, 6 * 9 * 8 * 7
    assert cost("factored", 1, 5, 7, 3, 4, 1) == mixing + rows + columns
    tiles = 2 * 2  # of 4x4 in 6x8
    assert cost("winograd", 1, 5, 7, 3, 4, 1) == 36 * 9 * 35 + tiles * (36 * 36 * 5 + 36 * 35 + 16 * 36 * 7)


def test_auto_runs_the_form_it_prefers(monkeypatch):
    called = []
    monkeypatch.setattr(
        "fullscale.networks.kernels.scaled_conv.upsampled_conv_factored", lambda x, *_: called.append(x.shape) or x
    )
    ScaledConv(1, 1, 1)(torch.zeros(1, 1, 64, 64))
    assert not called
    ScaledConv(64, 8, 3)(torch.zeros(1, 64, 4, 4))
    assert called == [(1, 64, 4, 4)]


def test_auto_exports_as_the_direct_form_and_factored_as_itself_for_any_size():
    free = torch.export.Dim.DYNAMIC
    for form, matrix_products in (("auto", 0), ("factored", 3)):
        conv = ScaledConv(64, 2, 1, form)
        example = (torch.randn(2, 64, 5, 6),)
        program = torch.export.export(conv, example, dynamic_shapes=({0: free, 2: free, 3: free},))
        calls = [str(node.target) for node in program.graph.nodes]
        assert sum("matmul" in call for call in calls) == matrix_products
        image = torch.randn(3, 64, 9, 4)
        torch.testing.assert_close(program.module()(image), conv(image), rtol=1e-4, atol=1e-5)
