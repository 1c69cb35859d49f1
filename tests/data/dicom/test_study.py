"""Whole studies: series in nested folders and zips, compressed and multi-frame pixels, stacks that need a remedy."""

import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    EnhancedCTImageStorage,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)
from tests.dicom_slices import (
    AXIAL,
    COLUMN_MM,
    COLUMNS,
    ORIENTATIONS,
    ROW_MM,
    ROWS,
    SLICES,
    STEP_MM,
    slice_hu,
    slice_position,
    write_series,
    write_slice,
)

from fullscale.data.dicom.seg import read_seg, write_seg
from fullscale.data.dicom.series import is_study, read_series, read_series_grid, series_info
from fullscale.data.dicom.stack import DicomReadOptions
from fullscale.data.labels import Algorithm
from fullscale.data.read import read_image
from fullscale.errors import DataError, GeometryError


def refusal(study: Path, error: type[DataError] = DataError, options: DicomReadOptions | None = None) -> str:
    with pytest.raises(error, match=r"^[^\n]*$") as caught:
        read_series(study, options)
    assert str(study) in str(caught.value)
    return str(caught.value)


def zipped(study: Path, target: Path, **further: bytes) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(study.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(study))
        for name, content in further.items():
            archive.writestr(name, content)
    return target


def write_study(study: Path) -> Path:
    """A CT in folders of its own, a localiser, a screen capture and a dose report beside it."""
    write_series(study / "a" / "thin", SeriesDescription="thin")
    options: dict[str, Any] = {"SeriesInstanceUID": "9.8", "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    for k in range(2):
        write_slice(study / f"scout{k}", slice_hu(k), slice_position(k), ORIENTATIONS["coronal"], **options)
    capture = {"SOPClassUID": SecondaryCaptureImageStorage, "BurnedInAnnotation": "YES", "ImagePositionPatient": None}
    write_slice(study / "capture.dcm", slice_hu(7), (0, 0, 0), SeriesInstanceUID="7.7", Modality="OT", **capture)
    (study / "notes.txt").write_text("nothing to read")
    return study


def test_the_only_series_that_may_be_a_scan_is_read_and_what_was_passed_over_is_told(tmp_path: Path):
    study = write_study(tmp_path / "study")
    volume = read_series(study)
    assert volume.header.series_uid == "1.2.3"
    assert volume.shape == (COLUMNS, ROWS, SLICES)
    [note] = volume.header.notes
    assert note.startswith("read CT 'thin' (5 slices), passed over CT '' (2 slices), OT ''")
    assert [series.slices for series in series_info(study)] == [5, 2, 1]


def test_of_two_scans_one_must_be_chosen_even_where_one_is_broken(tmp_path: Path):
    write_series(tmp_path / "thin", SeriesDescription="thin")
    write_series(tmp_path / "thick", SeriesDescription="thick", SeriesInstanceUID="5.5", slices=[0, 1, 3, 4])
    text = refusal(tmp_path)
    assert "holds 2 series, of which 2 may be scans; choose one by its UID (--series)" in text
    assert "CT 'thick' (4 slices), UID '5.5'" in text
    for name in ("thin", "1.2.3"):
        chosen = read_series(tmp_path, DicomReadOptions(series=name))
        assert (chosen.shape[2], chosen.header.notes) == (SLICES, ())
    assert "seem to be missing: 1" in refusal(tmp_path, GeometryError, DicomReadOptions(series="thick"))
    assert "holds no series '5'" in refusal(tmp_path, options=DicomReadOptions(series="5"))


def test_a_screen_capture_alone_is_named(tmp_path: Path):
    options = {"SOPClassUID": SecondaryCaptureImageStorage, "ImagePositionPatient": None, "BurnedInAnnotation": "YES"}
    write_slice(tmp_path / "shot.dcm", slice_hu(0), (0, 0, 0), **options)
    assert "shot.dcm is a secondary capture" in refusal(tmp_path)
    assert "secondary capture" in str(series_info(tmp_path)[0].problem)


def test_localisers_among_the_slices_are_named(tmp_path: Path):
    write_series(tmp_path)
    options: dict[str, Any] = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "InstanceNumber": 1}
    write_slice(tmp_path / "scout", slice_hu(7), slice_position(0), ORIENTATIONS["coronal"], **options)
    assert "1 of 6 slices are localisers (scout (instance 1)); remove them" in refusal(tmp_path, GeometryError)


