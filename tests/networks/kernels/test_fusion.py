"""The full-scale fusion in each of its ways, against equation 1 written out with torch's own operations."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fullscale.networks.kernels import fusion
from fullscale.networks.kernels.forms import set_form
from fullscale.networks.skips import DecoderLevel

CHANNELS = (3, 4, 5, 10, 10)


def make_level(index: int = 1, gradient_checkpointing: bool = False) -> DecoderLevel:
    torch.manual_seed(0)
    scales = [(source - index,) * 2 for source in range(5)]
    level = DecoderLevel(scales, CHANNELS, 2, 10, gradient_checkpointing=gradient_checkpointing).double()
    for norm in norms_of(level):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    return level


def norms_of(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]


def make_maps(channels_last: bool = False) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    maps = [
        torch.randn(2, c, 32 >> i, 48 >> i, generator=generator, dtype=torch.float64) for i, c in enumerate(CHANNELS)
    ]
    return [x.contiguous(memory_format=torch.channels_last) if channels_last else x for x in maps]


def plain_level(level: DecoderLevel, maps: list[Tensor]) -> Tensor:
    """Equation 1 as the paper draws it: resize, convolve, norm and ReLU each map, join, convolve, norm, ReLU."""
    side = maps[level.skips[0].conv.log2_scale * -1].shape[2:]
    skips = []
    for part, x in zip(level.skips, maps, strict=True):
        factor = x.shape[2] / side[0]
        if factor > 1:
            x = F.max_pool2d(x, int(factor))
        elif factor < 1:
            x = F.interpolate(x, size=side, mode="bilinear", align_corners=False)
        skips.append(F.relu(part.norm(F.conv2d(x, part.conv.weight, part.conv.bias, padding=1))))
    fuse = level.fuse
    joined = torch.cat(skips, dim=1)
    return F.relu(fuse.norm(F.conv2d(joined, fuse.conv.weight, fuse.conv.bias, padding=1)))


def results(function, level: DecoderLevel, maps: list[Tensor]) -> list[Tensor]:
    """Return the output, its gradients in maps and parameters, and the statistics of the norms afterwards."""
    maps = [x.clone(memory_format=torch.preserve_format).requires_grad_() for x in maps]
    output = function(maps)
    upstream = torch.randn(output.shape, generator=torch.Generator().manual_seed(2), dtype=output.dtype)
    gradients = torch.autograd.grad(output, [*maps, *level.parameters()], upstream)
    return [output.detach(), *gradients, *level.buffers()]


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(
    ("form", "checkpointing", "channels_last"),
    [("auto", False, True), ("auto", False, False), ("direct", False, False), ("direct", True, False)],
    ids=["keeping little", "channels first", "torch's operations", "recomputed"],
)
def test_every_way_is_equation_1(index, training, form, checkpointing, channels_last):
    level = make_level(index, checkpointing).train(training)
    twin = copy.deepcopy(level)
    set_form(level, form)
    ours = results(level, level, make_maps(channels_last))
    theirs = results(lambda maps: plain_level(twin, maps), twin, make_maps())
    for mine, plain in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-9, atol=1e-10)


def test_norms_and_relu_are_done_by_our_own_function_in_training_only(monkeypatch):
    calls = []
    original = fusion.norm_act
    monkeypatch.setattr(fusion, "norm_act", lambda *args: calls.append(1) or original(*args))
    level = make_level()
    with torch.no_grad():
        for form, training, expected in [("auto", True, 2), ("direct", True, 0), ("auto", False, 0)]:
            calls.clear()
            set_form(level.train(training), form)
            level(make_maps())
            assert len(calls) == expected


def kept_bytes(level: DecoderLevel) -> int:
    """Bytes that the graph of a level keeps for its backward pass, beside parameters and the maps that came in."""
    maps, kept = [x.requires_grad_() for x in make_maps()], {}
    known = {x.data_ptr() for x in (*maps, *level.parameters(), *level.buffers())}

    def pack(saved: Tensor) -> Tensor:
        if saved.data_ptr() not in known:
            kept[saved.data_ptr()] = saved.numel() * saved.element_size()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        output = level(maps)
    assert output.requires_grad
    return sum(kept.values())


def test_a_recomputed_level_keeps_nothing():
    for gradient_checkpointing in (True, False):
        level = make_level(gradient_checkpointing=gradient_checkpointing)
        set_form(level, "direct")  # leaves the norms to torch, as a GPU does
        assert (kept_bytes(level) == 0) == gradient_checkpointing
