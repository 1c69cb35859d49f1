"""Which scans are meant, and what their masks are called."""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from fullscale.data.dicom import headers
from fullscale.data.dicom.seg import read_seg
from fullscale.data.dicom.series import read_series, read_series_grid
from fullscale.data.dicom.stack import DicomReadOptions
from fullscale.data.discover import Scan
from fullscale.data.read import read_image
from fullscale.data.volume_files import read_volume, write_volume
from fullscale.errors import DataError, UsageError
from fullscale.geometry.orientation import reorient
from fullscale.geometry.volume import Volume
from fullscale.inference.batch import find_scans, predict_scans
from fullscale.inference.naming import OutputOptions
from fullscale.inference.predictor import Predictor
from tests.dicom_slices import write_series, write_slice


def named(*paths: Path) -> list[str]:
    return [scan.name for scan in find_scans(paths)[0]]


def test_what_is_given_and_is_no_scan_is_spoken_of(tmp_path: Path) -> None:
    write_series(tmp_path / "scan")
    (tmp_path / "scan" / "readme.txt").write_text("text")
    _, notes = find_scans([tmp_path / "scan"])
    assert notes == [f"{tmp_path / 'scan' / 'readme.txt'}: passed over, neither DICOM nor a volume file"]
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "readme.txt").write_text("text")
    with pytest.raises(DataError, match=r"holds no scan; .*readme\.txt: passed over"):
        find_scans([tmp_path / "texts"])
    (tmp_path / "cases.csv").write_text("image\ngone.nii\nscan\n")
    scans, notes = find_scans([tmp_path / "cases.csv"])
    assert ([scan.name for scan in scans], len(notes)) == (["scan"], 1)
    assert "gone.nii: no such file" in notes[0]


def test_a_series_that_is_chosen_means_the_studies_that_hold_it(tmp_path: Path) -> None:
    for name, number in (("a", 1), ("b", 2)):
        write_series(tmp_path / name, StudyInstanceUID=f"1.9.{number}", SeriesInstanceUID=f"1.9.{number}.1")
    scans, notes = find_scans([tmp_path], DicomReadOptions(series="1.9.2.1"))
    assert [scan.name for scan in scans] == ["b"]
    assert notes == [f"{tmp_path / 'a'}: passed over, it holds no series '1.9.2.1'"]
    scans, notes = find_scans([tmp_path], DicomReadOptions(series="thin"))
    assert ([scan.name for scan in scans], notes) == (["a", "b"], [])


def test_a_data_set_stands_for_the_scans_of_its_cases_not_for_its_masks(phantoms: Path, tmp_path: Path) -> None:
    assert named(phantoms) == [f"phantom_00{i}" for i in range(7)]
    for name in ("volume-0.nii.gz", "segmentation-0.nii.gz"):
        write_volume(tmp_path / name, Volume(np.zeros((4, 4, 4), dtype=np.uint8), np.eye(4)))
    [scan] = find_scans([tmp_path])[0]
    assert scan == Scan("volume-0", tmp_path / "volume-0.nii.gz", label=tmp_path / "segmentation-0.nii.gz")


def test_a_folder_of_scans_and_single_files_mix(phantoms: Path) -> None:
    assert named(phantoms / "imagesTs", phantoms / "imagesTr" / "phantom_000.nii.gz") == ["phantom_006", "phantom_000"]


def test_two_scans_of_one_name_are_refused(phantoms: Path, tmp_path: Path) -> None:
    copy = tmp_path / "phantom_000.nii.gz"
    copy.write_bytes((phantoms / "imagesTr" / "phantom_000.nii.gz").read_bytes())
    with pytest.raises(UsageError, match="would all be written as 'phantom_000'"):
        find_scans([copy, phantoms / "imagesTr" / "phantom_000.nii.gz"])
    with pytest.raises(DataError, match="no such file or folder"):
        find_scans([tmp_path / "absent"])