def test_a_zip_is_read_like_the_folder_it_was_made_of(tmp_path: Path):
    study = write_study(tmp_path / "study")
    archive = zipped(study, tmp_path / "study.zip")
    assert is_study(archive)
    found, expected = read_image(archive), read_series(study)
    np.testing.assert_array_equal(found.array, expected.array)
    np.testing.assert_array_equal(found.affine, expected.affine)
    assert [file.name for file in found.header.files] == [file.name for file in expected.header.files]
    assert series_info(archive) == series_info(study)


@pytest.mark.parametrize("name", ["../out.dcm", "/etc/out.dcm", "a/../../out.dcm", "..\\out.dcm", "C:/out.dcm"])
def test_a_zip_with_a_path_that_leads_out_of_it_is_refused(tmp_path: Path, name: str):
    archive = zipped(write_study(tmp_path / "study"), tmp_path / "study.zip", **{name: b"x"})
    assert "which leads out of it" in refusal(archive)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["study", "study.zip"]


def test_a_zip_bomb_is_refused_by_what_it_would_become(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    study = write_series(tmp_path / "study")
    archive = zipped(study, tmp_path / "bomb.zip", **{"zeros.dcm": bytes(20 << 20)})
    assert archive.stat().st_size < 100_000
    tracemalloc.start()
    monkeypatch.setattr("fullscale.data.dicom.store.LARGEST_FILE", 10 << 20)
    assert "zeros.dcm in the zip has" in refusal(archive)
    assert tracemalloc.get_traced_memory()[1] < 5 << 20
    tracemalloc.stop()
    monkeypatch.setattr("fullscale.data.dicom.store.LARGEST_ZIP", 15 << 20)
    assert "split it" in refusal(archive)
    monkeypatch.setattr("fullscale.data.dicom.store.MOST_FILES", 3)
    assert "holds 6 files" in refusal(archive)


@pytest.mark.parametrize("length", [0, 30, 500, -40])
def test_a_damaged_zip_is_refused_in_one_line(tmp_path: Path, length: int):
    archive = zipped(write_series(tmp_path / "study"), tmp_path / "study.zip")
    archive.write_bytes(archive.read_bytes()[:length])
    with pytest.raises(DataError, match=r"^[^\n]*study.zip[^\n]*$"):
        read_image(archive)


def test_a_damaged_member_of_a_zip_is_refused_in_one_line(tmp_path: Path):
    archive = zipped(write_series(tmp_path / "study"), tmp_path / "study.zip")
    content = bytearray(archive.read_bytes())
    content[60:200] = bytes(140)
    archive.write_bytes(bytes(content))
    assert "the zip is damaged" in refusal(archive)


def compress(file: Path, syntax: str, photometric: str = "MONOCHROME2") -> None:
    """Encode the pixels of a file that was written plainly."""
    dataset = pydicom.dcmread(file)
    dataset.PhotometricInterpretation = photometric
    if syntax == JPEGLosslessSV1:
        frame = imagecodecs.jpeg_encode(dataset.pixel_array, lossless=True, bitspersample=16)
        dataset.PixelData = encapsulate([frame])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = syntax
    else:
        plugins = {RLELossless: "pydicom", JPEG2000Lossless: "pylibjpeg", JPEGLSLossless: "pyjpegls"}
        dataset.compress(syntax, encoding_plugin=plugins[syntax], generate_instance_uid=False)
    dataset.save_as(file, enforce_file_format=True)


@pytest.mark.parametrize(
    "syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1], ids=lambda u: u.name
)
def test_compressed_pixels_are_the_plain_ones(tmp_path: Path, syntax: str):
    pixels = np.random.default_rng(0).integers(-1024, 3000, (SLICES, 37, 45))
    for k in range(SLICES):
        for folder in (tmp_path / "plain", tmp_path / "packed"):
            folder.mkdir(exist_ok=True)
            write_slice(folder / f"{k}.dcm", pixels[k], slice_position(k))
    plain, folder = read_series(tmp_path / "plain"), tmp_path / "packed"
    for file in folder.iterdir():
        compress(file, syntax)
    packed = read_series(folder)
    np.testing.assert_array_equal(packed.array, plain.array)
    assert packed.array.dtype == plain.array.dtype
    image = sitk.ReadImage([str(file) for file in packed.header.files])
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T, packed.array)


