"""The networks over a dilated backbone: DeepLab and PSPNet."""

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch.nn import functional as F

from fullscale.errors import DataError, UsageError
from fullscale.networks import create_network
from fullscale.networks.deeplab import RATES, DeepLabV2, DeepLabV3Plus
from fullscale.networks.pspnet import average_fields

NAMES = ["pspnet", "deeplabv2", "deeplabv3", "deeplabv3+"]


@pytest.fixture(scope="module")
def resnet_state():
    torch.manual_seed(1)
    return timm.create_model("resnet18").state_dict()


def test_deeplabv2_sums_four_atrous_convolutions_of_a_map_at_stride_8():
    torch.manual_seed(0)
    network = DeepLabV2(3, 2, encoder="resnet18").eval()
    image = torch.randn(1, 3, 64, 48)
    deepest = network.backbone(image)[-1]
    assert deepest.shape == (1, 512, 8, 6)
    by_hand = sum(
        F.conv2d(deepest, branch.weight, branch.bias, padding=rate, dilation=rate)
        for branch, rate in zip(network.branches, (6, 12, 18, 24), strict=True)
    )
    assert RATES == (6, 12, 18, 24)
    expected = F.interpolate(by_hand, size=(64, 48), mode="bilinear")
    torch.testing.assert_close(network(image), expected, rtol=1e-4, atol=1e-4)


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 2, 3, 6]))
@settings(deadline=None, max_examples=60)
def test_averaging_over_fields_is_adaptive_average_pooling(height, width, size):
    x = torch.randn(2, 3, height, width, dtype=torch.float64)
    torch.testing.assert_close(average_fields(x, size), F.adaptive_avg_pool2d(x, size), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("in_channels", [3, 1])
def test_local_weights_reach_the_backbone_from_a_file_or_a_folder(name, in_channels, resnet_state, tmp_path):
    save_file(resnet_state, tmp_path / "model.safetensors")
    networks = [
        create_network(name, in_channels, 2, encoder="resnet18", pretrained=str(path))
        for path in (tmp_path, tmp_path / "model.safetensors")
    ]
    for network in networks:
        state = network.state_dict()
        deep = next(key for key in state if key.endswith("layer4.1.conv2.weight"))
        assert torch.equal(state[deep], resnet_state["layer4.1.conv2.weight"])
        first = next(key for key in state if key.endswith((".model.conv1.weight", "backbone.conv1.weight")))
        if in_channels == 3:
            assert torch.equal(state[first], resnet_state["conv1.weight"])


def test_a_folder_without_weights_is_named(tmp_path):
    with pytest.raises(DataError, match=r"model\.safetensors is not there"):
        create_network("deeplabv3", 3, 1, encoder="resnet18", pretrained=str(tmp_path))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("plain", "cannot be dilated"),
        ("resnet_18", "did you mean 'resnet18'"),
        ("vit_base_patch16_224", "one size only"),
    ],
)
def test_an_encoder_that_does_not_fit_is_refused_in_one_line(name, encoder, message):
    with pytest.raises(UsageError, match=message) as caught:
        create_network(name, 3, 1, encoder=encoder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_backbone_that_cannot_be_dilated_is_refused(name):
    with pytest.raises(UsageError, match="vgg11"):
        create_network(name, 3, 1, encoder="vgg11")


@pytest.mark.parametrize("name", ["deeplabv3", "deeplabv3+"])
def test_one_image_cannot_train_a_network_that_normalises_its_global_branch(name):
    network = create_network(name, 3, 1, encoder="resnet18", width=4)
    with pytest.raises(UsageError, match=r"data\.batch_size of 2 or more"):
        network.train()(torch.zeros(1, 3, 32, 32))
    assert network.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 1, 32, 32)


def test_width_64_is_the_papers():
    with torch.device("meta"):
        network = DeepLabV3Plus(3, 1, encoder="resnet18")
    assert network.network.segmentation_head[0].in_channels == 256
