"""Costs of any network, counted by hand."""

import torch
from torch import nn

from fullscale.networks.parameters import count_macs, count_parameters


def test_operations_are_counted_by_hand_for_one_convolution():
    convolution = nn.Conv2d(3, 5, 3, padding=1)
    assert count_macs(lambda: convolution(torch.zeros(2, 3, 4, 6))) == 2 * 4 * 6 * 5 * 27


def test_parameters_are_weights_and_biases():
    assert count_parameters(nn.Conv2d(3, 5, 3)) == 5 * 27 + 5
