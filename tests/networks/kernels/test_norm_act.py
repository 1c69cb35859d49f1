import copy
import gc
import weakref
from itertools import chain

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from fullscale.networks.kernels import fusion
from fullscale.networks.kernels.forms import channels_last, set_form
from fullscale.networks.kernels.norm_act import norm_act, norm_act_applies
from fullscale.networks.kernels.remade import remade
from fullscale.networks.kernels.scaled_conv import ScaledConv
from fullscale.networks.norms import InstanceNorm
from fullscale.networks.skips import DecoderLevel
from fullscale.networks.unet3plus import UNet3Plus


def norms_of(*channels: int, momentum: float | None = 0.1, dtype=torch.float64) -> list[nn.BatchNorm2d]:
    norms = [nn.BatchNorm2d(c, momentum=momentum).to(dtype) for c in channels]
    for norm in norms:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return norms


def plain(maps, norms):
    return F.relu(torch.cat([norm(x) for x, norm in zip(maps, norms, strict=True)], dim=1))


def run(function, maps, norms, upstream):
    """Return the output, and the gradients of maps and parameters."""
    maps = [x.clone().requires_grad_() for x in maps]
    parameters = [p for norm in norms for p in norm.parameters()]
    output = function(maps, norms)
    return [output.detach(), *torch.autograd.grad(output, [*maps, *parameters], upstream)]


def random_maps(batch, height, width, channels, channels_last=True, dtype=torch.float64):
    maps = [3 + torch.randn(batch, c, height, width, dtype=dtype) for c in channels]
    return [x.contiguous(memory_format=torch.channels_last) if channels_last else x for x in maps]


