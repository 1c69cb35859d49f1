"""Patches of three dimensions, from the data set to the mask: trained, predicted, guided, in ensembles with slices."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fullscale.bundle.card import ModelCard, read_card
from fullscale.bundle.store import load_bundle, save_ensemble
from fullscale.config.load import load_config
from fullscale.data.phantom import write_dataset
from fullscale.data.read import read_image
from fullscale.data.recipe import image_slices, slice_geometry
from fullscale.data.volume_files import write_volume
from fullscale.errors import UsageError
from fullscale.geometry.orientation import reorient
from fullscale.geometry.volume import Volume
from fullscale.inference.guided import predict_guided
from fullscale.inference.predictor import Predictor
from fullscale.networks.base import SegmentationNetwork
from fullscale.runfolder import RunFolder
from fullscale.scoring.summary import read_summary
from fullscale.training.request import TrainRequest
from fullscale.training.run import train
from tests.conftest import Command, Once

pytestmark = pytest.mark.whole

SETTINGS = [
    "data.batch_size=1",
    "data.workers=0",
    "trainer.steps_per_epoch=3",
    "trainer.max_epochs=1",
    "trainer.device=cpu",
]


@pytest.fixture(scope="module")
def isotropic(once: Once) -> Path:
    """Five phantoms whose voxels are about as long as wide, and one to segment."""
    return once("isotropic", lambda folder: list(write_dataset(folder, 5, 1, 1, size=24, slices=20)))


class Flat(SegmentationNetwork):
    """A network of somebody's own, for images."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__(in_channels, classes, stride=(1, 1))
        self.head = torch.nn.Conv2d(in_channels, classes, 1)


def trained(data: Path, run: Path, cache: Path, *settings: str) -> RunFolder:
    train(
        TrainRequest(
            data,
            run,
            config=load_config(
                None, [*SETTINGS, *(["network.width=4"] if "Flat" not in str(settings) else []), *settings]
            ),
            cache=cache,
        )
    )
    return RunFolder(run)


@pytest.fixture(scope="module")
def patches(once: Once, isotropic: Path, cache: Path) -> RunFolder:
    """A run whose view the plan has chosen; its tile is larger than the scans."""
    size = "data.patch_size=[24, 32, 32]"
    settings = ("network.classification_guided=true", "augment.flip=0.5")
    return RunFolder(once("patches", lambda run: trained(isotropic, run, cache, size, *settings)))


@pytest.fixture(scope="module")
def slices(once: Once, isotropic: Path, cache: Path) -> RunFolder:
    return RunFolder(once("slices", lambda run: trained(isotropic, run, cache, "data.patch_size=[32, 32]")))


@pytest.fixture(scope="module")
def scan(isotropic: Path) -> Volume:
    return read_image(isotropic / "imagesTs" / "phantom_005.nii.gz")


def test_the_plan_shows_isotropic_scans_in_patches(patches: RunFolder, slices: RunFolder) -> None:
    plan = json.loads(patches.plan.read_text())
    assert plan["view"]["value"] == "patches"
    card = read_card(patches.bundle / "model.json")
    assert isinstance(card, ModelCard)
    assert card.recipe.spacing_mm == tuple(plan["spacing_mm"]["value"])
    assert card.tile_size == (24, 32, 32)
    assert card.mirrors == ("left-right",)
    assert card.options["spatial_dims"] == 3
    assert json.loads(slices.plan.read_text())["view"]["reason"] == "set by data.view"
    scored = read_summary(patches.summary)
    assert [case.case for case in scored.cases] == json.loads(patches.splits.read_text())[0]["val"]


