"""Weights of the authors' code compute what a reference with their names computes."""

import pytest
import torch
from torch import nn

from fullscale.errors import DataError
from fullscale.networks import create_network
from fullscale.networks.official import load_official, translate_state_dict
from tests.official_reference import reference

KEYS = {"plain": 240, "supervised": 248, "guided": 250}


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
        output = ours(image)
    side = [output] if isinstance(output, torch.Tensor) else output.logits
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
