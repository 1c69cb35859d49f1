"""Where channels come from: series of a DICOM study, folders of series in a list, and channels on other grids."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fullscale.cli.predict import parse_series
from fullscale.data.cache import prepare_cases
from fullscale.data.channels import read_scan
from fullscale.data.checks import inspect_dataset
from fullscale.data.dicom.stack import DicomReadOptions
from fullscale.data.layouts.find import find_dataset
from fullscale.data.plan import make_plan
from fullscale.data.read import RESAMPLE_REMEDY, read_channels, read_image
from fullscale.data.volume_files import read_frames, write_volume
from fullscale.errors import DataError, GeometryError, UsageError
from fullscale.geometry.resample import resample_image
from fullscale.geometry.volume import Volume
from fullscale.inference.batch import find_scans
from fullscale.inference.scan import as_channels
from tests.dicom_slices import SLICES, write_series

CHANNELS = ("flair", "t1c")


def write_study(folder: Path, *descriptions: str) -> Path:
    """Write a series for each description: of one study, on one grid, with voxels of its own."""
    for number, description in enumerate(descriptions):
        tags = {"SeriesInstanceUID": f"1.2.3.{number}", "SeriesDescription": description, "RescaleIntercept": number}
        write_series(folder / f"{number}", **tags)
    return folder


def test_the_series_of_each_channel_is_chosen_by_description_or_uid(tmp_path: Path):
    study = write_study(tmp_path / "study", "AX FLAIR", "AX T1 post", "scout")
    options = DicomReadOptions(by_channel={"flair": "AX FLAIR", "t1c": "1.2.3.1"})
    scans, notes = find_scans([study], options, CHANNELS)
    [scan] = scans
    assert (scan.name, notes) == ("study", [])
    found = read_scan(scan, CHANNELS, options)
    assert list(found) == list(CHANNELS)
    assert [int(v.array.min()) for v in found.values()] == [1024, 1025]  # by the intercepts of series 0 and 1
    with pytest.raises(DataError, match=r"channel t1c: .*holds no series 'T2'"):
        read_scan(scan, CHANNELS, DicomReadOptions(by_channel={"flair": "AX FLAIR", "t1c": "T2"}))
    with pytest.raises(DataError, match=r"which channel of which case\? .* as in --series 'flair=UID'"):
        find_scans([study], DicomReadOptions(), CHANNELS)


def test_studies_that_lack_a_series_are_passed_over_where_others_have_it(tmp_path: Path):
    write_series(tmp_path / "a/0", SeriesInstanceUID="1.5", SeriesDescription="FLAIR", StudyInstanceUID="1.9")
    write_study(tmp_path / "b", "FLAIR", "T1")
    scans, notes = find_scans([tmp_path], DicomReadOptions(by_channel={"flair": "FLAIR", "t1c": "T1"}), CHANNELS)
    assert [scan.name for scan in scans] == ["b"]
    assert notes == [f"{tmp_path / 'a/0'}: passed over, it holds no series 'T1'"]


@pytest.mark.parametrize(
    ("given", "channels", "found"),
    [
        ([], CHANNELS, (None, {})),
        (["a=b"], ("image",), ("a=b", {})),
        (["T1C=x=y", "flair= 1.2 "], CHANNELS, (None, {"t1c": "x=y", "flair": "1.2"})),
    ],
)
def test_series_are_read_by_channel(given: list[str], channels: tuple[str, ...], found: tuple[object, object]):
    assert parse_series(given, channels) == found


@pytest.mark.parametrize(
    ("given", "channels", "says"),
    [
        (["a", "b"], ("image",), "--series is given 2 times, but the model takes one channel"),
        (["1.2.3"], CHANNELS, "--series '1.2.3' is not of the form CHANNEL=SERIES with a channel of the model"),
        (["flare=x"], CHANNELS, "did you mean 'flair'?"),
        (["flair=x", "FLAIR=y"], CHANNELS, "--series names the channel flair twice"),
        (["flair=x"], CHANNELS, "--series says nothing of the channel t1c; the model takes flair, t1c"),
        (["flair="], CHANNELS, "--series 'flair=' is not of the form CHANNEL=SERIES"),
    ],
)
def test_series_that_fit_no_channels_are_refused(given: list[str], channels: tuple[str, ...], says: str):
    with pytest.raises(UsageError) as caught:
        parse_series(given, channels)
    assert says in str(caught.value)


def test_a_list_names_a_series_folder_for_each_channel(tmp_path: Path):
    study = write_study(tmp_path / "study", "FLAIR", "T1")
    grid = read_image(study / "0")
    write_volume(tmp_path / "mask.nii.gz", Volume((grid.array > 1200).astype(np.uint8), grid.affine))
    (tmp_path / "cases.csv").write_text(
        "image:flair,image:t1c,label,case\nstudy/0,study/1,mask.nii.gz,one\nstudy/0,,mask.nii.gz,two\n"
    )
    inspection = inspect_dataset(find_dataset(tmp_path / "cases.csv"))
    assert [(p.case, p.message) for p in inspection.errors] == [
        ("two", "has the channels flair, the data set flair, t1c")
    ]
    facts = inspection.facts["one"]
    assert {name: channel.intensity_min for name, channel in facts.channels.items()} == {"flair": 1024, "t1c": 1025}
    assert facts.shape[2] == SLICES


FINE, COARSE = np.diag([1.0, 1.0, 1.0, 1.0]), np.diag([2.0, 2.0, 2.0, 1.0])


def ramp(shape: tuple[int, int, int], affine: np.ndarray) -> Volume:
    """A volume whose value at a place is x + 10 y + 100 z of that place in mm."""
    x, y, z = np.indices(shape)
    return Volume((affine[0, 0] * x + 10 * affine[1, 1] * y + 100 * affine[2, 2] * z).astype(np.float32), affine)


def test_linear_interpolation_of_a_ramp_is_the_ramp():
    found = resample_image(ramp((6, 6, 6), COARSE), ramp((11, 11, 11), FINE))
    np.testing.assert_allclose(found.array, ramp((11, 11, 11), FINE).array, atol=1e-3)
    beyond = resample_image(ramp((3, 3, 3), COARSE), ramp((11, 11, 11), FINE))
    assert (beyond.array[6:] == 0).all()  # the lowest value
    far = COARSE.copy()
    far[0, 3] = 500
    with pytest.raises(GeometryError, match="no place in common"):
        resample_image(ramp((3, 3, 3), far), ramp((4, 4, 4), FINE))


def write_two_grids(root: Path, other: np.ndarray = COARSE) -> Path:
    rng = np.random.default_rng(1)
    for name in ("a", "b"):
        noise = Volume(rng.normal(size=(16, 16, 12)).astype(np.float32), FINE)
        write_volume(root / f"imagesTr/{name}_0000.nii.gz", noise)
        write_volume(root / f"imagesTr/{name}_0001.nii.gz", ramp((8, 8, 6), other))
        label = np.zeros((16, 16, 12), np.uint8)
        label[4:9, 4:9, 3:7] = 1
        write_volume(root / f"labelsTr/{name}.nii.gz", Volume(label, FINE))
    return root


def test_channels_on_other_grids_are_refused_or_brought_onto_the_first(tmp_path: Path):
    dataset = find_dataset(write_two_grids(tmp_path))
    files = dataset.cases[0].channels
    with pytest.raises(GeometryError) as caught:
        read_channels(files)
    assert "channels 0000 and 0001 lie on different grids: shapes differ: (16, 16, 12) and (8, 8, 6)" in str(
        caught.value
    )
    assert str(caught.value).endswith(RESAMPLE_REMEDY)
    found = read_channels(files, resample=True)
    assert found["0001"].notes == ("channel 0001 was resampled onto the grid of 0000",)
    np.testing.assert_allclose(found["0001"].affine, FINE)
    np.testing.assert_allclose(found["0001"].array[:15, :15, :11], ramp((15, 15, 11), FINE).array, atol=1e-3)
    assert as_channels(dict(files), tuple(files), resample=True)["0001"].shape == (16, 16, 12)
    write_two_grids(tmp_path / "far", COARSE + np.array([[0, 0, 0, 900.0], *[[0] * 4] * 3]))
    with pytest.raises(GeometryError, match=r"channels 0000 and 0001 lie .*; the two grids have no place in common"):
        read_channels(find_dataset(tmp_path / "far").cases[0].channels, resample=True)


def test_a_plan_of_channels_that_are_resampled_prepares_and_says_so(tmp_path: Path):
    dataset = find_dataset(write_two_grids(tmp_path / "set"))
    refused = inspect_dataset(dataset)
    assert not refused.facts
    assert RESAMPLE_REMEDY in refused.errors[0].message
    inspection = inspect_dataset(replace(dataset, resample_channels=True))
    assert list(inspection.facts) == ["a", "b"]
    plan = make_plan(inspection, view="slices")
    assert plan.resample_channels.value
    assert plan.recipe.resample_channels
    [first, _] = prepare_cases(dataset.cases, plan.recipe, {0: "background", 1: "x"}, tmp_path / "cache")
    assert first.image.shape[0] == 2


def test_one_file_of_several_channels_is_read_by_a_predictor_too(tmp_path: Path):
    array = np.random.default_rng(2).normal(size=(5, 6, 7, 2)).astype(np.float32)
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "both.nii.gz")
    found = as_channels(dict.fromkeys(CHANNELS, tmp_path / "both.nii.gz"), CHANNELS)
    for name, frame in zip(CHANNELS, read_frames(tmp_path / "both.nii.gz", 2), strict=True):
        np.testing.assert_array_equal(found[name].array, frame.array)
