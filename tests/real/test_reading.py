"""Reading the real scans: every figure here was looked at, or comes from the files' own description."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from fullscale.data.checks import inspect_dataset
from fullscale.data.dicom.headers import segment_names
from fullscale.data.dicom.seg import read_seg, require_sources
from fullscale.data.dicom.series import list_series, read_series
from fullscale.data.labels import Algorithm
from fullscale.data.layouts.find import find_dataset
from fullscale.data.read import read_image, read_label
from fullscale.data.volume_files import read_volume, write_volume
from fullscale.errors import DataError
from fullscale.geometry.orientation import axis_codes, reorient
from fullscale.geometry.volume import Volume, describe_mismatch


def mean_inside(image: Volume, mask: np.ndarray) -> float:
    return float(image.array[mask].mean())


def centre_mm(volume: Volume, mask: np.ndarray) -> np.ndarray:
    return (volume.affine @ (*ndimage.center_of_mass(mask), 1))[:3]


def test_hippocampus_200_cases_without_a_problem(shared_data: Path):
    inspection = inspect_dataset(find_dataset(shared_data / "Task04_Hippocampus"))
    assert inspection.dataset.layout == "Medical Segmentation Decathlon"
    assert inspection.dataset.modality == "MRI"
    assert inspection.labels == {0: "background", 1: "Anterior", 2: "Posterior"}
    assert len(inspection.usable_cases) == 200
    assert inspection.problems == []
    for facts in inspection.facts.values():
        assert facts.orientation == "RAS"
        np.testing.assert_allclose(facts.spacing_mm, 1, atol=1e-3)
        assert 0.5 < facts.label_ml[1] < 3.5
        assert 0.3 < facts.label_ml[2] < 3.5


def test_lits_the_mask_lies_on_tissue_of_a_contrast_enhanced_liver(shared_data: Path):
    dataset = find_dataset(shared_data / "lits")
    (case,) = dataset.cases
    assert (dataset.layout, case.id) == ("LiTS", "volume-0")
    image, label = read_image(case.first), read_label(case.label, case.first)
    assert axis_codes(image.affine) == "LAS"
    assert describe_mismatch(image, label) is None
    assert 60 < mean_inside(image, label.array == 1) < 200
    assert 1000 < (label.array == 1).sum() * label.voxel_ml < 2500
    assert centre_mm(label, label.array == 1)[0] > centre_mm(image, image.array > -300)[0]


@pytest.mark.parametrize("folder", ["chaos", "chaos/CT", "chaos/CT/3"])
def test_chaos_is_found_from_each_of_its_folders(shared_data: Path, folder: str):
    dataset = find_dataset(shared_data / folder)
    assert (dataset.layout, [case.id for case in dataset.cases]) == ("CHAOS", ["3"])


def test_chaos_the_png_masks_lie_on_the_liver(shared_data: Path):
    (case,) = find_dataset(shared_data / "chaos").cases
    image, label = read_image(case.first), read_label(case.label, case.first)
    assert image.shape == (512, 512, 78)
    np.testing.assert_allclose(image.spacing_mm, (0.7265625, 0.7265625, 2))
    mask = label.array == 1
    regions, count = ndimage.label(mask)
    assert np.bincount(regions.ravel())[1:].max() / mask.sum() > 0.99
    assert count < 5
    assert 120 < mean_inside(image, mask) < 160
    assert mask[:, :, 0].any(), "this liver runs to the lowest slice"
    assert not mask[:, :, -1].any(), "the highest slice shows the lungs"
    rim = ndimage.binary_dilation(mask, iterations=4) & ~ndimage.binary_dilation(mask, iterations=2)
    assert mean_inside(image, rim) < mean_inside(image, mask) - 100
    for mirrored in (mask[::-1], mask[:, ::-1], mask[:, :, ::-1]):
        assert mean_inside(image, mirrored) < mean_inside(image, mask) - 40


def test_dcmqi_slices_named_backwards_land_in_order_under_the_mask(shared_data: Path):
    image = read_series(shared_data / "dcmqi/ct-3slice")
    assert [file.name for file in image.header.files] == ["03.dcm", "02.dcm", "01.dcm"]
    label = read_label(shared_data / "dcmqi/liver_seg.nrrd", shared_data / "dcmqi/ct-3slice")
    assert describe_mismatch(image, label) is None
    means = [
        mean_inside(Volume(image.array[:, :, k : k + 1], image.affine), label.array[:, :, k : k + 1] == 1)
        for k in range(3)
    ]
    assert min(means) > 30
    assert mean_inside(image, label.array[:, :, ::-1] == 1) < mean_inside(image, label.array == 1)


def test_jpeg_2000_with_blank_identifiers_matches_its_mask_by_position(shared_data: Path):
    folder = shared_data / "totalsegmentator"
    (series,) = list_series(folder / "example_ct_dicom").series
    assert (series.uid, series.modality, series.slices, series.problem) == ("", "CT", 20, None)
    image = read_image(folder / "example_ct_dicom")
    label = read_label(folder / "example_seg_dicom.nii.gz", folder / "example_ct_dicom")
    assert describe_mismatch(image, label) is not None
    image, label = reorient(image), reorient(label)
    assert np.abs(image.affine - label.affine).max() < 1e-4
    assert 40 < mean_inside(image, label.array == 5) < 200
    assert 40 < mean_inside(image, label.array == 1) < 200
    assert centre_mm(label, label.array == 5)[0] > centre_mm(label, label.array == 1)[0]


@pytest.mark.parametrize("folder", ["chaos/CT/3/DICOM_anon", "dcmqi/ct-3slice", "totalsegmentator/example_ct_dicom"])
def test_simpleitk_reads_the_same_voxels_at_the_same_place(shared_data: Path, folder: str):
    volume = read_series(shared_data / folder)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(file) for file in volume.header.files])
    image = reader.Execute()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T, volume.array)
    for corner in np.ndindex(2, 2, 2):
        index = tuple(int(i) for i in np.array(corner) * (np.array(volume.shape) - 1))
        lps = np.array(image.TransformIndexToPhysicalPoint(index))
        np.testing.assert_allclose((volume.affine @ (*index, 1))[:3], lps * (-1, -1, 1), atol=1e-3)


def test_totalsegmentator_scan_and_mask_share_a_grid(shared_data: Path):
    folder = shared_data / "totalsegmentator"
    image = read_image(folder / "example_ct.nii.gz")
    label = read_label(folder / "example_seg_fast_force_split.nii.gz", folder / "example_ct.nii.gz")
    assert describe_mismatch(image, label) is None
    assert 20 < mean_inside(image, label.array == 5) < 200


def test_a_folder_of_loose_files_is_told_to_write_a_list(shared_data: Path):
    with pytest.raises(DataError, match="CSV file with the columns image,label"):
        find_dataset(shared_data / "totalsegmentator")


@pytest.mark.parametrize("name", ["lits/segmentation-0.nii.gz", "totalsegmentator/example_seg_dicom.nii.gz"])
def test_a_real_mask_written_on_its_own_header_comes_back_unchanged(shared_data: Path, tmp_path: Path, name: str):
    mask = read_volume(shared_data / name)
    write_volume(tmp_path / "mask.nii.gz", mask)
    again = read_volume(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(again.affine, mask.affine)
    np.testing.assert_array_equal(again.array, mask.array)
    for code in ("qform_code", "sform_code", "xyzt_units"):
        assert again.header[code] == mask.header[code]


def test_dcmqi_a_segmentation_and_its_nrrd_are_one_mask_in_patient_space(shared_data: Path):
    scan = read_series(shared_data / "dcmqi/ct-3slice")
    nrrd = read_label(shared_data / "dcmqi/liver_seg.nrrd", shared_data / "dcmqi/ct-3slice")
    placed = read_seg(shared_data / "dcmqi/liver.dcm", scan)
    np.testing.assert_array_equal(placed.array, nrrd.array)
    assert segment_names(shared_data / "dcmqi/liver.dcm") == {1: "Liver"}
    alone = read_seg(shared_data / "dcmqi/liver.dcm")
    np.testing.assert_allclose(centre_mm(alone, alone.array == 1), centre_mm(nrrd, nrrd.array == 1), atol=1e-3)


def test_blank_identifiers_of_a_real_series_are_named_when_a_segmentation_is_asked_for(shared_data: Path):
    with pytest.raises(DataError, match=r"\(SOPClassUID, SOPInstanceUID, .*StudyInstanceUID"):
        require_sources(
            read_series(shared_data / "totalsegmentator/example_ct_dicom"), {1: "liver"}, Algorithm("a", "1")
        )
