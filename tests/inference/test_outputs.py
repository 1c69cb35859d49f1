"""What a mask is written as, what is said of it, and that one wish that cannot be met does not cost the others."""

import logging
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from fullscale.bundle.card import ModelCard
from fullscale.data.discover import Scan
from fullscale.data.distribution import ACROSS, IN_PLANE, SIDE, Distribution, Span
from fullscale.data.recipe import Intensity, Recipe
from fullscale.data.volume_files import read_volume, write_volume
from fullscale.geometry.volume import Volume
from fullscale.inference.batch import predict_scans
from fullscale.inference.naming import OutputOptions
from fullscale.inference.predictor import Predictor
from tests.dicom_slices import write_series

TRAINED = Distribution(
    cases=3,
    spans={
        "percentile_0_5": Span(low=-1024, high=-1000),
        "percentile_50": Span(low=-500, high=50),
        "percentile_99_5": Span(low=200, high=400),
        IN_PLANE: Span(low=3, high=5),
        ACROSS: Span(low=4, high=6),
        SIDE: Span(low=70, high=110),
    },
    structure_ml={"liver": Span(low=1, high=2)},
)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    """A network that finds liver everywhere."""
    card = ModelCard(
        network="unet",
        options={"width": 2},
        labels={0: "background", 1: "liver"},
        recipe=Recipe(intensity=Intensity(per="dataset", low=-100, high=300, std=80), spacing_mm=None),
        modality="CT",
        distribution=TRAINED,
    )
    torch.manual_seed(0)
    network = card.build()
    state = network.state_dict()
    last = [name for name in state if name.endswith("bias")][-1]
    state[last].fill_(1e3)
    network.load_state_dict(state)
    return Predictor.from_network(card, network, "cpu")


def scan(seed: int = 0, spacing: float = 4.0) -> Volume:
    hu = np.where(np.arange(24) < 12, -1010, 40)[:, None, None] + np.zeros((24, 24, 6))
    hu[12:14] = 300
    noise = np.random.default_rng(seed).normal(0, 8, hu.shape)
    return Volume((hu + noise).astype(np.int16), np.diag([spacing, spacing, 5 * spacing / 4, 1]))


@pytest.mark.parametrize(("suffix", "written"), [(".mhd", ".mha"), (".nhdr", ".nrrd")])
def test_a_format_in_two_files_is_written_as_one_and_said_before(
    predictor: Predictor, tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str, written: str
) -> None:
    image = sitk.GetImageFromArray(np.ascontiguousarray(scan().array.T))
    image.SetSpacing([4.0, 4.0, 5.0])
    sitk.WriteImage(image, str(tmp_path / f"scan{suffix}"))
    with caplog.at_level(logging.INFO, "fullscale"):
        [result] = predict_scans(predictor, [Scan("scan", tmp_path / f"scan{suffix}")], tmp_path / "out")
    assert result.error is None
    assert result.mask == tmp_path / "out" / f"scan{written}"
    assert read_volume(result.mask).shape == (24, 24, 6)
    assert f"scan{suffix}: its mask is written as one file, {written}" in caplog.text


def test_where_no_segmentation_is_possible_the_mask_is_still_written(predictor: Predictor, tmp_path: Path) -> None:
    write_volume(tmp_path / "scan.nii.gz", scan())
    scans = [Scan("scan", tmp_path / "scan.nii.gz")]
    [both] = predict_scans(predictor, scans, tmp_path / "both", OutputOptions("both"))
    assert both.error is None
    assert both.written == [tmp_path / "both" / "scan.nii.gz"]
    assert any("no DICOM SEG is written" in note and "no DICOM series" in note for note in both.notes)
    [seg] = predict_scans(predictor, scans, tmp_path / "seg", OutputOptions("seg"))
    assert "no DICOM series" in str(seg.error)
    assert not (tmp_path / "seg").exists()
    blank = write_series(tmp_path / "blank", SOPInstanceUID="", StudyInstanceUID="")
    [series] = predict_scans(predictor, [Scan("blank", blank)], tmp_path / "series", OutputOptions("both"))
    assert (series.error, series.segmentation) == (None, None)
    assert series.mask == tmp_path / "series" / "blank.nii.gz"


def test_a_scan_unlike_those_of_the_training_is_told_in_one_line(predictor: Predictor, tmp_path: Path) -> None:
    moved = Volume(scan().array + np.int16(1024), scan().affine)
    for name, volume in (("usual", scan(1)), ("coarse", scan(2, 16.0)), ("moved", moved)):
        write_volume(tmp_path / f"{name}.nii.gz", volume)
    names = ("usual", "coarse", "moved")
    scans = [Scan(name, tmp_path / f"{name}.nii.gz") for name in names]
    usual, coarse, shifted = predict_scans(predictor, scans, tmp_path / "out")
    # The network calls every voxel liver, which is more than the training's scans held.
    assert [len(result.notes) for result in (usual, coarse, shifted)] == [1, 1, 1]
    assert usual.notes[0].endswith(": liver of 276 ml (trained: 1 to 2)")
    assert "voxels of 16 mm within slices (trained: 3 to 5); slices 20 mm apart (trained: 4 to 6)" in coarse.notes[0]
    assert "intensities of" in shifted.notes[0]
    assert "unlike the scans that the model was trained on, so do not trust the mask" in shifted.notes[0]


def test_a_trained_model_knows_its_scans_and_says_which_are_not_like_them(
    trained_run: Path, phantoms: Path, tmp_path: Path
) -> None:
    usual = read_volume(phantoms / "imagesTs" / "phantom_006.nii.gz")
    hu = usual.array.astype(np.float32)
    mask = read_volume(phantoms / "labelsTr" / "phantom_000.nii.gz")
    slips = {
        "usual": usual,
        "constant": Volume(np.full_like(hu, 7), usual.affine),
        "unit": Volume((hu - hu.min()) / np.ptp(hu), usual.affine),
        "shifted": Volume(hu + 1024, usual.affine),
        "labels": mask,
        "coarse3": Volume(hu, usual.affine @ np.diag([3, 3, 3, 1])),
        "coarse10": Volume(hu, usual.affine @ np.diag([10, 10, 10, 1])),
        "metres": Volume(hu, usual.affine @ np.diag([0.001, 0.001, 0.001, 1])),
    }
    for name, volume in slips.items():
        write_volume(tmp_path / f"{name}.nii.gz", volume)
    scans = [Scan(name, tmp_path / f"{name}.nii.gz") for name in slips]
    results = predict_scans(Predictor.from_run(trained_run, "cpu"), scans, tmp_path / "out")
    told = {
        name: [note.partition("do not trust the mask: ")[2] for note in result.notes if "unlike" in note]
        for name, result in zip(slips, results, strict=True)
    }
    # A network of a few steps may call too much liver, so volumes are left out here.
    assert not any("intensities" in note or "mm" in note or "voxels" in note for note in told["usual"])
    expected = {
        "constant": "all of its voxels are 7",
        "unit": "intensities of 0",
        "shifted": "intensities of",
        "labels": "different values, as a label map does",
        "coarse3": "within slices",
        "coarse10": "within slices",
        "metres": "within slices",
    }
    for name, phrase in expected.items():
        assert len(told[name]) == 1, name
        assert phrase in told[name][0]
