"""UNet and UNet++: published counts, the graph of each against a literal reading of its paper."""

import pytest
import torch
from torch.nn import functional as F

from fullscale.errors import UsageError
from fullscale.networks.encoders import LEVELS
from fullscale.networks.unet import UNet
from fullscale.networks.unetplusplus import UNetPlusPlus

IMAGE = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))


def parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def literal_node(node, deeper, skips):
    x = torch.cat([*skips, F.conv_transpose2d(deeper, node.up.weight, node.up.bias, stride=2, padding=1)], dim=1)
    for block in node.convs:
        x = F.relu(F.conv2d(x, block.conv.weight, block.conv.bias, padding=1))
    return x


def test_parameters_are_those_published():
    assert parameters(UNet(3, 1)) == 39_396_033
    assert parameters(UNetPlusPlus(3, 1)) == 47_176_132
    assert parameters(UNetPlusPlus(3, 1, deep_supervision=False)) == 47_176_132


@pytest.mark.parametrize("network", [UNet, UNetPlusPlus])
def test_batch_normalisation_adds_two_numbers_a_channel_of_each_convolution(network):
    plain, normalised = network(3, 1, width=4), network(3, 1, width=4, normalization="batch")
    nodes = [part for part in normalised.modules() if type(part).__name__ == "UpNode"]
    assert parameters(normalised) - parameters(plain) == sum(2 * 2 * node.up.out_channels for node in nodes)


def test_unet_is_the_figure_of_its_paper():
    torch.manual_seed(0)
    network = UNet(3, 2, width=3).eval().double()
    maps = network.encoder(IMAGE.double())
    x = maps[4]
    for level in (3, 2, 1, 0):
        x = literal_node(network.decoders[level], x, [maps[level]])
    expected = F.conv2d(x, network.head.weight, network.head.bias, padding=1)
    torch.testing.assert_close(network(IMAGE.double()), expected, rtol=1e-9, atol=1e-9)


def test_unetplusplus_is_the_grid_of_its_paper_and_averages_its_heads():
    torch.manual_seed(0)
    network = UNetPlusPlus(3, 2, width=3).eval().double()
    maps = network.encoder(IMAGE.double())

    def node(i, j):  # X^{i,j}
        if j == 0:
            return maps[i]
        return literal_node(network.nodes[j - 1][i], node(i + 1, j - 1), [node(i, k) for k in range(j)])

    heads = [F.conv2d(node(0, j), network.heads[j - 1].weight, network.heads[j - 1].bias) for j in range(1, LEVELS)]
    torch.testing.assert_close(network(IMAGE.double()), sum(heads) / 4, rtol=1e-9, atol=1e-9)


def test_supervised_unetplusplus_trains_every_head_most_nested_first_and_else_their_average():
    torch.manual_seed(0)
    network = UNetPlusPlus(3, 2, width=3).train()
    output = network(IMAGE)
    assert len(output.logits) == network.num_supervised == 4
    output.logits[0].sum().backward()
    reached = [head.weight.grad is not None for head in network.heads]
    assert reached == [False, False, False, True]
    torch.manual_seed(0)
    average = UNetPlusPlus(3, 2, width=3, deep_supervision=False).train()
    assert average.num_supervised == 1
    torch.testing.assert_close(average(IMAGE), torch.stack(output.logits).mean(dim=0))


@pytest.mark.parametrize("network", [UNet, UNetPlusPlus])
def test_a_backbone_brings_its_own_channels_and_logits_return_to_full_size(network):
    built = network(3, 2, encoder="resnet18", width=4).eval()
    assert built.encoder.channels == (64, 64, 128, 256, 512)
    assert built(torch.randn(1, 3, 70, 50)).shape == (1, 2, 70, 50)


@pytest.mark.parametrize("network", [UNet, UNetPlusPlus])
def test_an_unknown_normalisation_is_refused(network):
    with pytest.raises(UsageError, match="normalization is 'group': expected none or batch"):
        network(3, 1, normalization="group")


def test_a_fresh_unet_keeps_the_size_of_its_signal():
    torch.manual_seed(0)
    network = UNet(3, 1, width=16).train()
    deviation = network(torch.randn(4, 3, 64, 64)).std().item()
    assert 0.2 < deviation < 5