def test_the_mask_is_the_networks_answer_on_the_whole_scan(patches: RunFolder, scan: Volume) -> None:
    predictor = Predictor.from_run(patches.path, "cpu")
    [member] = load_bundle(patches.path).members
    recipe = member.card.recipe
    geometry = slice_geometry(scan, recipe)
    image = torch.from_numpy(image_slices({"image": scan}, geometry, recipe)[0])
    before = [(tile - size) // -2 for tile, size in zip((24, 32, 32), image.shape, strict=True)]
    around = [(-b, tile - size + b) for b, tile, size in zip(before, (24, 32, 32), image.shape, strict=True)]
    padded = torch.from_numpy(np.pad(image.numpy(), around, mode="edge"))[None, None]
    with torch.no_grad():
        logits = (member.network(padded) + member.network(padded.flip(-1)).flip(-1)) / 2
    inside = tuple(slice(first, first + size) for (first, _), size in zip(around, image.shape, strict=True))
    resized = torch.nn.functional.interpolate(logits[(..., *inside)], geometry.shape, mode="trilinear")
    expected = np.array([0, *predictor.card.structures])[resized.argmax(1)[0].numpy()]
    found = reorient(predictor.predict(scan), "RAS").array.transpose(2, 1, 0)
    assert (found != expected).mean() < 1e-4  # ties of the last digit apart
    quick = Predictor.from_run(patches.path, "cpu", quick=True)
    assert "left-right" in predictor.describe()
    assert "mirror" not in quick.describe()
    assert (reorient(quick.predict(scan), "RAS").array != found.transpose(2, 1, 0)).any()


def test_guidance_is_scored_slice_by_slice(patches: RunFolder, scan: Volume) -> None:
    predictor = Predictor.from_run(patches.path, "cpu")
    mask, guided = predict_guided(predictor, scan)
    np.testing.assert_array_equal(mask.array, predictor.predict(scan).array)
    assert guided is not None
    assert guided.predicted_present.shape == (20, 2)
    assert read_summary(patches.fold(0).summary).guidance


def test_slices_and_patches_vote_together(patches: RunFolder, slices: RunFolder, scan: Volume, tmp_path: Path) -> None:
    save_ensemble(tmp_path / "both", {"patches": patches.bundle, "slices": slices.bundle})
    predictor = Predictor.from_run(tmp_path / "both", "cpu")
    assert predictor.describe().startswith("each scan is segmented whole, in patches and slices, by 2 models")
    _, together = predictor.predict_probabilities(scan)
    each = [Predictor.from_run(run.path, "cpu").predict_probabilities(scan)[1] for run in (patches, slices)]
    for name, volume in together.items():
        mean = (each[0][name].array.astype(np.float64) + each[1][name].array) / 2
        np.testing.assert_allclose(volume.array, mean, atol=1e-3)


@pytest.mark.parametrize("shape", [(9, 40, 1), (50, 6, 30), (3, 3, 3)])
def test_scans_of_any_size_are_segmented(patches: RunFolder, shape: tuple[int, int, int]) -> None:
    array = np.random.default_rng(0).integers(-900, 300, shape).astype(np.int16)
    mask = Predictor.from_run(patches.path, "cpu").predict(array, spacing_mm=(12, 12, 12))
    assert mask.shape == shape


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("network.name=pspnet",), "PSPNet is for images.*slices are trained on with data.view=slices"),
        (("network.name=tests.training.test_patches:Flat",), "is for slices, .*: set data.view=slices"),
        (
            ("data.view=patches", "data.patch_size=[32, 32]"),
            r"patch_size \[32, 32\] has 2 sides: expected 3 for patches",
        ),
        (("data.view=slices", "network.spatial_dims=3"), "network.spatial_dims=3, but the plan is of slices"),
    ],
)
def test_what_does_not_fit_the_view_is_refused(
    isotropic: Path, cache: Path, tmp_path: Path, settings: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        trained(isotropic, tmp_path / "run", cache, *settings)
    assert not (tmp_path / "run").exists()


def test_a_run_keeps_its_view(patches: RunFolder, isotropic: Path, cache: Path) -> None:
    with pytest.raises(UsageError, match=r"data\.view=slices, but the plan is of patches"):
        trained(isotropic, patches.path, cache, "data.view=slices")


def test_views_are_trained_side_by_side_and_the_best_is_kept(
    isotropic: Path, cache: Path, tmp_path: Path, fullscale: Command
) -> None:
    run = RunFolder(tmp_path / "run")
    # Small and quick: a patch of any size serves, and the plan chooses one for each view.
    folds = ("--fold", "0,1", "--views", "slices,patches")
    command = ("train", isotropic, "-o", run.path, *folds, "--cache", cache, *SETTINGS)
    first = fullscale(*command, "network.width=4")
    assert first.returncode == 0, first.stderr
    told = json.loads(run.views.read_text())
    assert set(told["dice"]) == {"slices", "patches", "together"}
    assert told["dice"][told["kept"]] == max(told["dice"].values())
    members = {"slices": 2, "patches": 2, "together": 4}
    assert len(load_bundle(run.path).members) == members[told["kept"]]
    kept = [read_summary(run.view(told["kept"]).fold(k).summary) for k in range(2)]
    of_folds = {case.case: case.metrics for summary in kept for case in summary.cases}
    assert {case.case: case.metrics for case in read_summary(run.summary).cases} == of_folds
    again = fullscale(*command, "network.width=4")
    assert again.returncode == 0, again.stderr
    assert "predicting" not in again.stderr
    assert json.loads(run.views.read_text()) == told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--views", "slices"), "expected slices,patches"),
        (("--views", "slices,volumes"), "expected slices,patches"),
        (("--views", "slices,patches", "--fold", "all"), "holds back none"),
        (("--views", "slices,patches", "data.patch_size=[32,32]"), "leave them out with --views"),
        (("--views", "slices,patches", "network.name=pspnet"), "PSPNet is for images"),
    ],
)
def test_views_that_cannot_be_compared_are_refused(
    isotropic: Path, cache: Path, tmp_path: Path, fullscale: Command, arguments: tuple[str, ...], message: str
) -> None:
    done = fullscale("train", isotropic, "-o", tmp_path / "run", "--cache", cache, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_structure_that_no_training_case_holds_is_said_before_training(
    cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labels = "data.labels={1: liver, 2: spleen, 3: kidney}"
    data = tmp_path / "data"
    list(write_dataset(data, 3, 1, structures=(1, 2, 3), size=24, slices=20))
    for case in ("phantom_001", "phantom_002"):
        file = data / "labelsTr" / f"{case}.nii.gz"
        mask = read_image(file)
        write_volume(file, mask.with_array(np.where(mask.array == 3, 0, mask.array)))
    trained(data, tmp_path / "run", cache, labels, "data.validation=[phantom_000]", "data.patch_size=[32, 32]")
    assert "fold 0: no training case holds kidney; it will not be found" in caplog.text
