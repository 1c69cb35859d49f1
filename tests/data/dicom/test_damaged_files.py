"""Strange headers and damaged files: read right, or refused in one line."""

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fullscale.data.dicom.seg import read_seg, write_seg
from fullscale.data.dicom.series import read_series
from fullscale.data.dicom.stack import DicomReadOptions
from fullscale.data.labels import Algorithm
from fullscale.data.read import read_image
from fullscale.errors import DataError
from tests.dicom_slices import write_enhanced, write_series, zipped

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
@pytest.mark.slow
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