def test_a_damaged_lossless_jpeg_is_refused_in_one_line(tmp_path: Path):
    folder = write_series(tmp_path / "packed")
    file = sorted(folder.iterdir())[0]
    compress(file, JPEGLosslessSV1)
    content = file.read_bytes()
    start = content.index(b"\xff\xd8\xff")
    file.write_bytes(content[: start + 20] + bytes(len(content) - start - 20))
    assert file.name in refusal(folder)


def test_monochrome1_says_how_to_show_values_not_what_they_are(tmp_path: Path):
    shown = read_series(write_series(tmp_path / "one", PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(shown.array, read_series(write_series(tmp_path / "two")).array)


def test_bits_above_the_stored_ones_do_not_count(tmp_path: Path):
    stored = (slice_hu(0) + 1024).astype(np.uint16) | 0xF000
    options = {"BitsStored": 12, "HighBit": 11, "PixelData": stored.tobytes()}
    write_slice(tmp_path / "a", slice_hu(0), slice_position(0), **options)
    np.testing.assert_array_equal(read_series(tmp_path).array[:, :, 0].T, slice_hu(0))
    signed = {"PixelRepresentation": 1, "PixelData": np.full((ROWS, COLUMNS), 0x0FFF, np.uint16).tobytes()}
    write_slice(tmp_path / "a", slice_hu(0), slice_position(0), **options | signed)
    assert set(read_series(tmp_path).array.ravel().tolist()) == {-1 - 1024}


def sequence(**tags: Any) -> list[Dataset]:
    item = Dataset()
    for name, value in tags.items():
        setattr(item, name, value)
    return [item]


def write_enhanced(folder: Path, order: list[int], **tags: Any) -> Path:
    """Write the slices of `write_series` as the frames of one enhanced CT, each with a slope of its own."""
    folder.mkdir()
    frames = []
    for k in order:
        plane = sequence(ImagePositionPatient=[f"{v:.6f}" for v in slice_position(k)])
        value = sequence(RescaleSlope=1 + k, RescaleIntercept=-1024 * (1 + k), RescaleType="HU")
        frames += sequence(PlanePositionSequence=plane, PixelValueTransformationSequence=value)
    shared = sequence(
        PlaneOrientationSequence=sequence(ImageOrientationPatient=list(AXIAL)),
        PixelMeasuresSequence=sequence(PixelSpacing=[ROW_MM, COLUMN_MM], SliceThickness=STEP_MM),
    )
    stored = np.stack([slice_hu(k) + 1024 for k in order]).astype(np.uint16)
    options = {
        "SOPClassUID": EnhancedCTImageStorage,
        **dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope")),
        "RescaleIntercept": None,
        "NumberOfFrames": len(order),
        "SharedFunctionalGroupsSequence": shared,
        "PerFrameFunctionalGroupsSequence": frames,
        "PixelData": stored.tobytes(),
    }
    write_slice(folder / "enhanced.dcm", slice_hu(0), (0, 0, 0), **options | tags)
    return folder


def test_an_enhanced_ct_is_the_same_volume_frame_by_frame(tmp_path: Path):
    plain = read_series(write_series(tmp_path / "plain"))
    enhanced = read_series(write_enhanced(tmp_path / "enhanced", [3, 0, 4, 2, 1]))
    slopes = np.arange(1, SLICES + 1)
    np.testing.assert_array_equal(enhanced.array, plain.array * slopes)
    np.testing.assert_allclose(enhanced.affine, plain.affine)
    alone = read_image(tmp_path / "enhanced" / "enhanced.dcm")
    np.testing.assert_array_equal(alone.array, enhanced.array)
    assert "frame 2 " in refusal_of_frames(tmp_path / "twice", [0, 1, 1])
    assert "from 700.00 to 706.00 mm" in refusal_of_frames(tmp_path / "gap", [0, 2, 3, 4])


def refusal_of_frames(folder: Path, order: list[int]) -> str:
    return refusal(write_enhanced(folder, order), GeometryError)


def test_a_frame_count_that_disagrees_with_the_frames_is_refused(tmp_path: Path):
    folder = write_enhanced(tmp_path / "enhanced", [0, 1, 2], NumberOfFrames=9)
    assert "states 9 frames but describes 3" in refusal(folder)


def test_gaps_are_filled_only_when_asked_and_then_told(tmp_path: Path):
    whole = read_series(write_series(tmp_path / "whole"))
    holed = write_series(tmp_path / "holed", slices=[0, 1, 3, 4])
    text = refusal(holed, GeometryError)
    assert "(slices 2 and 3)" in text
    assert "--allow-gaps" in text
    filled = read_series(holed, DicomReadOptions(allow_gaps=True))
    np.testing.assert_array_equal(filled.array, whole.array), "slices rise evenly, so lines between them meet the truth"
    np.testing.assert_allclose(filled.affine, whole.affine)
    assert filled.header.notes == ("gaps filled: 1 of 5 slices are interpolated, at 706.00 mm along the normal",)
    assert read_series_grid(holed, DicomReadOptions(allow_gaps=True)).shape == whole.shape


def test_uneven_slices_are_evened_out_at_their_own_places(tmp_path: Path):
    heights = [0, 3, 6, 10, 12]
    for k, height in enumerate(heights):
        position = np.array([0, 0, height])
        write_slice(tmp_path / f"{k}", np.full((ROWS, COLUMNS), 10 * height), position)
    even = read_series(tmp_path, DicomReadOptions(allow_gaps=True))
    z = (even.affine @ np.array([[0, 0, k, 1] for k in range(even.shape[2])]).T)[2]
    np.testing.assert_allclose(even.array[0, 0], 10 * z, atol=0.5)


def test_a_stack_with_more_holes_than_slices_is_refused_even_so(tmp_path: Path):
    for k in (0, 1, 40):
        write_slice(tmp_path / f"{k}", slice_hu(0), slice_position(k))
    assert "too many to fill" in refusal(tmp_path, GeometryError, DicomReadOptions(allow_gaps=True))


def write_tilted(folder: Path, degrees: float) -> None:
    """A tilted stack through a smooth object: the value of a voxel follows from where it lies."""
    folder.mkdir()
    rows, columns = np.mgrid[0:24, 0:16]
    for k in range(7):
        shift = np.tan(np.radians(degrees)) * STEP_MM * k
        values = 4 * (rows * ROW_MM + shift) + 2 * columns * COLUMN_MM + STEP_MM * k
        write_slice(folder / f"{k}", np.rint(10 * values), np.array([0, shift, STEP_MM * k]))


@pytest.mark.parametrize("degrees", [12.0, -7.0])
def test_a_tilted_stack_is_straightened_in_place_only_when_asked(tmp_path: Path, degrees: float):
    write_tilted(tmp_path / "tilted", degrees)
    assert "--untilt" in refusal(tmp_path / "tilted", GeometryError)
    straight = read_series(tmp_path / "tilted", DicomReadOptions(untilt=True))
    steps = straight.affine[:3, :3]
    np.testing.assert_allclose(steps.T @ steps, np.diag(np.diag(steps.T @ steps)), atol=1e-9)
    places = np.argwhere(straight.array > straight.array.min())
    x, y, z = (places @ steps.T + straight.affine[:3, 3]).T
    expected = 10 * (4 * -y + 2 * -x + z)
    found = straight.array[tuple(places.T)]
    inside = np.abs(found - expected) < 12
    assert inside.mean() > 0.93, "all but the rims, where a pixel meets the outside"
    fill = int(straight.array.min())
    stored = [pydicom.dcmread(file).pixel_array.astype(int) - 1024 - fill for file in (tmp_path / "tilted").iterdir()]
    assert (straight.array.astype(int) - fill).sum() == pytest.approx(np.sum(stored), rel=1e-3), "nothing was cut off"
    assert straight.header.notes[0].startswith("untilted")


def test_many_slices_take_little_more_memory_than_their_voxels(tmp_path: Path):
    plane = np.zeros((64, 64), np.int16)
    for k in range(300):
        write_slice(tmp_path / f"{k}.dcm", plane, slice_position(k))
    tracemalloc.start()
    volume = read_series(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert volume.shape[2] == 300
    assert peak < 1.2 * volume.array.nbytes + (6 << 20), "beside the voxels, some 10 KiB a slice of headers"


NUMBERS = st.one_of(st.just(""), st.sampled_from(["nan", "inf", "1e308", "-1", "0", "x", "1\\2"]), st.floats().map(str))
FUZZED = {
    "ImagePositionPatient": st.lists(NUMBERS, max_size=4),
    "ImageOrientationPatient": st.lists(NUMBERS, max_size=7),
    "PixelSpacing": st.lists(NUMBERS, max_size=3),
    "RescaleSlope": NUMBERS,
    "RescaleIntercept": NUMBERS,
    "SliceThickness": NUMBERS,
    "Rows": st.integers(0, 65535),
    "Columns": st.integers(0, 65535),
    "BitsAllocated": st.integers(0, 64),
    "BitsStored": st.integers(0, 64),
    "PixelRepresentation": st.integers(0, 3),
    "SamplesPerPixel": st.integers(0, 9),
    "NumberOfFrames": st.integers(-5, 1 << 40).map(str),
    "InstanceNumber": NUMBERS,
    "PhotometricInterpretation": st.sampled_from(["", "RGB", "MONOCHROME1", "PALETTE COLOR", "YBR_FULL", "?"]),
}


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_a_strange_header_is_read_right_or_refused_in_one_line(tmp_path_factory, data: st.DataObject):
    folder = write_series(tmp_path_factory.mktemp("fuzzed"), slices=range(3))
    victim = sorted(folder.iterdir())[data.draw(st.integers(0, 2))]
    with pydicom.config.disable_value_validation():
        dataset = pydicom.dcmread(victim)
        for name in data.draw(st.lists(st.sampled_from(sorted(FUZZED)), min_size=1, max_size=3, unique=True)):
            value = data.draw(FUZZED[name])
            vr = pydicom.datadict.dictionary_VR(name)
            raw = str.join("\\", value) if isinstance(value, list) else value
            if vr in ("DS", "IS"):
                element = pydicom.dataelem.RawDataElement(
                    pydicom.tag.Tag(name), vr, len(raw), raw.encode()[:64], 0, False, True
                )
                dataset[name] = element
            else:
                setattr(dataset, name, value)
        try:
            dataset.save_as(victim, enforce_file_format=True)
        except (ValueError, TypeError, OverflowError):
            return
    for options in (DicomReadOptions(), DicomReadOptions(allow_gaps=True, untilt=True)):
        caught: DataError | None = None
        try:
            assert np.isfinite(read_series(folder, options).affine).all()
        except DataError as error:
            caught = error
        assert caught is None or ("\n" not in str(caught) and len(str(caught)) < 700)


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One whole file of each kind, to be damaged."""
    folder = tmp_path_factory.mktemp("whole")
    series = write_series(folder / "series")
    enhanced = write_enhanced(folder / "enhanced", [0, 1, 2])
    archive = zipped(series, folder / "study.zip")
    scan = read_series(series)
    write_seg(
        folder / "seg.dcm", scan.with_array((scan.array > 200).astype(np.uint8)), {1: "liver"}, Algorithm("a", "1")
    )
    files = {"enhanced.dcm": enhanced / "enhanced.dcm", "study.zip": archive, "seg.dcm": folder / "seg.dcm"}
    return {name: file.read_bytes() for name, file in files.items()}


@pytest.mark.parametrize("name", ["enhanced.dcm", "study.zip", "seg.dcm"])
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_damaged_file_of_any_kind_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, whole_files: dict[str, bytes], name: str, data: st.DataObject
):
    folder = tmp_path_factory.mktemp("damaged")
    content = bytearray(whole_files[name])
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(132, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / name).write_bytes(bytes(content))
    read = {"enhanced.dcm": lambda: read_series(folder), "study.zip": lambda: read_image(folder / name)}
    caught: DataError | None = None
    try:
        assert read.get(name, lambda: read_seg(folder / name))().array.ndim == 3
    except DataError as error:
        caught = error
    assert caught is None or ("\n" not in str(caught) and str(folder) in str(caught))


@pytest.mark.parametrize("name", [b"\0bcd.dcm", b".//////."])
def test_a_file_without_a_name_in_a_zip_is_refused_in_one_line(tmp_path: Path, name: bytes):
    path = tmp_path / "study.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("abcd.dcm", b"")
    before, _, after = path.read_bytes().rpartition(b"abcd.dcm")
    path.write_bytes(before + name + after)
    with pytest.raises(DataError, match=r"^[^\n]*study.zip: the zip is damaged \(it holds a file without a name\)"):
        read_image(path)


def test_a_file_that_calls_itself_a_zip_is_refused_in_one_line(tmp_path: Path):
    (tmp_path / "study.zip").write_text("no zip")
    with pytest.raises(DataError, match=r"^[^\n]*study.zip: the zip is damaged \(File is not a zip file\)"):
        read_image(tmp_path / "study.zip")
