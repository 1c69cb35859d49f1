"""Two volumes under one SeriesInstanceUID, byte copies, and slices whose orientations differ a little."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from fullscale.data.dicom.series import list_series, read_series
from fullscale.data.dicom.stack import DicomReadOptions
from fullscale.errors import GeometryError
from tests.dicom_slices import (
    AXIAL,
    SLICES,
    refusal,
    sequence,
    slice_hu,
    slice_position,
    write_enhanced,
    write_series,
    write_slice,
    zipped,
)

CT_PHASES = [{"AcquisitionNumber": n, "AcquisitionTime": f"10{n}000"} for n in (1, 2)]
MR_ECHOES = [{"EchoTime": "2.3", "EchoNumbers": 1}, {"EchoTime": "11.5", "EchoNumbers": 2}]
PERFUSION = [{"TemporalPositionIdentifier": n} for n in (2, 10, 1)]
DIFFUSION = [{"DiffusionBValue": b} for b in (1000.0, 0.0, 500.0)]
DIXON = [{"ImageType": ["DERIVED", "PRIMARY", "M", kind]} for kind in ("WATER", "FAT", "IN_PHASE")]
TWO_TAGS = [{"EchoTime": str(e), "TemporalPositionIdentifier": t} for e in (2, 4) for t in (1, 2)]


def write_phases(folder: Path, phases: Sequence[dict[str, Any]], slices: Sequence[Sequence[int]] | None = None) -> Path:
    """Write each phase at the same positions; all values of phase n lie 1000 n above those of the first."""
    folder.mkdir(parents=True)
    for n, tags in enumerate(phases):
        for k in range(SLICES) if slices is None else slices[n]:
            name = f"{(7 * (SLICES * n + k)) % 97:03d}.dcm"
            write_slice(folder / name, slice_hu(k) + 1000 * n, slice_position(k), **{"InstanceNumber": k} | tags)
    return folder


@pytest.mark.parametrize(
    ("phases", "names", "order"),
    [
        (CT_PHASES, ["AcquisitionNumber 1", "AcquisitionNumber 2"], [0, 1]),
        (MR_ECHOES, ["EchoNumbers 1", "EchoNumbers 2"], [0, 1]),
        (PERFUSION, [f"TemporalPositionIdentifier {n}" for n in (1, 2, 10)], [2, 0, 1]),
        (DIFFUSION, [f"DiffusionBValue {b}" for b in ("0.0", "500.0", "1000.0")], [1, 2, 0]),
        (DIXON, [rf"ImageType DERIVED\PRIMARY\M\{kind}" for kind in ("FAT", "IN_PHASE", "WATER")], [1, 2, 0]),
        (
            TWO_TAGS,
            [f"EchoTime {e}, TemporalPositionIdentifier {t}" for e in (2, 4) for t in (1, 2)],
            [0, 1, 2, 3],
        ),
    ],
)
def test_phases_are_told_apart_listed_and_chosen_by_number_or_name(tmp_path: Path, phases, names, order):
    folder = write_phases(tmp_path / "scan", phases)
    listed = list_series(folder).series
    assert [(series.phase, series.slices, series.problem) for series in listed] == [(n, SLICES, None) for n in names]
    text = refusal(folder)
    assert f"CT '' holds {len(names)} phases; choose one by its number (--phase): 1 ({names[0]}, 5 slices); 2 " in text
    for number, (name, written) in enumerate(zip(names, order, strict=True), 1):
        for wanted in (str(number), name, name.replace(" ", "=", 1) if "," not in name else name):
            volume = read_series(folder, DicomReadOptions(phase=wanted))
            expected = np.stack([slice_hu(k).T + 1000 * written for k in range(SLICES)], axis=2)
            np.testing.assert_array_equal(volume.array, expected)
    assert "holds no phase '9'; choose" in refusal(folder, options=DicomReadOptions(phase="9"))


def test_phases_that_cover_different_parts_of_the_body(tmp_path: Path):
    folder = write_phases(tmp_path / "scan", CT_PHASES, [range(3), range(5)])
    assert [series.slices for series in list_series(folder).series] == [3, 5]
    assert read_series(folder, DicomReadOptions(phase="1")).shape[2] == 3


def test_a_phase_of_a_chosen_series(tmp_path: Path):
    write_phases(tmp_path / "study" / "phases", [tags | {"SeriesDescription": "dynamic"} for tags in CT_PHASES])
    write_series(tmp_path / "study" / "other", SeriesInstanceUID="5.5", SeriesDescription="late")
    text = refusal(tmp_path / "study")
    assert "holds 2 series, of which 2 may be scans; choose one by its UID (--series)" in text
    assert "CT 'dynamic', AcquisitionNumber 2 (5 slices), UID '1.2.3'" in text
    assert "CT 'dynamic' holds 2 phases" in refusal(tmp_path / "study", options=DicomReadOptions(series="dynamic"))
    chosen = read_series(tmp_path / "study", DicomReadOptions(series="dynamic", phase="2"))
    assert chosen.array.min() == 1000


def test_times_that_creep_from_slice_to_slice_tell_phases_by_their_order_at_each_position(tmp_path: Path):
    folder = tmp_path / "scan"
    folder.mkdir()
    for k in range(SLICES):
        for n in range(3):
            time = f"{40.0 * n + 0.3 * k:.2f}"
            write_slice(folder / f"{3 * k + n}", slice_hu(k) + 1000 * n, slice_position(k), TriggerTime=time)
    assert [s.phase for s in list_series(folder).series] == [f"TriggerTime {n} of 3" for n in (1, 2, 3)]
    assert read_series(folder, DicomReadOptions(phase="3")).array.min() == 2000


def test_a_slice_taken_twice_is_refused_not_split_off(tmp_path: Path):
    folder = write_phases(tmp_path / "scan", CT_PHASES, [range(5), [2]])
    text = refusal(folder, GeometryError)
    assert "two slices lie at the same position, 706.00 mm" in text
    assert "remove" not in text


def test_a_number_of_its_own_for_every_slice_makes_no_phases(tmp_path: Path):
    write_series(tmp_path / "scan")
    for k in range(SLICES):
        write_slice(tmp_path / "scan" / f"x{k}", slice_hu(k), slice_position(k), AcquisitionNumber=k + 1)
    assert "do not tell which belongs to which volume" in refusal(tmp_path / "scan", GeometryError)


def test_byte_copies_are_passed_over_with_a_note(tmp_path: Path):
    folder = write_series(tmp_path / "scan")
    expected = read_series(folder)
    for file in sorted(folder.iterdir()):
        shutil.copy(file, file.with_name(f"{file.name} (1)"))
    (folder / "again").mkdir()
    shutil.copy(folder / expected.header.files[0].name, folder / "again")
    for study in (folder, zipped(folder, tmp_path / "scan.zip")):
        volume = read_series(study)
        np.testing.assert_array_equal(volume.array, expected.array)
        assert [file.name for file in volume.header.files] == [file.name for file in expected.header.files]
        [note] = volume.notes
        assert note.startswith("6 files passed over (byte copies: ")
        [series] = list_series(study).series
        assert (series.slices, series.phase) == (SLICES, "")
    copies = {file.path.name: file.reason for file in list_series(folder).passed_over}
    assert copies[f"{expected.header.files[1].name} (1)"] == f"a byte copy of {expected.header.files[1].name}"


def test_the_phases_of_an_enhanced_image_are_told_apart_by_their_frames(tmp_path: Path):
    folder = tmp_path / "enhanced"
    order = [0, 1, 2, 3, 4, 4, 3, 2, 1, 0]
    times = [sequence(TemporalPositionIndex=1 + n // 5) for n in range(10)]
    write_enhanced(folder, order, contents=times)
    assert [s.phase for s in list_series(folder).series] == ["TemporalPositionIndex 1", "TemporalPositionIndex 2"]
    first, second = (read_series(folder, DicomReadOptions(phase=n)) for n in "12")
    np.testing.assert_array_equal(first.array, second.array)
    assert first.shape[2] == SLICES


def test_an_enhanced_image_spread_over_several_files_is_one_volume(tmp_path: Path):
    whole = read_series(write_enhanced(tmp_path / "whole", list(range(5))))
    write_enhanced(tmp_path / "parts", [4, 0])
    (tmp_path / "parts" / "enhanced.dcm").rename(tmp_path / "parts" / "second.dcm")
    write_enhanced(tmp_path / "part", [2, 1, 3])
    shutil.move(tmp_path / "part" / "enhanced.dcm", tmp_path / "parts")
    parts = read_series(tmp_path / "parts")
    np.testing.assert_array_equal(parts.array, whole.array)
    np.testing.assert_array_equal(parts.affine, whole.affine)


def turned(degrees: float) -> list[float]:
    angle = np.radians(degrees)
    return [np.cos(angle), np.sin(angle), 0, -np.sin(angle), np.cos(angle), 0]


def write_jittered(folder: Path, degrees: float) -> Path:
    folder.mkdir()
    for k in range(SLICES):
        orientation = AXIAL if k != 3 else tuple(np.round(turned(degrees), 8))
        write_slice(folder / f"{k}", np.zeros((32, 32)), slice_position(k), orientation)
    return folder


def test_an_orientation_that_differs_by_a_fraction_of_a_pixel_is_tolerated_with_a_note(tmp_path: Path):
    """31 columns of 1.25 mm and 31 rows of 0.5 mm: the far corner is 41.7 mm away, a tenth of a pixel is 0.05 mm."""
    near = read_series(write_jittered(tmp_path / "near", 0.05))
    [note] = near.notes
    assert note == "orientations differ from slice to slice by up to 0.0364 mm at the corner of 3; one is taken for all"
    np.testing.assert_allclose(near.affine[:3, 0] / np.linalg.norm(near.affine[:3, 0]), [-1, 0, 0], atol=1e-12)
    text = refusal(write_jittered(tmp_path / "far", 0.08), GeometryError)
    assert "1 of 5 slices (3) have another orientation than the others" in text
    assert "up to 0.0583 mm at the corner of 3, allowed 0.05 mm" in text


def write_interleaved(folder: Path, of_one: dict[str, Any], of_other: dict[str, Any], offset_mm: float = 1.5) -> Path:
    """Write two volumes, the second between the slices of the first and 1000 above it."""
    folder.mkdir()
    for n, tags in enumerate((of_one, of_other)):
        for k in range(SLICES):
            place = slice_position(k) + np.array([0, 0, n * offset_mm])
            write_slice(folder / f"{n}{k}", slice_hu(k) + 1000 * n, place, **tags)
    return folder


@pytest.mark.parametrize("offset_mm", [1.5, 1.0])
@pytest.mark.parametrize("phases", [CT_PHASES, MR_ECHOES, DIFFUSION[:2], DIXON[:2]])
def test_phases_between_each_others_slices_are_told_apart(tmp_path: Path, phases, offset_mm):
    folder = write_interleaved(tmp_path / "scan", *phases, offset_mm=offset_mm)
    listed = list_series(folder).series
    assert [(s.slices, s.problem, s.spacing_mm[2]) for s in listed] == [(SLICES, None, 3.0)] * 2
    assert "holds 2 phases; choose one by its number (--phase)" in refusal(folder)
    volumes = [read_series(folder, DicomReadOptions(phase=n)).array for n in "12"]
    assert sorted(int(v.min()) for v in volumes) == [0, 1000]


def test_passes_of_one_volume_stay_together(tmp_path: Path):
    """Odd slices first, then even ones: the stated distance is that of all of them."""
    passes = ({"AcquisitionNumber": n, "SpacingBetweenSlices": 1.5, "SliceThickness": 1.5} for n in (1, 2))
    folder = write_interleaved(tmp_path / "scan", *passes)
    assert read_series(folder).shape[2] == 2 * SLICES
    times = ({"AcquisitionTime": f"10{n}000", "EchoTime": "2.3"} for n in (1, 2))
    assert read_series(write_interleaved(tmp_path / "times", *times)).shape[2] == 2 * SLICES


@pytest.mark.parametrize(
    ("creator", "group", "element", "vr", "values"),
    [
        ("SIEMENS MR HEADER", 0x0019, 0x0C, "IS", ["0", "800"]),
        ("GEMS_PARM_01", 0x0043, 0x39, "IS", [["1000000000", "8", "0", "0"], ["1000000800", "8", "0", "0"]]),
        ("Philips Imaging DD 001", 0x2001, 0x03, "FL", [0.0, 800.0]),
        ("SIEMENS MR HEADER", 0x0019, 0x0C, "UN", [b"0 ", b"800 "]),
    ],
)
def test_b_values_in_private_attributes_tell_phases_apart(tmp_path: Path, creator, group, element, vr, values):
    folder = write_phases(tmp_path / "scan", [{}, {}])
    for file in folder.iterdir():
        dataset = pydicom.dcmread(file)
        block = dataset.private_block(group, creator, create=True)
        high = dataset.pixel_array.min() - 1024 >= 1000
        block.add_new(element, vr, values[int(high)])
        dataset.save_as(file)
    assert [s.phase for s in list_series(folder).series] == ["DiffusionBValue 0", "DiffusionBValue 800"]
    assert read_series(folder, DicomReadOptions(phase="2")).array.min() == 1000


def test_copies_that_differ_in_their_meta_header_alone_are_passed_over(tmp_path: Path):
    folder = write_series(tmp_path / "scan")
    expected = read_series(folder)
    for file in sorted(folder.iterdir()):
        dataset = pydicom.dcmread(file)
        dataset.file_meta.ImplementationVersionName = "ANOTHER PACS"
        dataset.file_meta.SourceApplicationEntityTitle = "ARCHIVE"
        dataset.save_as(file.with_name(f"{file.name}_copy"), enforce_file_format=True)
    volume = read_series(folder)
    np.testing.assert_array_equal(volume.array, expected.array)
    [note] = volume.notes
    assert note.startswith("5 files passed over (byte copies: ")
    other = sorted(folder.glob("*_copy"))[0]
    dataset = pydicom.dcmread(other)
    dataset.PixelData = bytes(len(dataset.PixelData))
    dataset.save_as(other)
    assert "two slices lie at the same position" in refusal(folder, GeometryError)
