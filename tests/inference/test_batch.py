"""Which scans are meant, and what their masks are called."""

from pathlib import Path

import numpy as np
import pytest

from fullscale.data.nifti import read_volume, write_volume
from fullscale.errors import DataError, UsageError
from fullscale.geometry.volume import Volume
from fullscale.inference.batch import find_scans, predict_scans
from fullscale.inference.predictor import Predictor


def test_a_data_set_stands_for_the_scans_of_its_cases_not_for_its_masks(phantoms: Path, tmp_path: Path) -> None:
    names = [name for name, _ in find_scans([phantoms])]
    assert names == [f"phantom_00{i}" for i in range(7)]
    for name in ("volume-0.nii.gz", "segmentation-0.nii.gz"):
        write_volume(tmp_path / name, Volume(np.zeros((4, 4, 4), dtype=np.uint8), np.eye(4)))
    assert find_scans([tmp_path]) == [("volume-0", tmp_path / "volume-0.nii.gz")]


def test_a_folder_of_scans_and_single_files_mix(phantoms: Path) -> None:
    found = find_scans([phantoms / "imagesTs", phantoms / "imagesTr" / "phantom_000.nii.gz"])
    assert [name for name, _ in found] == ["phantom_006", "phantom_000"]


def test_two_scans_of_one_name_are_refused(phantoms: Path, tmp_path: Path) -> None:
    copy = tmp_path / "phantom_000.nii.gz"
    copy.write_bytes((phantoms / "imagesTr" / "phantom_000.nii.gz").read_bytes())
    with pytest.raises(UsageError, match="would all be written as 'phantom_000'"):
        find_scans([copy, phantoms / "imagesTr" / "phantom_000.nii.gz"])
    with pytest.raises(DataError, match="does not exist"):
        find_scans([tmp_path / "absent"])


@pytest.mark.parametrize("suffix", [".nii", ".mha", ".nrrd"])
def test_a_mask_has_the_format_of_its_scan(trained_run: Path, phantoms: Path, tmp_path: Path, suffix: str) -> None:
    scan = read_volume(phantoms / "imagesTs" / "phantom_006.nii.gz")
    write_volume(tmp_path / f"scan{suffix}", Volume(scan.array, scan.affine))
    predictor = Predictor.from_run(trained_run, "cpu")
    [result] = predict_scans(predictor, find_scans([tmp_path / f"scan{suffix}"]), tmp_path / "masks")
    assert result.mask == tmp_path / "masks" / f"scan{suffix}"
    mask = read_volume(result.mask)
    np.testing.assert_array_equal(mask.array, predictor.predict(scan).array)
    np.testing.assert_allclose(mask.affine, scan.affine, atol=1e-4)
    assert result.organ_ml["liver"] == pytest.approx(float((mask.array == 1).sum()) * mask.voxel_ml)


def test_a_mask_never_replaces_its_scan(trained_run: Path, phantoms: Path, tmp_path: Path) -> None:
    scan = tmp_path / "scan.nii.gz"
    scan.write_bytes((phantoms / "imagesTs" / "phantom_006.nii.gz").read_bytes())
    before = scan.read_bytes()
    with pytest.raises(UsageError, match="would replace the scan itself"):
        predict_scans(Predictor.from_run(trained_run, "cpu"), find_scans([scan]), tmp_path)
    assert scan.read_bytes() == before
