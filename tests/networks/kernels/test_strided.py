"""A strided convolution of narrow maps: torch's own numbers, and none of what lies in memory beyond."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fullscale.networks import create_network
from fullscale.networks.kernels.strided import strided_conv, transposed_conv, widen_strided

CONVS = {2: F.conv2d, 3: F.conv3d}


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("width", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("step", [1, 2, 3])
def test_value_and_gradients_are_torchs_own(dims: int, width: int, step: int) -> None:
    leaves = [torch.randn(2, 3, *(4,) * (dims - 1), width), torch.randn(5, 3, *(3,) * dims), torch.randn(5)]
    leaves = [leaf.double().requires_grad_() for leaf in leaves]
    stride = (2,) * (dims - 1) + (step,)
    ours, theirs = strided_conv(*leaves, stride), CONVS[dims](*leaves, stride=stride, padding=1)
    upstream = torch.randn_like(theirs)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    for ours_to, theirs_to in zip(
        torch.autograd.grad(ours, leaves, upstream), torch.autograd.grad(theirs, leaves, upstream), strict=True
    ):
        torch.testing.assert_close(ours_to, theirs_to, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("width", [1, 2, 3, 5, 8])
@pytest.mark.parametrize(("side", "padding", "dilation"), [(1, 0, 1), (3, 1, 1), (7, 3, 1), (3, 2, 2)])
def test_a_convolution_of_another_library_gives_what_it_gave(
    width: int, side: int, padding: int, dilation: int
) -> None:
    conv = nn.Conv2d(3, 5, side, stride=2, padding=padding, dilation=dilation).double()
    x = torch.randn(2, 3, 9, width, dtype=torch.float64)
    expected = conv(x)
    module = nn.Sequential(conv)
    widen_strided(module)
    assert type(module[0]) is not nn.Conv2d
    torch.testing.assert_close(module(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "options"), [("deeplabv2", {}), ("deeplabv3", {}), ("unet3+", {"width": 8})])
def test_a_backbone_reads_no_memory_beyond_a_narrow_image(name: str, options: dict[str, int]) -> None:
    network = create_network(name, 1, 2, encoder="resnet18", **options).bfloat16().eval()
    for width in (1, 9, 17):
        image = torch.randn(1, 1, 33, width).bfloat16()
        for _ in range(3):
            fill_free_memory()
            with torch.no_grad():
                assert network(image).isfinite().all()


def fill_free_memory() -> None:
    """Leave NaN in what is allocated next."""
    held = [torch.full((2**power,), float("nan"), dtype=torch.bfloat16) for power in range(4, 19) for _ in range(3)]
    del held


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("width", [1, 2])
def test_memory_beyond_a_narrow_map_is_not_read(dims: int, width: int) -> None:
    x = torch.randn(1, 16, *(6,) * (dims - 1), width).bfloat16().requires_grad_()
    weight = torch.randn(32, 16, *(3,) * dims).bfloat16().requires_grad_()
    found: list[Tensor] = []
    for _ in range(5):
        fill_free_memory()
        output = strided_conv(x, weight, None, (2,) * dims)
        fill_free_memory()
        found += [output, *torch.autograd.grad(output.float().sum(), (x, weight))]
    assert all(each.isfinite().all() for each in found)


TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("step", [1, 2])
def test_a_transposed_convolution_is_torchs_own(dims: int, width: int, step: int) -> None:
    conv = TRANSPOSED[dims](4, 3, (4,) * (dims - 1) + (2 + step,), stride=(2,) * (dims - 1) + (step,), padding=1)
    conv = conv.double()
    x = torch.randn(2, 4, *(3,) * (dims - 1), width).double().requires_grad_()
    ours, theirs = transposed_conv(conv, x), conv(x)
    upstream = torch.randn_like(theirs)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    leaves = (x, *conv.parameters())
    for ours_to, theirs_to in zip(
        torch.autograd.grad(ours, leaves, upstream), torch.autograd.grad(theirs, leaves, upstream), strict=True
    ):
        torch.testing.assert_close(ours_to, theirs_to, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dims", [2, 3])
def test_memory_beyond_one_column_is_not_read_for_the_gradient(dims: int) -> None:
    conv = TRANSPOSED[dims](32, 16, 4, stride=2, padding=1).bfloat16()
    x = torch.randn(2, 32, *(6,) * (dims - 1), 1).bfloat16().requires_grad_()
    for _ in range(5):
        output = transposed_conv(conv, x)
        fill_free_memory()
        assert torch.autograd.grad(output.float().sum(), x)[0].isfinite().all()
