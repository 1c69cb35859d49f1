"""Real studies through predict: as DICOM, as NIfTI by SimpleITK, and out again as DICOM SEG through dcmqi."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from fullscale.data.dicom.seg import read_seg
from fullscale.data.dicom.series import read_series
from fullscale.data.dicom.stack import DicomReadOptions
from fullscale.data.discover import Scan
from fullscale.data.volume_files import read_volume
from fullscale.geometry.orientation import reorient
from fullscale.inference.batch import predict_scans
from fullscale.inference.naming import OutputOptions
from fullscale.inference.predictor import Predictor

TOOLS = Path(sys.executable).parent


@pytest.mark.parametrize("seg_type", ["labelmap", "binary"])
@pytest.mark.parametrize("study", ["dcmqi/ct-3slice", "totalsegmentator/example_ct_dicom"])
def test_one_study_gives_one_mask_by_every_way(shared_data: Path, trained_run: Path, tmp_path: Path, study, seg_type):
    predictor, folder = Predictor.from_run(trained_run, "cpu"), shared_data / study
    scan = read_series(folder)
    image = sitk.ReadImage([str(file) for file in scan.header.files])
    sitk.WriteImage(image, str(tmp_path / "converted.nii.gz"))
    options = DicomReadOptions(fix_identifiers=True)
    [dicom] = predict_scans(predictor, [Scan("study", folder)], tmp_path, OutputOptions("both", seg_type), options)
    [nifti] = predict_scans(predictor, [Scan("other", tmp_path / "converted.nii.gz")], tmp_path)
    assert dicom.error is nifti.error is None
    assert dicom.mask is not None
    assert nifti.mask is not None
    assert dicom.segmentation is not None
    mask, other = reorient(read_volume(dicom.mask)), reorient(read_volume(nifti.mask))
    assert mask.array.any()
    np.testing.assert_array_equal(mask.array, other.array)
    np.testing.assert_allclose(mask.affine, other.affine, atol=1e-4)
    np.testing.assert_array_equal(reorient(read_seg(dicom.segmentation, scan)).array, mask.array)
    (tmp_path / "dcmqi").mkdir()
    command = [TOOLS / "segimage2itkimage", "--inputDICOM", dicom.segmentation, "--outputDirectory", tmp_path / "dcmqi"]
    subprocess.run([*command, "-t", "nrrd"], check=True, capture_output=True, timeout=120)
    found = 0
    for file in (tmp_path / "dcmqi").glob("*.nrrd"):
        segment = read_volume(file)
        voxels = np.argwhere(segment.array)
        places = voxels @ segment.affine[:3, :3].T + segment.affine[:3, 3]
        indices = (places - mask.affine[:3, 3]) @ np.linalg.inv(mask.affine[:3, :3]).T
        np.testing.assert_allclose(indices, np.rint(indices), atol=1e-3)
        ours = mask.array[tuple(np.rint(indices).astype(int).T)]
        np.testing.assert_array_equal(ours, segment.array[tuple(voxels.T)])
        found += len(voxels)
    assert found == (mask.array > 0).sum()
