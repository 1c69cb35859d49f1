"""The reference here is a module with the authors' key names, written from the paper's facts, one statement a map."""

import json
import stat

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from fullscale.errors import DataError, FullscaleError
from fullscale.networks import create_network
from fullscale.networks.official import import_weights, load_official, translate_state_dict

KEYS = {"plain": 240, "supervised": 248, "guided": 250}


class DoubleConv(nn.Module):
    def __init__(self, source: int, out: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(source, out, 3, 1, 1), nn.BatchNorm2d(out), nn.ReLU())
        self.conv2 = nn.Sequential(nn.Conv2d(out, out, 3, 1, 1), nn.BatchNorm2d(out), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))


class Reference(nn.Module):
    def __init__(self, variant: str, in_channels: int, classes: int, width: int, skip: int) -> None:
        super().__init__()
        w, fused = [width, width * 2, width * 4, width * 8, width * 16], 5 * skip
        for level in range(1, 6):
            setattr(self, f"conv{level}", DoubleConv(in_channels if level == 1 else w[level - 2], w[level - 1]))
        skips = {
            4: {"h1_PT_hd4": w[0], "h2_PT_hd4": w[1], "h3_PT_hd4": w[2], "h4_Cat_hd4": w[3], "hd5_UT_hd4": w[4]},
            3: {"h1_PT_hd3": w[0], "h2_PT_hd3": w[1], "h3_Cat_hd3": w[2], "hd4_UT_hd3": fused, "hd5_UT_hd3": w[4]},
            2: {"h1_PT_hd2": w[0], "h2_Cat_hd2": w[1], "hd3_UT_hd2": fused, "hd4_UT_hd2": fused, "hd5_UT_hd2": w[4]},
            1: {"h1_Cat_hd1": w[0], "hd2_UT_hd1": fused, "hd3_UT_hd1": fused, "hd4_UT_hd1": fused, "hd5_UT_hd1": w[4]},
        }
        for level, named in skips.items():
            for name, source in named.items():
                setattr(self, f"{name}_conv", nn.Conv2d(source, skip, 3, padding=1))
                setattr(self, f"{name}_bn", nn.BatchNorm2d(skip))
            setattr(self, f"conv{level}d_1", nn.Conv2d(fused, fused, 3, padding=1))
            setattr(self, f"bn{level}d_1", nn.BatchNorm2d(fused))
        self.outconv1 = nn.Conv2d(fused, classes, 3, padding=1)
        if variant != "plain":
            for level in range(2, 6):
                setattr(self, f"outconv{level}", nn.Conv2d(w[4] if level == 5 else fused, classes, 3, padding=1))
        if variant == "guided":
            self.cls = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(w[4], 2, 1), nn.AdaptiveMaxPool2d(1), nn.Sigmoid())

    def part(self, name: str, x: Tensor) -> Tensor:
        return F.relu(getattr(self, f"{name}_bn")(getattr(self, f"{name}_conv")(x)))

    def fuse(self, level: int, *maps: Tensor) -> Tensor:
        joined = torch.cat(maps, 1)
        return F.relu(getattr(self, f"bn{level}d_1")(getattr(self, f"conv{level}d_1")(joined)))

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor | None]:
        def up(source: Tensor, factor: int) -> Tensor:
            return F.interpolate(source, scale_factor=factor, mode="bilinear", align_corners=False)

        part, pool = self.part, F.max_pool2d
        h1 = self.conv1(x)
        h2 = self.conv2(pool(h1, 2))
        h3 = self.conv3(pool(h2, 2))
        h4 = self.conv4(pool(h3, 2))
        hd5 = self.conv5(pool(h4, 2))
        hd4 = self.fuse(
            4,
            part("h1_PT_hd4", pool(h1, 8)),
            part("h2_PT_hd4", pool(h2, 4)),
            part("h3_PT_hd4", pool(h3, 2)),
            part("h4_Cat_hd4", h4),
            part("hd5_UT_hd4", up(hd5, 2)),
        )
        hd3 = self.fuse(
            3,
            part("h1_PT_hd3", pool(h1, 4)),
            part("h2_PT_hd3", pool(h2, 2)),
            part("h3_Cat_hd3", h3),
            part("hd4_UT_hd3", up(hd4, 2)),
            part("hd5_UT_hd3", up(hd5, 4)),
        )
        hd2 = self.fuse(
            2,
            part("h1_PT_hd2", pool(h1, 2)),
            part("h2_Cat_hd2", h2),
            part("hd3_UT_hd2", up(hd3, 2)),
            part("hd4_UT_hd2", up(hd4, 4)),
            part("hd5_UT_hd2", up(hd5, 8)),
        )
        hd1 = self.fuse(
            1,
            part("h1_Cat_hd1", h1),
            part("hd2_UT_hd1", up(hd2, 2)),
            part("hd3_UT_hd1", up(hd3, 4)),
            part("hd4_UT_hd1", up(hd4, 8)),
            part("hd5_UT_hd1", up(hd5, 16)),
        )
        outputs = [self.outconv1(hd1)]
        if hasattr(self, "outconv5"):
            outputs += [up(self.outconv2(hd2), 2), up(self.outconv3(hd3), 4)]
            outputs += [up(self.outconv4(hd4), 8), up(self.outconv5(hd5), 16)]
        presence = self.cls[2](self.cls[1](hd5)).flatten(1) if hasattr(self, "cls") else None
        return outputs, presence


