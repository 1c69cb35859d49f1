"""The control: nnU-Net's plain UNet, against a literal reading, and the counts of its parts."""

import pytest
import torch
from torch.nn import functional as F

from fullscale.networks.strided_unet import StridedUNet

STRIDES = ((1, 2, 2), (2, 2, 2))


def literal_unit(unit, x, stride):
    x = F.conv3d(x, unit.conv.weight, stride=stride, padding=1)
    return F.leaky_relu(F.instance_norm(x, weight=unit.norm.weight, bias=unit.norm.bias), 0.01)


def literal_level(units, x, stride=1):
    return literal_unit(units[1], literal_unit(units[0], x, stride), 1)


def test_it_is_strided_convolutions_down_and_transposed_ones_up_with_a_side_output_a_level():
    torch.manual_seed(0)
    network = StridedUNet(2, 3, spatial_dims=3, width=3, levels=3, strides=STRIDES).double().train()
    volume = torch.randn(2, 2, 4, 8, 12, dtype=torch.float64)
    fine = literal_level(network.encoder[0], volume)
    middle = literal_level(network.encoder[1], fine, (1, 2, 2))
    deep = literal_level(network.encoder[2], middle, (2, 2, 2))
    up = F.conv_transpose3d(deep, network.ups[1].weight, network.ups[1].bias, stride=(2, 2, 2))
    middle = literal_level(network.decoder[1], torch.cat([middle, up], dim=1))
    up = F.conv_transpose3d(middle, network.ups[0].weight, network.ups[0].bias, stride=(1, 2, 2))
    fine = literal_level(network.decoder[0], torch.cat([fine, up], dim=1))
    side = F.conv3d(middle, network.heads[1].weight, network.heads[1].bias)
    expected = [
        F.conv3d(fine, network.heads[0].weight, network.heads[0].bias),
        F.interpolate(side, scale_factor=(1, 2, 2), mode="trilinear", align_corners=False),
    ]
    torch.testing.assert_close(network(volume).logits, expected, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(network.eval()(volume), expected[0], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("dims", [2, 3])
def test_its_parameters_by_hand(dims):
    network = StridedUNet(1, 2, spatial_dims=dims, width=4, levels=3, max_width=8)
    taps, corners = 3**dims, 2**dims
    convolutions = taps * (1 * 4 + 4 * 4 + 4 * 8 + 8 * 8 + 8 * 8 + 8 * 8 + (16 * 8 + 8 * 8) + (8 * 4 + 4 * 4))
    norms = 2 * (2 * 4 + 2 * 8 + 2 * 8 + 2 * 8 + 2 * 4)
    ups, heads = corners * (8 * 8 + 8 * 4) + 8 + 4, (8 * 2 + 2) + (4 * 2 + 2)
    assert sum(p.numel() for p in network.parameters()) == convolutions + norms + ups + heads
    assert network.num_supervised == 2
