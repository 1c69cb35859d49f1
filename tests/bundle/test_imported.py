"""Weights of the authors' code, as safetensors and as a bundle that predicts."""

import json
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from fullscale.bundle.imported import import_bundle, import_weights, neighbours_for
from fullscale.bundle.store import load_bundle
from fullscale.bundle.weights import read_weights
from fullscale.data.recipe import Intensity, Recipe
from fullscale.data.volume_files import read_volume
from fullscale.errors import DataError, FullscaleError, UsageError
from fullscale.inference.predictor import Predictor
from fullscale.networks import create_network
from fullscale.networks.official import load_official
from tests.conftest import Command
from tests.official_reference import reference

WINDOW = Recipe(intensity=Intensity(per="dataset", low=-100, high=240, mean=-100, std=340), spacing_mm=None)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.save(reference("guided").float().state_dict(), tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def test_imported_weights_build_the_same_network_from_their_metadata(weights: Path, tmp_path: Path) -> None:
    description = import_weights(weights, tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        metadata = file.metadata()
    assert (metadata["network"], metadata["variant"]) == ("unet3+", "guided")
    assert json.loads(metadata["options"]) == description.options()
    ours = create_network(metadata["network"], **json.loads(metadata["options"]))
    ours.load_state_dict(load_file(tmp_path / "model.safetensors"))
    image = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(ours.eval()(image), load_official(weights)(image))


def test_a_destination_that_cannot_be_written_leaves_nothing_behind(weights: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "file").touch()
    for destination in (taken, weights / "below"):
        with pytest.raises(FullscaleError, match="cannot write"):
            import_weights(weights, destination)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken", "weights.pth"]


def test_imported_weights_are_readable_by_others_as_the_umask_says(weights: Path, tmp_path: Path) -> None:
    import_weights(weights, tmp_path / "model.safetensors")
    (tmp_path / "plain_file").touch()
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("model.safetensors", "plain_file")]
    assert modes[0] == modes[1]


def test_weights_to_start_from_are_told_apart_by_their_names(weights: Path, tmp_path: Path) -> None:
    import_weights(weights, tmp_path / "model.safetensors")
    for path in (weights, tmp_path / "model.safetensors"):
        found = read_weights(path)
        assert (found.network, found.in_channels, found.channels) == ("unet3+", 3, 1)
        assert found.options == {
            "width": 2,
            "skip_channels": 3,
            "deep_supervision": True,
            "classification_guided": True,
        }
        assert found.state.keys() == load_official(weights).state_dict().keys()


def test_a_bundle_of_imported_weights_computes_what_the_reference_does(weights: Path, tmp_path: Path) -> None:
    import_bundle(weights, tmp_path / "bundle", {1: "liver"}, WINDOW, "CT")
    [member] = load_bundle(tmp_path / "bundle").members
    image = torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        expected, _ = reference("guided").float()(image)
        torch.testing.assert_close(member.network.segment(image)[0], expected[0], rtol=1e-4, atol=1e-5)
    assert member.card.structures == {1: "liver"}


def test_what_does_not_fit_the_weights_is_refused(weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    with pytest.raises(UsageError, match="has 1 output channels, but liver, spleen need 3"):
        import_bundle(weights, folder, {1: "liver", 2: "spleen"}, WINDOW, "CT")
    with pytest.raises(UsageError, match="takes 3 input channels, but with neighbours=0 it would be given 1"):
        import_bundle(weights, folder, {1: "liver"}, WINDOW.model_copy(update={"neighbours": 0}), "CT")
    torch.save(nn.Conv2d(1, 1, 1).state_dict(), tmp_path / "other.pth")
    with pytest.raises(DataError, match="does not say which network"):
        import_bundle(tmp_path / "other.pth", folder, {1: "liver"}, WINDOW, "CT")
    assert not folder.exists()
    assert [neighbours_for(channels) for channels in (1, 3, 5, 7)] == [0, 1, 2, 3]
    for channels in (0, 2, 4, 9):
        with pytest.raises(UsageError, match=f"takes {channels} input channels"):
            neighbours_for(channels)


def test_the_command_writes_a_bundle_that_predicts(
    weights: Path, phantoms: Path, fullscale: Command, tmp_path: Path
) -> None:
    scan = phantoms / "imagesTs" / "phantom_006.nii.gz"
    bundle = tmp_path / "bundle"
    labels = ("--labels", "7=liver", "--window", "-100,240", "--modality", "CT")
    done = fullscale("import-weights", weights, "--bundle", bundle, *labels)
    assert done.returncode == 0, done.stderr
    done = fullscale("predict", bundle, scan, "-o", tmp_path / "masks", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    found = read_volume(tmp_path / "masks" / scan.name).array
    assert set(np.unique(found)) <= {0, 7}
    np.testing.assert_array_equal(found, Predictor.from_run(bundle, "cpu").predict(scan).array)


@pytest.mark.slow
def test_the_command_takes_a_plan_and_refuses_half_a_request(
    weights: Path, phantoms: Path, fullscale: Command, tmp_path: Path
) -> None:
    plan, bundle = tmp_path / "plan.json", tmp_path / "bundle"
    done = fullscale("plan", phantoms, "data.labels={1: liver}", "-o", plan)
    assert done.returncode == 0, done.stderr
    done = fullscale("import-weights", weights, "--bundle", bundle, "--plan", plan, "-o", tmp_path / "m.safetensors")
    assert done.returncode == 0, done.stderr
    assert load_bundle(bundle).card.structures == {1: "liver"}
    assert (tmp_path / "m.safetensors").is_file()
    for arguments, message in (
        ((), "give -o"),
        (("--bundle", bundle), "--labels"),
        (("--bundle", bundle, "--labels", "1=liver"), "--window"),
        (("--bundle", bundle, "--labels", "1=liver", "--window", "240"), "--window '240'"),
        (("--bundle", bundle, "--labels", "1=liver", "--window", "240,-100"), "--window '240,-100'"),
        (("--bundle", bundle, "--labels", "1=liver", "--plan", plan), "--plan"),
        (("-o", tmp_path / "n.safetensors", "--labels", "1=liver"), "--bundle"),
    ):
        done = fullscale("import-weights", weights, *arguments)
        assert done.returncode == 2, (arguments, done.stderr)
        assert message in done.stderr
        assert done.stderr.count("\n") == 1


def test_two_channels_of_one_structure_become_its_logit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "fullscale")
    torch.save(reference("supervised", classes=2).float().state_dict(), tmp_path / "two.pth")
    import_bundle(tmp_path / "two.pth", tmp_path / "bundle", {4: "liver"}, WINDOW, "CT")
    assert "taken for background and liver, told apart by softmax" in caplog.text
    [member] = load_bundle(tmp_path / "bundle").members
    image = torch.randn(2, 3, 32, 48)
    with torch.inference_mode():
        expected = load_official(tmp_path / "two.pth")(image).softmax(dim=1)[:, 1:]
        torch.testing.assert_close(member.network(image).sigmoid(), expected)
    torch.save(reference("guided", classes=2).float().state_dict(), tmp_path / "guided.pth")
    with pytest.raises(UsageError, match="only networks without guidance are taken so"):
        import_bundle(tmp_path / "guided.pth", tmp_path / "other", {4: "liver"}, WINDOW, "CT")


def test_a_folder_of_someone_else_is_not_replaced_by_a_bundle(
    weights: Path, fullscale: Command, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years of work")
    described = ("--labels", "1=liver", "--window", "-100,240")
    for more in ((), ("--overwrite",)):
        done = fullscale("import-weights", weights, "--bundle", precious, *described, *more)
        assert done.returncode == 2, done.stderr
        assert "is a folder whose files fullscale import-weights did not write" in done.stderr
    assert (precious / "thesis.tex").read_text() == "years of work"
    for _ in range(2):
        assert fullscale("import-weights", weights, "--bundle", tmp_path / "b", *described).returncode == 0
    (tmp_path / "weights.safetensors").write_text("mine")
    refused = fullscale("import-weights", weights, "-o", tmp_path / "weights.safetensors")
    assert (refused.returncode, (tmp_path / "weights.safetensors").read_text()) == (2, "mine")
