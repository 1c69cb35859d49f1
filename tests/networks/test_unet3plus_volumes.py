"""UNet 3+ of volumes: the figure of the paper at every level, its forms, its lean decoders, its guidance."""

import copy

import pytest
import torch
from torch.nn import functional as F

from fullscale.errors import UsageError
from fullscale.networks.kernels.forms import set_form
from fullscale.networks.unet3plus import UNet3Plus
from tests.networks.test_unet3plus import small, tell_presence


def deep(**options) -> UNet3Plus:
    return small(**{"spatial_dims": 3, "in_channels": 2, "width": 3, "skip_channels": 2, "levels": 3} | options)


def literal_decoder(network: UNet3Plus, maps: list[torch.Tensor]) -> list[torch.Tensor]:
    """The figure of the paper in 3D with torch's own operations: resize, convolve, norm, ReLU, join, convolve."""
    maps = list(maps)
    for level in reversed(range(len(maps) - 1)):
        decoder, side, brought = network.decoders[level], maps[level].shape[2:], []
        for skip, x in zip(decoder.skips, maps, strict=True):
            if x.shape[2:] > side:
                x = F.max_pool3d(x, [a // b for a, b in zip(x.shape[2:], side, strict=True)])
            elif x.shape[2:] < side:
                x = F.interpolate(x, size=side, mode="trilinear", align_corners=False)
            brought.append(F.relu(skip.norm(F.conv3d(x, skip.conv.weight, skip.conv.bias, padding=1))))
        conv = decoder.fuse.conv
        maps[level] = F.relu(decoder.fuse.norm(F.conv3d(torch.cat(brought, 1), conv.weight, conv.bias, padding=1)))
    return maps


@pytest.mark.parametrize("normalization", ["batch", "instance"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("strides", [None, ((1, 2, 2), (2, 2, 2))])
def test_in_3d_every_level_is_the_figure_of_the_paper(normalization, training, strides):
    network = deep(normalization=normalization, strides=strides).double()
    image = torch.randn(2, 2, 8, 12, 8, dtype=torch.float64)
    network.train()(image)  # statistics of batch norms of their own
    network.train(training)
    ours = network._decode(network.encoder(image))
    literal = literal_decoder(copy.deepcopy(network), network.encoder(image))
    assert len(ours) == 3
    for mine, theirs in zip(ours, literal, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10)


def test_in_3d_guidance_speaks_of_the_whole_patch_and_every_output_is_gated_or_not():
    network = deep().eval()
    volume = torch.randn(3, 2, 9, 8, 11)
    maps = network.encoder(F.pad(volume, (0, 1, 0, 0, 0, 3), mode="replicate"))
    presence = network.segment(volume)[1]
    expected = network.guidance.conv(maps[-1]).amax(dim=(2, 3, 4)).reshape(3, 2, 2)
    torch.testing.assert_close(presence, expected)
    tell_presence(network, False, True)
    assert torch.equal(network(volume)[:, 2], network.segment(volume)[0][:, 2])
    assert (network(volume).softmax(dim=1)[:, 1] == 0).all()
    output = network.train()(volume)
    assert [tuple(each.shape) for each in output.logits] == [(3, 3, 9, 8, 11)] * 3


def test_scales_of_anisotropic_steps_are_those_of_each_axis():
    network = deep(levels=4, strides=((1, 2, 2), (2, 2, 2), (2, 2, 1)))
    scales = [[skip.conv.log2_scale for skip in decoder.skips] for decoder in network.decoders]
    assert scales[0] == [(0, 0, 0), (0, 1, 1), (1, 2, 2), (2, 3, 2)]
    assert scales[2] == [(-1, -2, -2), (-1, -1, -1), (0, 0, 0), (1, 1, 0)]
    assert network.stride == (4, 8, 4)


@pytest.mark.parametrize("normalization", ["batch", "instance"])
def test_in_3d_the_whole_network_is_the_same_function_in_both_forms_with_its_gradients(normalization):
    network, volume = deep(normalization=normalization).double().train(), torch.randn(2, 2, 8, 12, 8).double()
    network.guidance.dropout.eval()
    found = []
    for form in ("direct", "factored"):
        twin = copy.deepcopy(network)
        set_form(twin, form)
        output = twin(volume)
        loss = sum(logits.square().mean() for logits in output.logits) + output.presence.square().mean()
        loss.backward()
        found.append([*output.logits, *(p.grad for p in twin.parameters())])
    torch.testing.assert_close(found[1], found[0], rtol=1e-8, atol=1e-10)


def test_lean_decoders_have_the_channels_of_their_level_and_reduce_before_they_bring_up():
    reduced, summed = deep(fusion="reduce"), deep(fusion="sum")
    assert [d.fuse.conv.out_channels for d in reduced.decoders] == [3, 6]
    assert [[skip.weight.shape[:3] for skip in d.skips] for d in reduced.decoders] == [
        [(2, 3, 1), (2, 6, 1), (2, 12, 1)],
        [(2, 3, 1), (2, 6, 1), (2, 12, 1)],
    ]
    assert [[skip.weight.shape[:3] for skip in d.skips] for d in summed.decoders] == [
        [(3, 3, 3), (3, 6, 3), (3, 12, 3)],
        [(6, 3, 3), (6, 6, 3), (6, 12, 3)],
    ]


def test_a_summed_level_is_one_convolution_over_all_maps_joined():
    network = deep(fusion="sum", normalization="instance").double()
    maps = network.encoder(torch.randn(1, 2, 8, 8, 8, dtype=torch.float64))
    level = network.decoders[1]
    joined = torch.cat(
        [F.max_pool3d(maps[0], 2), maps[1], F.interpolate(maps[2], scale_factor=2, mode="trilinear")], dim=1
    )
    added = F.conv3d(joined, torch.cat([skip.weight for skip in level.skips], dim=1), padding=1)
    torch.testing.assert_close(level(maps), level.fuse(F.relu(level.norm(added))), rtol=1e-9, atol=1e-10)


def test_a_reduced_level_brings_up_what_it_reduced():
    level, maps, finer, coarser = reduced_maps("reduce")
    joined = torch.cat([finer, level.skips[1](maps[1]), coarser], dim=1)
    torch.testing.assert_close(level(maps), level.fuse(joined), rtol=1e-9, atol=1e-10)


def test_a_refined_level_joins_its_own_map_whole_and_convolves_twice():
    level, maps, finer, coarser = reduced_maps("refine")
    joined = torch.cat([finer, maps[1], coarser], dim=1)
    assert joined.shape[1] == 2 + 6 + 2
    torch.testing.assert_close(level(maps), level.refine(level.fuse(joined)), rtol=1e-9, atol=1e-10)


def reduced_maps(fusion):
    """Return a level, the maps that come in, and what it makes of the finer and of the coarser one."""
    network = deep(fusion=fusion, normalization="instance").double()
    maps = network.encoder(torch.randn(1, 2, 8, 8, 8, dtype=torch.float64))
    level = network.decoders[1]
    finer = level.skips[0](F.max_pool3d(maps[0], 2))
    coarser = F.interpolate(level.skips[2](maps[2]), scale_factor=2, mode="trilinear")
    return level, maps, finer, coarser


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("fusion", "add", "fusion is 'add': expected paper, reduce, refine, sum"),
        ("normalization", "none", "normalization is 'none': expected batch or instance"),
        ("downsampling", "conv", "downsampling is 'conv': expected pool or stride"),
        ("encoder", "resnet18", "encoder 'resnet18' is a backbone for images with 5 levels of its own"),
    ],
)
def test_what_does_not_exist_in_3d_is_refused(option, value, message):
    with pytest.raises(UsageError, match=message):
        deep(**{option: value})


@pytest.mark.parametrize("fusion", ["paper", "reduce", "refine", "sum"])
@pytest.mark.parametrize("normalization", ["batch", "instance"])
def test_in_3d_gradient_checkpointing_changes_nothing(fusion, normalization):
    volume, found = torch.randn(2, 2, 8, 8, 12, dtype=torch.float64), []
    for checkpointing in (False, True):
        network = deep(fusion=fusion, normalization=normalization, gradient_checkpointing=checkpointing).double()
        torch.manual_seed(1)  # of dropout
        output = network(volume)
        (sum(each.square().mean() for each in output.logits) + output.presence.square().sum()).backward()
        gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
        found.append((output.logits, gradients, dict(network.named_buffers())))
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-11)
