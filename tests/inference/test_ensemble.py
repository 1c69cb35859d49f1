"""Several models as one: the mean of their probabilities decides, each member with a recipe of its own."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch

from fullscale.bundle.card import EnsembleCard, ModelCard
from fullscale.bundle.store import load_bundle, save_bundle, save_ensemble
from fullscale.data.recipe import Intensity, Recipe, image_slices, slice_geometry
from fullscale.data.volume_files import read_volume
from fullscale.geometry.orientation import reorient
from fullscale.geometry.volume import Volume
from fullscale.inference.batch import find_scans, predict_scans
from fullscale.inference.combine import Combination
from fullscale.inference.naming import OutputOptions
from fullscale.inference.predictor import Predictor
from fullscale.views.slices import with_neighbours
from tests.dicom_slices import write_series

CT = Intensity(per="dataset", low=-100, high=300, mean=100, std=80)
MEMBERS = {
    "a": ("unet", Recipe(intensity=CT, spacing_mm=3.0, neighbours=1)),
    "b": ("unet++", Recipe(intensity=CT, spacing_mm=None, neighbours=0)),
    "c": ("unet", Recipe(intensity=Intensity(per="scan"), spacing_mm=3.0, neighbours=1)),
}


@pytest.fixture(scope="module", params=[{1: "liver"}, {1: "liver", 4: "spleen"}], ids=["sigmoid", "softmax"])
def ensemble(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ensemble")
    for seed, (name, (network, recipe)) in enumerate(MEMBERS.items()):
        torch.manual_seed(seed)
        card = ModelCard(network=network, options={"width": 2}, labels=request.param, recipe=recipe, modality="CT")
        save_bundle(folder / name, card, card.build().state_dict())
    save_ensemble(folder / "all", {name: folder / name for name in MEMBERS})
    save_ensemble(folder / "one", {"a": folder / "a"})
    return folder


@pytest.fixture(scope="module")
def scan(phantoms: Path) -> Volume:
    return read_volume(phantoms / "imagesTs" / "phantom_006.nii.gz")


def mean_probability(folder: Path, scan: Volume, index: int) -> torch.Tensor:
    """Probabilities of one slice in float64, one member after the other, nothing shared."""
    found = []
    for name in MEMBERS:
        [member] = load_bundle(folder / name).members
        recipe = member.card.recipe
        geometry = slice_geometry(scan, recipe)
        slices = image_slices({"image": scan}, geometry, recipe)
        image = torch.from_numpy(with_neighbours(slices, index, recipe.neighbours))[None].double()
        with torch.no_grad():
            logits = member.network.to(torch.float64)(image)
        logits = torch.nn.functional.interpolate(logits, geometry.shape[1:], mode="bilinear")
        found.append(logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1))
    return torch.stack(found).mean(0)[0]


def test_the_mean_probability_of_the_members_decides(ensemble: Path, scan: Volume) -> None:
    predictor = Predictor.from_run(ensemble / "all", "cpu")
    mask, soft = predictor.predict_probabilities(scan)
    upright = reorient(mask, "RAS").array
    for index in (0, 6, upright.shape[2] - 1):
        expected = mean_probability(ensemble, scan, index)
        structures = expected if len(expected) == 1 else expected[1:]
        for probability, volume in zip(structures, soft.values(), strict=True):
            np.testing.assert_allclose(reorient(volume, "RAS").array[:, :, index].T, probability, atol=1e-3)
        chosen = (expected[0] > 0.5).long() if len(expected) == 1 else expected.argmax(0)
        top = expected.sort(0).values
        clear = (expected[0] - 0.5).abs() > 1e-4 if len(expected) == 1 else top[-1] - top[-2] > 1e-4
        values = np.array([0, *predictor.card.structures])
        assert (values[chosen] == upright[:, :, index].T)[clear].all()
        assert clear.float().mean() > 0.9
    np.testing.assert_array_equal(predictor.predict(scan).array, mask.array)


def test_an_ensemble_of_one_is_that_model_to_the_voxel(ensemble: Path, scan: Volume) -> None:
    alone, one = (Predictor.from_run(ensemble / name, "cpu") for name in ("a", "one"))
    np.testing.assert_array_equal(one.predict(scan).array, alone.predict(scan).array)
    for found, expected in zip(
        one.predict_probabilities(scan)[1].values(), alone.predict_probabilities(scan)[1].values(), strict=True
    ):
        np.testing.assert_array_equal(found.array, expected.array)


def test_batches_change_nothing_in_an_ensemble(ensemble: Path, scan: Volume) -> None:
    masks = [Predictor.from_run(ensemble / "all", "cpu", size).predict(scan).array for size in (1, 5, None)]
    np.testing.assert_array_equal(masks[0], masks[1])
    np.testing.assert_array_equal(masks[0], masks[2])


def test_one_member_decides_by_its_logits_where_probabilities_would_tie(ensemble: Path) -> None:
    [member] = load_bundle(ensemble / "a").members
    one, two = Combination(member.card.scheme), Combination(member.card.scheme)
    logits = torch.full((1, member.card.scheme.channels, 1, 1), 1e-9)
    logits[:, 1:] = 0
    one.add(logits)
    assert one.decide().tolist() == [[[1 if member.card.scheme.channels == 1 else 0]]]
    for _ in range(2):
        two.add(torch.full_like(logits, 1e-9))
    assert two.decide().tolist() == [[[0]]]


def test_a_dicom_segmentation_names_the_members(ensemble: Path, tmp_path: Path) -> None:
    series = write_series(tmp_path / "series")
    predictor = Predictor.from_run(ensemble / "all", "cpu")
    assert isinstance(predictor.card, EnsembleCard)
    [result] = predict_scans(predictor, find_scans([series])[0], tmp_path / "out", OutputOptions("seg"))
    assert result.error is None
    assert result.segmentation is not None
    written = pydicom.dcmread(result.segmentation)
    for segment in (s for s in written.SegmentSequence if s.SegmentNumber != 0):
        [identification] = segment.SegmentationAlgorithmIdentificationSequence
        assert identification.AlgorithmName == "fullscale unet, unet++"
        assert identification.AlgorithmVersion == predictor.card.algorithm.version
        for name, record in predictor.card.members.items():
            assert f"{name}={record.network} model {record.digest[:12]}" in identification.AlgorithmParameters
