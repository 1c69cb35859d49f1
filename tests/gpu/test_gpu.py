"""What holds on a GPU: the factored form is the direct one there too, and networks of both views learn and answer.

`make gpu` runs these; elsewhere they are skipped, as without a GPU.
"""

import copy

import pytest
import torch

from fullscale.losses import create_loss
from fullscale.losses.supervision import SupervisedLoss
from fullscale.networks import create_network
from fullscale.networks.kernels.forms import set_form
from fullscale.networks.kernels.scaled_conv import ScaledConv
from fullscale.networks.kernels.scaled_conv3d import ScaledConv3d

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

SIZE = {2: (45, 70), 3: (17, 32, 40)}
NETWORKS = [
    ("unet3+", 2, {"width": 8, "skip_channels": 8}),
    ("unet3+", 3, {"width": 4, "skip_channels": 4, "levels": 4, "normalization": "instance"}),
    ("unet3+", 3, {"width": 4, "skip_channels": 4, "levels": 4, "fusion": "refine", "downsampling": "stride"}),
    ("strided-unet", 3, {"width": 4, "levels": 4}),
]


def build(name, dims, options):
    torch.manual_seed(0)
    return create_network(name, 1, 3, spatial_dims=dims, **options)


def values_and_gradients(conv, form, x, upstream):
    conv.form = form
    conv.zero_grad()
    leaf = x.clone().requires_grad_()
    output = conv(leaf)
    output.backward(upstream)
    return [output.detach(), leaf.grad, conv.weight.grad.clone()]


@pytest.mark.parametrize(
    "conv", [ScaledConv(6, 4, 2), ScaledConv3d(6, 4, (0, 1, 2)), ScaledConv3d(5, 3, (2, 2, 2))], ids=str
)
def test_the_factored_form_is_the_direct_form(conv):
    conv = conv.double().cuda()
    dims = conv.weight.ndim - 2
    x = torch.randn(2, conv.in_channels, *(4, 5, 3)[:dims], dtype=torch.float64, device="cuda")
    sides = (side * factor for side, factor in zip(x.shape[2:], conv.factors, strict=True))
    upstream = torch.randn(2, conv.out_channels, *sides, dtype=torch.float64, device="cuda")
    direct = values_and_gradients(conv, "direct", x, upstream)
    for ours, theirs in zip(values_and_gradients(conv, "factored", x, upstream), direct, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize(("name", "dims", "options"), NETWORKS)
def test_a_network_answers_as_on_the_cpu(name, dims, options):
    network = build(name, dims, options).double()
    image = torch.randn(2, 1, *SIZE[dims], dtype=torch.float64)
    network.train()(image)
    expected = network.eval().segment(image)[0]
    for form in ("direct", "factored"):
        there = copy.deepcopy(network).cuda()
        set_form(there, form)
        torch.testing.assert_close(there.segment(image.cuda())[0].cpu(), expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize(("name", "dims", "options"), NETWORKS)
def test_a_network_learns(name, dims, options, bf16):
    network = build(name, dims, options).cuda().train()
    generator = torch.Generator().manual_seed(0)
    target = torch.zeros(2, *SIZE[dims], dtype=torch.long)
    target[:, 4:12, 6:20] = 1
    image = (target[:, None] + 0.1 * torch.randn(2, 1, *SIZE[dims], generator=generator)).cuda()
    loss, optimizer = SupervisedLoss(create_loss("ce+dice")), torch.optim.AdamW(network.parameters(), lr=0.01)
    found = []
    for _ in range(12):
        with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
            total = loss(network(image), target.cuda()).total
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        found.append(total.item())
    assert min(found[-3:]) < 0.8 * found[0]
