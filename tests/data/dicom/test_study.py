"""Whole studies: several series in nested folders, and what is passed over."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import SecondaryCaptureImageStorage

from fullscale.data.dicom.series import list_series, read_series
from fullscale.data.dicom.stack import DicomReadOptions
from fullscale.errors import GeometryError
from tests.dicom_slices import (
    COLUMNS,
    ORIENTATIONS,
    ROWS,
    SLICES,
    refusal,
    slice_hu,
    slice_position,
    write_series,
    write_slice,
    write_study,
)


def test_the_only_series_that_may_be_a_scan_is_read_and_what_was_passed_over_is_told(tmp_path: Path):
    study = write_study(tmp_path / "study")
    volume = read_series(study)
    assert volume.header.series_uid == "1.2.3"
    assert volume.shape == (COLUMNS, ROWS, SLICES)
    chosen, left = volume.notes
    assert chosen == "read CT 'thin' (5 slices), passed over CT '' (2 slices), OT '' (1 slices)"
    assert left == "1 file passed over (not DICOM: notes.txt)"
    listing = list_series(study)
    assert [series.slices for series in listing.series] == [5, 2, 1]
    assert [series.kind.split(",")[0] for series in listing.series] == ["", "a localiser", "a secondary capture"]
    assert [(file.path.name, file.reason) for file in listing.passed_over] == [("notes.txt", "not DICOM")]


def test_of_two_scans_one_must_be_chosen_even_where_one_is_broken(tmp_path: Path):
    write_series(tmp_path / "thin", SeriesDescription="thin")
    write_series(tmp_path / "thick", SeriesDescription="thick", SeriesInstanceUID="5.5", slices=[0, 1, 3, 4])
    text = refusal(tmp_path)
    assert "holds 2 series, of which 2 may be scans; choose one by its UID (--series)" in text
    assert "CT 'thick' (4 slices), UID '5.5'" in text
    for name in ("thin", "1.2.3"):
        chosen = read_series(tmp_path, DicomReadOptions(series=name))
        assert (chosen.shape[2], chosen.notes) == (SLICES, ())
    assert "seem to be missing: 1" in refusal(tmp_path, GeometryError, DicomReadOptions(series="thick"))
    assert "holds no series '5'" in refusal(tmp_path, options=DicomReadOptions(series="5"))


def test_a_screen_capture_alone_is_named(tmp_path: Path):
    options = {"SOPClassUID": SecondaryCaptureImageStorage, "ImagePositionPatient": None, "BurnedInAnnotation": "YES"}
    write_slice(tmp_path / "shot.dcm", slice_hu(0), (0, 0, 0), **options)
    assert "shot.dcm is a secondary capture" in refusal(tmp_path)
    assert "secondary capture" in str(list_series(tmp_path).series[0].problem)


def test_localisers_among_the_slices_are_named(tmp_path: Path):
    write_series(tmp_path)
    options: dict[str, Any] = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "InstanceNumber": 1}
    write_slice(tmp_path / "scout", slice_hu(7), slice_position(0), ORIENTATIONS["coronal"], **options)
    assert "1 of 6 slices are localisers (scout (instance 1)); remove them" in refusal(tmp_path, GeometryError)


@pytest.mark.slow
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
