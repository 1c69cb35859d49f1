import subprocess
import sys

import pytest

from fullscale.errors import UsageError
from fullscale.networks import create_network, list_networks
from fullscale.networks.unet3plus import UNet3Plus


def test_name_and_options_reach_the_class():
    network = create_network("unet3+", 2, 3, width=4, skip_channels=5, deep_supervision=False)
    assert isinstance(network, UNet3Plus)
    assert (network.in_channels, network.classes, len(network.heads)) == (2, 3, 1)
    assert network.decoders[0].skips[0].conv.out_channels == 5


def test_unknown_name_offers_the_nearest():
    with pytest.raises(UsageError, match="network 'unet3' is unknown; did you mean 'unet3\\+'"):
        create_network("unet3", 3, 1)


def test_unknown_option_offers_the_nearest():
    with pytest.raises(UsageError, match="no option 'skip_chanels'; did you mean 'skip_channels'"):
        create_network("unet3+", 3, 1, skip_chanels=4)


def test_option_like_nothing_known_lists_what_is():
    with pytest.raises(UsageError, match=r"known: .*encoder, .*width"):
        create_network("unet3+", 3, 1, zzz=4)


def test_names_are_listed_without_loading_torch():
    code = "import sys, fullscale.networks as n; print(n.list_networks()); assert 'torch' not in sys.modules"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert output.strip() == str(list_networks())


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("encoder_name", "encoder"),
        ("encoder_weights", "pretrained"),
        ("in_chans", "in_channels"),
        ("n_classes", "classes"),
    ],
)
def test_an_option_as_other_libraries_call_it_is_answered_with_ours(theirs, ours):
    with pytest.raises(UsageError, match=f"no option '{theirs}'; did you mean '{ours}'"):
        create_network("unet3+", 3, 1, **{theirs: "resnet34"})


def test_what_a_network_does_not_have_is_not_offered():
    with pytest.raises(
        UsageError, match="no option 'encoder_name'; known: levels, max_width, spatial_dims, strides, width"
    ):
        create_network("attention-unet", 3, 1, encoder_name="resnet34")
