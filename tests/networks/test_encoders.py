import subprocess
import sys

import pytest
import safetensors.torch
import timm
import torch

from fullscale.errors import DataError, FullscaleError, UsageError
from fullscale.networks.encoders import PlainEncoder, create_encoder
from fullscale.networks.state_dicts import read_state_dict


@pytest.fixture(scope="module")
def resnet_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return timm.create_model("resnet18").state_dict()


def test_plain_encoder_has_the_parameters_of_the_paper():
    with torch.device("meta"):
        encoder = PlainEncoder(3, 64)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 18_851_136
    assert encoder.channels == (64, 128, 256, 512, 1024)


def test_plain_encoder_halves_the_size_and_doubles_the_channels():
    maps = PlainEncoder(2, 4).eval()(torch.randn(1, 2, 32, 48))
    assert [tuple(m.shape) for m in maps] == [(1, 4 * 2**i, 32 // 2**i, 48 // 2**i) for i in range(5)]


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "vgg11_bn"])
def test_backbone_gives_five_maps_at_its_strides(name):
    encoder = create_encoder(name, in_channels=2).eval()
    maps = encoder(torch.randn(1, 2, 64, 96))
    assert encoder.strides == ((2, 2), (4, 4), (8, 8), (16, 16), (32, 32))
    expected = [(1, c, 64 // s, 96 // s) for c, (s, _) in zip(encoder.channels, encoder.strides, strict=True)]
    assert [tuple(m.shape) for m in maps] == expected


def test_unknown_tag_of_a_backbone_is_named():
    with pytest.raises(UsageError, match="nonsense"):
        create_encoder("resnet18.nonsense", 3)


def test_a_hub_address_is_refused_without_being_visited():
    with pytest.raises(UsageError, match="unknown"):
        create_encoder("hf-hub:timm/resnet18.a1_in1k", 3)


@pytest.mark.parametrize(
    ("written", "offered"),
    [
        ("resnet-34", "'resnet34'"),
        ("ResNet34", "'resnet34'"),
        ("timm-efficientnet-b0", "'efficientnet_b0'"),
        ("tu-convnext_tiny", "'convnext_tiny'"),
        ("timm/resnet18", "'resnet18'"),
        ("se_resnext50_32x4d", "'seresnext50_32x4d'"),
        ("mobilenet_v2", "'mobilenetv2_100'"),
        ("swin_t", "'swin_tiny_patch4_window7_224'"),
        ("resnot50", "'resnet50'"),
    ],
)
def test_a_name_as_other_libraries_write_it_is_answered_with_ours(written, offered):
    with pytest.raises(UsageError, match="is unknown; did you mean") as caught:
        create_encoder(written, 3)
    assert offered in str(caught.value)


@pytest.mark.parametrize("name", ["zzz", "", "--"])
def test_a_name_like_nothing_known_is_answered_with_some_that_work(name):
    with pytest.raises(UsageError, match="expected one such as resnet34"):
        create_encoder(name, 3)


@pytest.mark.parametrize("name", ["convnext_atto", "mambaout_femto", "swin_tiny_patch4_window7_224"])
def test_a_backbone_without_a_map_at_stride_2_gets_it_from_a_stem(name):
    torch.manual_seed(0)
    encoder = create_encoder(name, in_channels=2).eval()
    assert encoder.strides == ((2, 2), (4, 4), (8, 8), (16, 16), (32, 32))
    assert encoder.channels[0] == encoder.channels[1] // 2
    image = torch.randn(1, 2, 96, 64)
    maps = encoder(image)
    expected = [(1, c, 96 // s, 64 // s) for c, (s, _) in zip(encoder.channels, encoder.strides, strict=True)]
    assert [tuple(m.shape) for m in maps] == expected
    for found, features in zip(maps[1:], encoder.backbone(image), strict=True):
        channels_last = features.shape[1] != found.shape[1]
        assert torch.equal(found, features.permute(0, 3, 1, 2) if channels_last else features)


def test_the_stem_looks_at_every_pixel():
    encoder = create_encoder("convnext_atto", in_channels=1).eval()
    image = torch.zeros(1, 1, 32, 32, requires_grad=True)
    encoder.stem[0](image).sum().backward()
    assert (image.grad != 0).all()


def test_backbone_of_other_strides_is_refused_with_the_strides_it_gives():
    with pytest.raises(UsageError, match=r"'convmixer_768_32' gives features at strides \[7, 7, 7\].*choose one such"):
        create_encoder("convmixer_768_32", 3)


def test_backbone_of_one_input_size_is_refused():
    with pytest.raises(UsageError, match="one size only"):
        create_encoder("vit_tiny_patch16_224", 3)


def test_backbone_whose_maps_are_not_the_size_its_strides_promise_is_refused():
    with pytest.raises(UsageError, match="'inception_v3'"):
        create_encoder("inception_v3", 3)


@pytest.mark.parametrize("pretrained", [True, "weights.pth"])
def test_plain_encoder_has_no_pretrained_weights(pretrained):
    with pytest.raises(UsageError, match="'plain' has no pretrained weights"):
        create_encoder("plain", 3, pretrained=pretrained)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_local_weights_reach_every_level(tmp_path, resnet_state, suffix):
    path = tmp_path / f"resnet{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": {f"module.{key}": value for key, value in resnet_state.items()}}, path)
    else:
        safetensors.torch.save_file(resnet_state, path)
    encoder = create_encoder("resnet18", 3, pretrained=path)
    loaded = encoder.backbone.state_dict()
    assert loaded.keys() == {key for key in resnet_state if not key.startswith("fc.")}
    assert all(torch.equal(loaded[key], resnet_state[key]) for key in loaded)


def test_local_weights_of_three_channels_fit_one_channel(tmp_path, resnet_state):
    path = tmp_path / "resnet.safetensors"
    safetensors.torch.save_file(resnet_state, path)
    stem = create_encoder("resnet18", 1, pretrained=str(path)).backbone.conv1.weight
    torch.testing.assert_close(stem, resnet_state["conv1.weight"].sum(dim=1, keepdim=True))


def test_weights_of_another_backbone_are_refused(tmp_path, resnet_state):
    path = tmp_path / "resnet.safetensors"
    safetensors.torch.save_file(resnet_state, path)
    with pytest.raises(DataError, match="does not hold weights of 'mobilenetv3_small_050'"):
        create_encoder("mobilenetv3_small_050", 3, pretrained=path)


def test_weights_with_one_layer_missing_are_refused_by_its_name(tmp_path, resnet_state):
    path = tmp_path / "resnet.safetensors"
    safetensors.torch.save_file({k: v for k, v in resnet_state.items() if k != "layer3.0.conv2.weight"}, path)
    with pytest.raises(DataError, match=r"1 are missing, first 'layer3\.0\.conv2\.weight'"):
        create_encoder("resnet18", 3, pretrained=path)


def test_missing_file_of_weights_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.pth is not there"):
        create_encoder("resnet18", 3, pretrained=tmp_path / "nowhere.pth")


def test_text_file_named_as_weights_is_refused_in_one_line(tmp_path):
    for name in ("weights.pth", "weights.safetensors"):
        (tmp_path / name).write_text("not weights\n" * 9)
        with pytest.raises(DataError, match="cannot be read as weights") as caught:
            read_state_dict(tmp_path / name)
        assert "\n" not in str(caught.value)


class Payload:
    def __reduce__(self):
        return (print, ("executed",))


def test_pickle_that_would_execute_is_refused(tmp_path, capsys):
    torch.save({"state_dict": Payload()}, tmp_path / "evil.pth")
    with pytest.raises(DataError, match="cannot be read as weights"):
        read_state_dict(tmp_path / "evil.pth")
    assert "executed" not in capsys.readouterr().out


def test_weights_that_cannot_be_fetched_end_in_one_line_that_names_the_local_way(monkeypatch):
    def offline(*_args, **options):
        assert options["pretrained"]
        raise OSError("We couldn't connect\nto 'https://example.org'")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(FullscaleError, match=r"We couldn't connect\).*pretrained=PATH") as caught:
        create_encoder("resnet18", 3, pretrained=True)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_random_weights_need_no_socket():
    code = (
        "import socket\n"
        "def refuse(*a, **k): raise SystemExit('a socket was opened')\n"
        "socket.socket.connect = refuse\n"
        "socket.getaddrinfo = refuse\n"
        "from fullscale.networks import create_network\n"
        "create_network('unet3+', 3, 1, encoder='resnet18', skip_channels=4)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