@pytest.mark.parametrize("suffix", [".nii", ".mha", ".nrrd"])
def test_a_mask_has_the_format_of_its_scan(trained_run: Path, phantoms: Path, tmp_path: Path, suffix: str) -> None:
    scan = read_volume(phantoms / "imagesTs" / "phantom_006.nii.gz")
    write_volume(tmp_path / f"scan{suffix}", Volume(scan.array, scan.affine))
    predictor = Predictor.from_run(trained_run, "cpu")
    [result] = predict_scans(predictor, find_scans([tmp_path / f"scan{suffix}"])[0], tmp_path / "masks")
    assert result.mask == tmp_path / "masks" / f"scan{suffix}"
    mask = read_volume(result.mask)
    np.testing.assert_array_equal(mask.array, predictor.predict(scan).array)
    np.testing.assert_allclose(mask.affine, scan.affine, atol=1e-4)
    assert result.structure_ml["liver"] == pytest.approx(float((mask.array == 1).sum()) * mask.voxel_ml)


def test_a_mask_never_replaces_its_scan(trained_run: Path, phantoms: Path, tmp_path: Path) -> None:
    scan = tmp_path / "scan.nii.gz"
    scan.write_bytes((phantoms / "imagesTs" / "phantom_006.nii.gz").read_bytes())
    before = scan.read_bytes()
    with pytest.raises(UsageError, match="would replace the scan itself"):
        predict_scans(Predictor.from_run(trained_run, "cpu"), find_scans([scan])[0], tmp_path)
    assert scan.read_bytes() == before