@settings(deadline=None)
@given(
    batch=st.integers(1, 3),
    height=st.integers(1, 7),
    width=st.integers(2, 7),
    channels=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    channels_last=st.booleans(),
    momentum=st.sampled_from([0.1, 0.7, None]),
    seed=st.integers(0, 2**16),
)
def test_it_is_norms_joined_and_relu(batch, height, width, channels, channels_last, momentum, seed):
    torch.manual_seed(seed)
    norms, theirs = norms_of(*channels, momentum=momentum), norms_of(*channels, momentum=momentum)
    for ours, other in zip(norms, theirs, strict=True):
        other.load_state_dict(ours.state_dict())
    maps = random_maps(batch, height, width, channels, channels_last)
    upstream = random_maps(batch, height, width, [sum(channels)], channels_last)[0]
    found = run(lambda maps, norms: norm_act(maps, norms)[0], maps, norms, upstream)
    for ours, expected in zip(found, run(plain, maps, theirs, upstream), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-11)
    for ours, other in zip(norms, theirs, strict=True):
        torch.testing.assert_close(ours.state_dict(), other.state_dict(), rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(
    batch=st.integers(1, 3),
    sides=st.lists(st.integers(1, 5), min_size=2, max_size=3),
    channels=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    channels_last=st.booleans(),
    slope=st.sampled_from([0.0, 0.01, 0.3]),
    instance=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_instance_norms_and_norms_of_volumes_join_and_rectify_too(
    batch, sides, channels, channels_last, slope, instance, seed
):
    torch.manual_seed(seed)
    sides = [*sides[:-1], sides[-1] + 1]  # a batch norm refuses a single pixel
    if instance:
        norms = [InstanceNorm(c).double() for c in channels]
    else:
        norms = [(nn.BatchNorm2d if len(sides) == 2 else nn.BatchNorm3d)(c).double() for c in channels]
    for norm in norms:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    form = {2: torch.channels_last, 3: torch.channels_last_3d}[len(sides)]
    form = form if channels_last else torch.contiguous_format
    maps = [(3 + torch.randn(batch, c, *sides).double()).contiguous(memory_format=form) for c in channels]
    upstream = torch.randn(batch, sum(channels), *sides).double().contiguous(memory_format=form)

    def literal(maps, norms):
        joined = torch.cat([norm(x) for x, norm in zip(maps, norms, strict=True)], dim=1)
        return F.leaky_relu(joined, slope)

    expected = run(literal, maps, copy.deepcopy(norms), upstream)
    found = run(lambda maps, norms: norm_act(maps, norms, slope)[0], maps, norms, upstream)
    again = norm_act(maps, norms, slope)[1]()
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(again, expected[0], rtol=1e-8, atol=1e-10)


def test_in_float32_it_is_no_further_from_the_truth_than_torch():
    torch.manual_seed(0)
    channels = (64, 64, 64)
    maps, norms = random_maps(2, 40, 41, channels, dtype=torch.float32), norms_of(*channels, dtype=torch.float32)
    upstream = torch.randn(2, sum(channels), 40, 41)
    exact_norms = norms_of(*channels)
    for exact, norm in zip(exact_norms, norms, strict=True):
        exact.load_state_dict(norm.state_dict())
    truth = run(plain, [x.double() for x in maps], exact_norms, upstream.double())
    ours = run(lambda maps, norms: norm_act(maps, norms)[0], maps, norms, upstream)
    parts = torch.split(channels_last(upstream), channels, dim=1)
    alone = [run(plain, [x], [norm], channels_last(part)) for x, norm, part in zip(maps, norms, parts, strict=True)]
    outputs, to_maps, to_weights, to_biases = zip(*alone, strict=True)  # of each map by itself, channels last
    torchs = [torch.cat(outputs, dim=1), *to_maps, *chain(*zip(to_weights, to_biases, strict=True))]
    for mine, theirs, exact in zip(ours, torchs, truth, strict=True):
        allowed = max(2 * (theirs - exact).norm(), 2e-7 * exact.norm())
        assert (mine - exact).norm() <= allowed


@pytest.mark.parametrize("sides", [(96, 96), (97, 101), (1, 8209), (16, 24, 32)])
def test_an_instance_norm_of_a_large_map_that_is_nearly_of_one_value_is_exact(sides):
    torch.manual_seed(0)
    norm, x = InstanceNorm(3), channels_last(1.234 + 1e-3 * torch.randn(2, 3, *sides))
    found, exact = norm_act([x], [norm])[0], F.relu(norm.double()(x.double()))
    assert exact.max() > 1
    assert (found - exact).abs().max() < 1e-4
    torch.testing.assert_close(norm_act([x.double()], [norm])[0], exact, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("instance", [False, True])
def test_bf16_maps_have_the_statistics_and_sums_of_float32(instance):
    torch.manual_seed(0)
    channels = (8, 16)
    norms = [InstanceNorm(c) for c in channels] if instance else norms_of(*channels, dtype=torch.float32)
    maps = [(30 + x).bfloat16() for x in random_maps(2, 60, 61, channels, dtype=torch.float32)]
    upstream = random_maps(2, 60, 61, [sum(channels)], dtype=torch.float32)[0].bfloat16()
    exact_norms = [copy.deepcopy(norm).double() for norm in norms]
    truth = run(plain, [x.double() for x in maps], exact_norms, upstream.double())
    ours = run(lambda maps, norms: norm_act(maps, norms)[0], maps, norms, upstream)
    assert [x.dtype for x in ours] == [torch.bfloat16] * 3 + [torch.float32] * 4
    for found, exact in zip(ours, truth, strict=True):
        # The map is rounded once, 2^-9 of it; what its gradient goes through is rounded where it is written.
        assert (found.double() - exact).norm() <= 2**-8 * exact.norm()
    if not instance:
        for norm, exact_norm in zip(norms, exact_norms, strict=True):
            torch.testing.assert_close(norm.running_var.double(), exact_norm.running_var, rtol=1e-5, atol=0)


@pytest.mark.parametrize("form", ["direct", "factored", "winograd"])
def test_a_convolution_makes_the_joined_map_again_and_does_not_keep_it(form):
    torch.manual_seed(0)
    maps, norms = random_maps(2, 8, 9, (3, 2)), norms_of(3, 2)
    conv = ScaledConv(5, 4, log2_scale=1 if form == "factored" else 0, form=form).double()
    maps = [x.requires_grad_() for x in maps]
    inputs = [*maps, *conv.parameters(), *norms[0].parameters()]
    kept = conv(plain(maps, norms))
    upstream = torch.randn_like(kept)
    expected = torch.autograd.grad(kept, inputs, upstream)

    joined, make_again = norm_act(maps, norms)
    with remade(joined, make_again):
        output = conv(joined)
    storage = weakref.ref(joined.untyped_storage())
    assert storage() is not None
    del joined
    gc.collect()
    assert storage() is None
    for ours, theirs in zip(torch.autograd.grad(output, inputs, upstream), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def test_what_is_not_the_map_is_kept_as_it_is():
    x, other = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    with remade(x, lambda: torch.full((2, 3), 7.0)):
        product = x * other
    to_x, to_other = torch.autograd.grad(product.sum(), [x, other])
    assert torch.equal(to_x, other)
    assert torch.equal(to_other, torch.full((2, 3), 7.0))


def test_it_does_not_apply_where_torch_must_do_it():
    x, norm = torch.randn(2, 3, 4, 4), nn.BatchNorm2d(3)
    assert norm_act_applies(x, norm)
    assert norm_act_applies(x.bfloat16(), norm)
    assert not norm_act_applies(x.half(), norm)
    assert not norm_act_applies(x, nn.SyncBatchNorm(3))
    assert not norm_act_applies(x, nn.BatchNorm2d(3, affine=False))
    assert not norm_act_applies(x, nn.BatchNorm2d(3, bias=False))
    assert not norm_act_applies(x, nn.BatchNorm2d(3, track_running_stats=False))
    assert not norm_act_applies(x, nn.BatchNorm2d(3).eval())
    assert norm_act_applies(x[..., None], nn.BatchNorm3d(3))
    assert norm_act_applies(x, InstanceNorm(3).eval())


def test_one_value_a_channel_is_refused_as_torch_refuses_it():
    for function in (norm_act, plain):
        with pytest.raises(ValueError, match="more than 1 value per channel when training"):
            function([torch.randn(1, 3, 1, 1)], [nn.BatchNorm2d(3)])


def test_a_frozen_norm_of_a_level_in_training_keeps_its_statistics():
    level = DecoderLevel([(i, i) for i in range(5)], (4, 8, 8, 8, 8), 2, 10)
    level.skips[1].norm.eval()
    before = copy.deepcopy(level.skips[1].norm.state_dict())
    level([torch.randn(1, c, 32 >> i, 32 >> i) for i, c in enumerate((4, 8, 8, 8, 8))])
    torch.testing.assert_close(level.skips[1].norm.state_dict(), before, rtol=0, atol=0)


def test_a_decoder_level_does_not_keep_what_it_joined(monkeypatch):
    torch.manual_seed(0)
    storages = []

    def spy(maps, norms):
        joined, make_again = norm_act(maps, norms)
        storages.append(weakref.ref(joined.untyped_storage()))
        return joined, make_again

    monkeypatch.setattr(fusion, "norm_act", spy)
    level = DecoderLevel([(i, i) for i in range(5)], (4, 8, 8, 8, 8), 2, 10)
    output = level([torch.randn(1, c, 32 >> i, 32 >> i, requires_grad=True) for i, c in enumerate((4, 8, 8, 8, 8))])
    gc.collect()
    joined, result = (storage() for storage in storages)
    assert joined is None
    assert result is not None
    output.sum().backward()


def test_a_level_in_evaluation_folds_a_norm_that_is_in_training():
    torch.manual_seed(0)
    level = DecoderLevel([(i, i) for i in range(5)], (4, 8, 8, 8, 8), 2, 10).eval()
    maps = [torch.randn(1, c, 32 >> i, 32 >> i) for i, c in enumerate((4, 8, 8, 8, 8))]
    expected = level(maps)
    for part in level.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.train()
    assert torch.equal(level(maps), expected)


def test_a_kept_tensor_that_is_changed_in_place_is_refused():
    x, weight = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    with remade(x, x.detach):
        product = x * weight
    with torch.no_grad():
        weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.sum().backward()


def test_it_goes_backward_twice():
    torch.manual_seed(0)
    maps, norms, conv = random_maps(1, 6, 7, (3, 2)), norms_of(3, 2), ScaledConv(5, 4).double()
    maps = [x.requires_grad_() for x in maps]
    joined, make_again = norm_act(maps, norms)
    with remade(joined, make_again):
        total = conv(joined).square().sum()
    first = torch.autograd.grad(total, [*maps, *conv.parameters()], retain_graph=True)
    for again, before in zip(torch.autograd.grad(total, [*maps, *conv.parameters()]), first, strict=True):
        assert torch.equal(again, before)


def test_a_network_trains_as_in_its_direct_form():
    torch.manual_seed(0)
    networks = [UNet3Plus(3, 2, width=4, skip_channels=4, classification_guided=False).double() for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    set_form(networks[1], "direct")
    image = torch.randn(2, 3, 40, 33, dtype=torch.float64)
    for network in networks:
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            sum(logits.square().mean() for logits in network(image).logits).backward()
            optimizer.step()
    for ours, direct in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        torch.testing.assert_close(ours.grad, direct.grad, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(networks[0].state_dict(), networks[1].state_dict(), rtol=1e-9, atol=1e-9)