def reference(variant: str, in_channels: int = 3, classes: int = 1, width: int = 2, skip: int = 3) -> Reference:
    torch.manual_seed(0)
    network = Reference(variant, in_channels, classes, width, skip).double()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.weight, norm.running_var):
                nn.init.uniform_(tensor, 0.5, 2)
            for tensor in (norm.bias, norm.running_mean):
                nn.init.normal_(tensor, 0, 0.3)
    return network.eval()


@pytest.mark.parametrize("variant", list(KEYS))
def test_every_variant_computes_what_the_reference_does(variant):
    theirs = reference(variant)
    state, network = translate_state_dict(theirs.state_dict())
    ours = create_network("unet3+", **network.options()).double()
    ours.load_state_dict(state, strict=True)
    image = torch.randn(2, 3, 32, 48, dtype=torch.float64)
    with torch.no_grad():
        expected, presence = theirs(image)
        logits, our_presence = ours.eval().segment(image)
        for module in ours.modules():
            module.training = module is ours  # side outputs, by the statistics that were loaded
        side = ours(image).logits
    torch.testing.assert_close(logits, expected[0], rtol=1e-10, atol=1e-10)
    assert len(side) == len(expected)
    for a, b in zip(side, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    if presence is None:
        assert our_presence is None
    else:
        torch.testing.assert_close(our_presence[:, 0], presence, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("variant", "keys"), KEYS.items())
def test_description_says_which_network_it_was(variant, keys):
    state = reference(variant, in_channels=2, classes=2, width=3, skip=4).state_dict()
    assert len(state) == keys
    _, network = translate_state_dict(state)
    assert (network.variant, network.keys) == (variant, keys)
    assert (network.in_channels, network.classes, network.width, network.skip_channels) == (2, 2, 3, 4)
    assert str(network) == (f"UNet 3+ {variant}: 2 input channels, 2 classes, width 3, 4 skip channels, {keys} keys")


def test_a_file_with_wrapper_and_data_parallel_prefix_loads(tmp_path):
    theirs = reference("guided").float()
    state = {f"module.{key}": value for key, value in theirs.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "weights.pth")
    ours = load_official(tmp_path / "weights.pth")
    image = torch.randn(1, 3, 32, 32)
    assert not ours.training
    torch.testing.assert_close(ours.segment(image)[0], theirs(image)[0][0], rtol=1e-4, atol=1e-4)


def without(state: dict, *keys: str) -> dict:
    return {key: value for key, value in state.items() if key not in keys}


def test_missing_key_is_named_and_counted():
    state = without(reference("supervised").state_dict(), "hd5_UT_hd2_conv.bias", "bn1d_1.running_var")
    with pytest.raises(DataError, match=r"2 keys are missing, first 'hd5_UT_hd2_conv\.bias' \(246 keys read, 248"):
        translate_state_dict(state)


def test_unexpected_key_is_named_and_counted():
    state = reference("plain").state_dict() | {"extra.weight": torch.zeros(1)}
    with pytest.raises(DataError, match=r"1 keys are unexpected, first 'extra\.weight' \(241 keys read, 240"):
        translate_state_dict(state)


def test_weight_of_another_shape_is_named_with_both_shapes():
    state = reference("plain").state_dict()
    state["conv3d_1.weight"] = torch.zeros(15, 14, 3, 3)
    with pytest.raises(DataError, match=r"first 'conv3d_1\.weight': \[15, 14, 3, 3\], expected \[15, 15, 3, 3\]"):
        translate_state_dict(state)


def test_guided_network_of_several_structures_with_one_classification_is_refused():
    with pytest.raises(DataError, match=r"'cls\.1\.weight'"):
        translate_state_dict(reference("guided", classes=3).state_dict())


def test_first_convolution_that_is_none_is_named():
    state = reference("plain").state_dict()
    state["conv1.conv1.0.weight"] = torch.zeros(3)
    with pytest.raises(DataError, match=r"'conv1\.conv1\.0\.weight' has shape \[3\]"):
        translate_state_dict(state)


def test_value_that_is_no_tensor_is_named():
    state = reference("plain").state_dict() | {"outconv1.bias": 1.0}
    with pytest.raises(DataError, match=r"'outconv1\.bias' is a float"):
        translate_state_dict(state)


@pytest.mark.parametrize("content", [[1, 2], {}, {1: 2}, torch.zeros(2)])
def test_file_without_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(DataError, match="holds no state dict"):
        load_official(tmp_path / "weights.pth")


def test_weights_of_another_network_are_refused_with_the_file(tmp_path):
    torch.save(nn.Conv2d(1, 1, 1).state_dict(), tmp_path / "other.pth")
    with pytest.raises(DataError, match=r"other\.pth: not a UNet 3\+ of the authors' code: 240 keys are missing"):
        load_official(tmp_path / "other.pth")


def test_imported_weights_build_the_same_network_from_their_metadata(tmp_path):
    torch.save(reference("guided").float().state_dict(), tmp_path / "weights.pth")
    description = import_weights(tmp_path / "weights.pth", tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        metadata = file.metadata()
    assert (metadata["network"], metadata["variant"]) == ("unet3+", "guided")
    assert json.loads(metadata["options"]) == description.options()
    ours = create_network(metadata["network"], **json.loads(metadata["options"]))
    ours.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=True)
    image = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(ours.eval()(image), load_official(tmp_path / "weights.pth")(image))


def test_a_destination_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    torch.save(reference("plain").state_dict(), tmp_path / "weights.pth")
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "file").touch()
    for destination in (taken, tmp_path / "nowhere" / "model.safetensors", tmp_path / "weights.pth" / "below"):
        with pytest.raises(FullscaleError, match="cannot be written"):
            import_weights(tmp_path / "weights.pth", destination)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken", "weights.pth"]


def test_imported_weights_are_readable_by_others_as_the_umask_says(tmp_path):
    torch.save(reference("plain").state_dict(), tmp_path / "weights.pth")
    import_weights(tmp_path / "weights.pth", tmp_path / "model.safetensors")
    (tmp_path / "plain_file").touch()
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("model.safetensors", "plain_file")]
    assert modes[0] == modes[1]