@pytest.fixture(scope="module")
def series(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom as a DICOM series, its slices named from head to feet."""
    scan = reorient(read_volume(phantoms / "imagesTs" / "phantom_006.nii.gz"), "LPS")
    folder = tmp_path_factory.mktemp("dicom") / "phantom"
    folder.mkdir()
    x, y, z = scan.spacing_mm
    orientation = [f"{v:.9f}" for v in ((scan.affine[:3, :2] / (x, y)).T * (-1, -1, 1)).ravel()]
    for k in range(scan.shape[2]):
        position = (scan.affine @ (0, 0, k, 1))[:3] * (-1, -1, 1)
        write_slice(
            folder / f"{99 - k}.dcm",
            scan.array[:, :, k].T,
            position,
            orientation,
            PixelSpacing=[y, x],
            SliceThickness=z,
        )
    return folder


def test_a_dicom_study_and_the_same_scan_as_nifti_get_the_same_labels(
    trained_run: Path, series: Path, tmp_path: Path
) -> None:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    sitk.WriteImage(reader.Execute(), str(tmp_path / "phantom.nii.gz"))
    predictor = Predictor.from_run(trained_run, "cpu")
    out = tmp_path / "out"
    [dicom] = predict_scans(predictor, find_scans([series])[0], out / "dicom", OutputOptions("both"))
    [nifti] = predict_scans(predictor, find_scans([tmp_path / "phantom.nii.gz"])[0], out / "nifti")
    assert dicom.mask is not None
    assert nifti.mask is not None
    assert dicom.segmentation is not None
    expected = reorient(read_volume(nifti.mask))
    assert expected.array.any()
    placed = read_seg(dicom.segmentation, read_series(series))
    for found in (read_volume(dicom.mask), placed):
        np.testing.assert_array_equal(reorient(found).array, expected.array)
        np.testing.assert_allclose(reorient(found).affine, expected.affine, atol=1e-3)


def test_a_segmentation_needs_a_dicom_scan(trained_run: Path, phantoms: Path, tmp_path: Path) -> None:
    scans, _ = find_scans([phantoms / "imagesTs"])
    [result] = predict_scans(Predictor.from_run(trained_run, "cpu"), scans, tmp_path / "out", OutputOptions("seg"))
    assert "no DICOM series" in str(result.error)
    assert not (tmp_path / "out").exists()


def test_a_study_is_one_scan_and_a_folder_of_patients_is_many(series: Path, tmp_path: Path) -> None:
    for patient, study in (("one", "1.1"), ("two", "1.2")):
        for part in ("ct", "scout"):
            write_series(tmp_path / patient / part, StudyInstanceUID=study, SeriesInstanceUID=f"{study}.{len(part)}")
    assert named(tmp_path / "one") == ["one"]
    patients = tmp_path / "patients"
    for name, study in (("a", "1.1"), ("b", "1.2")):
        write_series(patients / name, StudyInstanceUID=study)
    assert named(patients) == ["a", "b"]
    deep = tmp_path / "deep"
    write_series(deep / "x" / "y" / "z")
    assert named(deep) == ["deep"]
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for file in series.iterdir():
            archive.write(file, file.name)
    assert named(tmp_path / "study.zip") == ["study"]


def test_a_zip_a_pet_and_a_series_without_identifiers(trained_run: Path, series: Path, tmp_path: Path) -> None:
    predictor = Predictor.from_run(trained_run, "cpu")
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for file in series.iterdir():
            archive.write(file, file.name)
    [whole] = predict_scans(predictor, find_scans([tmp_path / "study.zip"])[0], tmp_path / "out", OutputOptions("seg"))
    assert whole.error is None
    [pet] = predict_scans(
        predictor, [Scan("pet", write_series(tmp_path / "pet", Modality="PT"))], tmp_path / "out", OutputOptions("seg")
    )
    assert pet.notes[0] == "the scan is PET, the model was trained on CT: do not trust the mask"
    assert ["unlike the scans" in note for note in pet.notes[1:]] == [True]  # it is of 4 x 5 voxels
    blank = [Scan("blank", write_series(tmp_path / "blank", SOPInstanceUID="", StudyInstanceUID=""))]
    [refused] = predict_scans(predictor, blank, tmp_path / "no", OutputOptions("seg"))
    assert "(SOPInstanceUID, StudyInstanceUID)" in str(refused.error)
    assert not (tmp_path / "no").exists()
    [fixed] = predict_scans(
        predictor, blank, tmp_path / "fix", OutputOptions("both"), DicomReadOptions(fix_identifiers=True)
    )
    assert fixed.error is None
    assert any("new ones are in the copy" in note for note in fixed.notes)
    assert {path.name for path in (tmp_path / "fix").iterdir()} == {"blank.dcm", "blank.nii.gz", "blank_dicom"}
    [copy] = predict_scans(
        predictor, [Scan("again", tmp_path / "fix" / "blank_dicom")], tmp_path / "fix", OutputOptions("seg")
    )
    assert (copy.error, [note for note in copy.notes if "unlike the scans" not in note]) == (None, [])


def test_slices_given_one_by_one_are_put_together_by_their_series(series: Path, tmp_path: Path) -> None:
    other = write_series(tmp_path / "other", SeriesInstanceUID="7.7")
    scans, _ = find_scans([*sorted(series.iterdir()), *sorted(other.iterdir())])
    assert [(scan.name, len(scan.files)) for scan in scans] == [
        (series.name, len(list(series.iterdir()))),
        ("other", len(list(other.iterdir()))),
    ]
    np.testing.assert_array_equal(read_image(scans[0].source).array, read_image(series).array)
    [alone] = find_scans([next(other.iterdir())])[0]
    assert alone.files == ()
    told: list[str] = []
    find_scans([series], progress=lambda *of: told.append(of[2]))
    assert len(told) == len(list(series.iterdir()))


def test_the_headers_of_a_study_are_read_once(series: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    real = headers.read_dataset

    def noted(path: Path, *arguments: object, **options: object) -> object:
        read.append(path)
        return real(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(headers, "read_dataset", noted)
    headers._read_slices.cache_clear()
    [scan] = find_scans([series])[0]
    read_series_grid(scan.source)
    assert sorted(read) == sorted(series.iterdir())
    changed = next(series.iterdir())
    changed.write_bytes(changed.read_bytes())
    read_series_grid(scan.source)
    assert len(read) == len(list(series.iterdir())) + 1


@pytest.mark.slow
def test_predicting_loads_no_settings_of_training_and_no_scipy_before_a_model_needs_it() -> None:
    code = "import sys, fullscale.inference.attempt, fullscale.inference.predictions; "
    code += "print([n for n in ('fullscale.config.schema', 'scipy.ndimage', 'scipy.special') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
