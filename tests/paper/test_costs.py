"""The paper's parameter formulas against real kernels, and its Table 1."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fullscale.errors import UsageError
from fullscale.networks import create_network
from fullscale.paper.costs import count_costs, count_levels
from fullscale.paper.formulas import total, unet3plus_decoder, unet_decoder, unetplusplus_decoder
from fullscale.paper.graph import build_graph

widths = st.lists(st.integers(1, 40), min_size=2, max_size=6)


def kernels(*parts: nn.Module) -> int:
    """Weights of all convolutions, a 4x4 transposed one counted as the 3x3 that the formulas take it for."""
    total = 0
    for part in parts:
        for module in part.modules():
            if isinstance(module, nn.ConvTranspose2d):
                total += module.weight.numel() * 9 // 16
            elif isinstance(module, nn.Conv2d):
                total += module.weight.numel()
    return total


@pytest.mark.parametrize("encoder", ["plain", "resnet18"])
@pytest.mark.parametrize("width", [3, 8, 64])
def test_formulas_are_the_kernels_of_the_networks(encoder, width):
    decoder = [width * 2**level for level in range(4)]
    with torch.device("meta"):
        unet, nested, full = (
            create_network(name, 3, 1, encoder=encoder, width=width) for name in ("unet", "unet++", "unet3+")
        )
        full = create_network("unet3+", 3, 1, encoder=encoder, width=width, skip_channels=width)
    channels = unet.encoder.channels
    assert total(unet_decoder(channels, decoder)) == kernels(unet.decoders)
    last = [nested.nodes[3 - level][level] for level in range(4)]
    extra = [[width * 2**level] * (3 - level) for level in range(4)]
    below = sum(9 * (channels[level + 1] - decoder[level + 1]) * decoder[level] for level in range(3))
    assert below == 0 or encoder != "plain"
    assert total(unetplusplus_decoder(channels, decoder, extra)) == kernels(*last)
    assert total(unet3plus_decoder(channels, [5 * width] * 4, width)) == kernels(full.decoders)


def test_in_3d_the_formula_is_the_kernels_of_the_decoder():
    with torch.device("meta"):
        network = create_network("unet3+", 1, 1, spatial_dims=3, width=4, skip_channels=4)
    counted = sum(part.weight.numel() for part in network.decoders.modules() if isinstance(part, nn.Conv3d))
    assert total(unet3plus_decoder(network.encoder.channels, [20] * 4, 4, spatial_dims=3)) == counted


def test_in_3d_costs_are_of_volumes_and_nothing_is_published():
    rows = {cost.title: cost for cost in count_costs("plain", 1, 1, width=2, size=32, spatial_dims=3)}
    assert all(cost.published_m is None and cost.options["spatial_dims"] == 3 for cost in rows.values())
    assert rows["UNet"].formula == total(unet_decoder([2, 4, 8, 16, 32], [2, 4, 8, 16], spatial_dims=3))
    first = 27 * (1 * 2 + 2 * 2) * 32**3  # the encoder's first level
    assert all(cost.macs > first for cost in rows.values())


def test_formulas_give_the_figures_of_the_paper():
    encoder, decoder = [64, 128, 256, 512, 1024], [64, 128, 256, 512]
    assert total(unet_decoder(encoder, decoder)) == 15_667_200
    assert total(unet3plus_decoder(encoder, [320] * 4)) == 8_110_080


@given(widths, st.integers(1, 5))
@settings(deadline=None)
def test_unetplusplus_without_nested_nodes_is_unet(encoder, kernel):
    decoder = encoder[:-1]
    nested = [[0] * (len(decoder) - 1 - level) for level in range(len(decoder))]
    plain = total(unet_decoder(encoder, decoder, kernel))
    assert total(unetplusplus_decoder(encoder, decoder, nested, kernel)) == plain


@given(widths, st.integers(1, 20))
@settings(deadline=None)
def test_unet3plus_of_any_depth_is_the_sum_over_its_skips(encoder, skip):
    depth = len(encoder)
    decoder = [depth * skip] * (depth - 1)
    sources = [encoder[k] if k <= i or k == depth - 1 else decoder[k] for i in range(depth - 1) for k in range(depth)]
    expected = sum(nn.Conv2d(source, skip, 3, device="meta").weight.numel() for source in sources)
    expected += sum(nn.Conv2d(depth * skip, own, 3, device="meta").weight.numel() for own in decoder)
    assert total(unet3plus_decoder(encoder, decoder, skip)) == expected


def test_levels_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="3 encoder and 3 decoder levels"):
        unet_decoder([1, 2, 3], [1, 2, 3])
    with pytest.raises(UsageError, match=r"nested has \[1, 1\] nodes a level: expected \[1, 0\]"):
        unetplusplus_decoder([1, 2, 3], [1, 2], [[1], [1]])


def test_table_1_with_the_plain_encoder_is_met_to_the_digit_printed():
    costs = {cost.title: cost for cost in count_costs("plain")}
    assert costs["UNet"].parameters == 39_396_033
    assert costs["UNet++"].parameters == 47_176_132
    assert costs["UNet 3+ without deep supervision"].parameters == 26_971_777
    for title in ("UNet", "UNet++", "UNet 3+ without deep supervision"):
        assert abs(costs[title].difference_m) < 0.01
    assert costs["UNet 3+"].difference_m == pytest.approx(0.019637)  # the paper prints it without its heads
    gmacs = {title: round(cost.macs / 1e9, 1) for title, cost in costs.items()}
    assert (gmacs["UNet"], gmacs["UNet++"], gmacs["UNet 3+"]) == (85.4, 211.2, 308.8)


@pytest.mark.parametrize("encoder", ["plain", "resnet18"])
def test_parts_add_up_and_every_network_is_there(encoder):
    costs = count_costs(encoder, classes=3, size=64)
    assert all(sum(cost.parts.values()) == cost.parameters for cost in costs if cost.parts)
    assert all(cost.macs > 0 and cost.published_m is None for cost in costs)
    assert len({cost.network for cost in costs}) == {"plain": 5, "resnet18": 7}[encoder]


@pytest.mark.slow
def test_published_figures_stand_only_beside_the_network_they_are_of():
    assert all(cost.published_m is None for cost in count_costs("plain", width=32))
    assert all(cost.published_m is None for cost in count_costs("resnet18", size=64))
    assert next(c for c in count_costs("resnet101")).published_m == 55.90


@given(st.integers(1, 9), st.integers(2, 4), st.integers(1, 9), st.sampled_from(["unet", "unet++", "unet3+"]))
@settings(deadline=None, max_examples=6)
def test_level_by_level_the_formula_is_the_weights_of_the_modules(width, levels, skip, name):
    further = {"skip_channels": skip} if name == "unet3+" else {}
    counts = count_levels(build_graph(name, 2, 1, width=width, levels=levels, **further))
    assert [count.level for count in counts] == list(range(1, levels))
    assert all(count.formula.weights == count.kernels - count.bringing_up for count in counts)
    assert all((count.bringing_up > 0) == (name != "unet3+") for count in counts)
    for count in counts:
        taps, inner = count.formula.numbers.split("·", 1)
        written = inner.replace("·", "*").replace("²", "**2").replace("[", "(").replace("]", ")")
        assert int(taps) * eval(written) == count.formula.weights


def test_a_leaner_fusion_is_not_what_the_formula_counts():
    [finest, *_] = count_levels(build_graph("unet3+", 2, 1, width=4, levels=3, fusion="reduce"))
    assert finest.formula.weights != finest.kernels
