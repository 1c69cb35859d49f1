"""Starting from other weights: what fits is taken over, the rest is named layer by layer."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fullscale.bundle.card import ModelCard, read_card
from fullscale.bundle.store import load_bundle
from fullscale.bundle.weights import Weights, read_weights
from fullscale.config.load import load_config
from fullscale.errors import UsageError
from fullscale.networks import create_network
from fullscale.training.initial_weights import adapt_channels, start_from, state_digest, warn_of_other_structures
from fullscale.training.request import TrainRequest
from fullscale.training.run import train
from tests.conftest import QUICK


def weights_of(network: torch.nn.Module) -> Weights:
    return Weights("somewhere", network.state_dict(), "unet")


def test_the_same_network_is_taken_over_whole() -> None:
    given, network = (create_network("unet", 3, 2, width=4) for _ in range(2))
    transfer = start_from(network, weights_of(given))  # type: ignore[arg-type]
    assert len(transfer.loaded) == len(network.state_dict())
    assert transfer.unused == []
    assert state_digest(network.state_dict()) == state_digest(given.state_dict())


def test_other_channels_and_classes_are_named_layer_by_layer(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "fullscale")
    given, network = create_network("unet3+", 3, 3, width=4), create_network("unet3+", 1, 1, width=4)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    transfer = start_from(network, weights_of(given))  # type: ignore[arg-type]
    after, source = network.state_dict(), given.state_dict()
    assert list(transfer.adapted) == ["encoder.levels.0.0.conv.weight"]
    assert all(name.startswith(("heads", "guidance")) for name in transfer.fresh)
    assert transfer.fresh
    for name in transfer.fresh:
        assert torch.equal(after[name], before[name])
        assert f"fresh: {name} (" in caplog.text
    for name in transfer.loaded:
        assert torch.equal(after[name], source[name])
    assert len(transfer.loaded) + len(transfer.adapted) + len(transfer.fresh) == len(after)
    assert "adapted: encoder.levels.0.0.conv.weight (mean of 3 input channels for each of 1)" in caplog.text


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_the_same_image_in_every_channel_gives_the_same_output(channels: int) -> None:
    weight, image = torch.randn(4, 3, 3, 3, dtype=torch.float64), torch.randn(1, 1, 8, 8, dtype=torch.float64)
    expected = torch.nn.functional.conv2d(image.repeat(1, 3, 1, 1), weight)
    found = torch.nn.functional.conv2d(image.repeat(1, channels, 1, 1), adapt_channels(weight, channels))
    torch.testing.assert_close(found, expected)


def test_weights_of_which_nothing_fits_are_refused() -> None:
    with pytest.raises(UsageError, match=r"network\.init=somewhere: none of its \d+ weights of network 'unet' fits"):
        start_from(create_network("unet", 3, 1, width=8), weights_of(create_network("unet", 3, 1, width=4)))  # type: ignore[arg-type]


def test_a_digest_of_weights_does_not_depend_on_their_file(trained_run: Path, tmp_path: Path) -> None:
    [member] = load_bundle(trained_run).members
    save_file(dict(reversed(member.network.state_dict().items())), tmp_path / "w.safetensors")
    assert state_digest(read_weights(tmp_path / "w.safetensors").state) == state_digest(read_weights(trained_run).state)
    other = {name: value + 1 for name, value in member.network.state_dict().items()}
    assert state_digest(other) != state_digest(member.network.state_dict())


@pytest.mark.slow
def test_a_run_is_tuned_to_other_labels_and_says_what_it_started_from(
    trained_run: Path, phantoms: Path, cache: Path, tmp_path: Path
) -> None:
    def request(*settings: str) -> TrainRequest:
        short = ["trainer.max_epochs=1", "trainer.steps_per_epoch=1", "data.labels={2: spleen}", *settings]
        return TrainRequest(phantoms, tmp_path / "run", config=load_config(None, [*QUICK, *short]), cache=cache)

    summary = train(request(f"network.init={trained_run}"))
    assert summary.labels == {2: "spleen"}
    card = read_card(tmp_path / "run" / "bundle" / "model.json")
    assert isinstance(card, ModelCard)
    started = card.provenance["started_from"]
    assert started["digest"] == state_digest(read_weights(trained_run).state)
    assert started["adapted"] == []
    assert all(name.startswith(("heads", "guidance")) for name in started["fresh"])
    with pytest.raises(UsageError, match=r"was begun with network\.init="):
        train(request())


def test_a_head_of_other_structures_is_taken_over_with_a_warning(
    trained_run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = read_weights(trained_run)
    warn_of_other_structures(weights, {1: "liver", 2: "spleen"})
    warn_of_other_structures(weights, {1: "liver"})
    assert caplog.text == ""
    warn_of_other_structures(weights, {1: "kidney", 2: "spleen"})
    assert "was trained on liver, spleen; its last layer fits and is taken over, and now learns kidney, spleen" in (
        caplog.text
    )
