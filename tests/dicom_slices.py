"""DICOM slices drawn for tests, by pydicom alone."""

import random
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from scipy.spatial.transform import Rotation

from fullscale.data.dicom.series import read_series
from fullscale.data.dicom.stack import DicomReadOptions
from fullscale.errors import DataError

ROWS, COLUMNS, SLICES = 3, 4, 5
ROW_MM, COLUMN_MM, STEP_MM = 0.5, 1.25, 3.0
AXIAL = (1, 0, 0, 0, 1, 0)
ORIENTATIONS = {
    "supine": AXIAL,
    "prone": (-1, 0, 0, 0, -1, 0),
    "feet first": (-1, 0, 0, 0, 1, 0),
    "sagittal": (0, 1, 0, 0, 0, -1),
    "coronal": (1, 0, 0, 0, 0, -1),
    "oblique": tuple(Rotation.from_euler("xyz", (15, 25, -40), degrees=True).as_matrix()[:2].ravel().round(6)),
}


def write_slice(path: Path, pixels: np.ndarray, position: Any, orientation: Any = AXIAL, **tags: Any) -> None:
    """Write one CT slice `[row, column]` whose stored value is HU + 1024; a tag given as None is left out."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.4.{int.from_bytes(str(path).encode()) % 10**30}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    stored = (pixels + 1024).astype(np.uint16)
    values = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "StudyInstanceUID": "1.2.1",
        "SeriesInstanceUID": "1.2.3",
        "FrameOfReferenceUID": "1.2.2",
        "Modality": "CT",
        "Rows": stored.shape[0],
        "Columns": stored.shape[1],
        "ImagePositionPatient": [f"{v:.6f}" for v in position],
        "ImageOrientationPatient": [str(v) for v in orientation],
        "PixelSpacing": [ROW_MM, COLUMN_MM],
        "SliceThickness": STEP_MM,
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "PixelData": stored.tobytes(),
    } | tags
    for name, value in values.items():
        if value is not None:
            setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)


def slice_hu(k: int) -> np.ndarray:
    """Pixels of slice k, every one with a value of its own."""
    return np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) + 100 * k


def slice_position(k: int, orientation: Any = AXIAL) -> np.ndarray:
    """LPS mm of the first pixel of slice k."""
    normal = np.cross(orientation[:3], orientation[3:])
    return np.array([-50.0, -60.0, 700.0]) + k * STEP_MM * normal


def write_series(folder: Path, orientation: Any = AXIAL, slices: Any = range(SLICES), **tags: Any) -> Path:
    """Write slices whose names and instance numbers are in no order."""
    folder.mkdir(parents=True, exist_ok=True)
    names = random.Random(5).sample(range(1000), SLICES + 5)
    for k in slices:
        numbered = {"InstanceNumber": names[k]} | tags
        write_slice(folder / f"{names[k]}", slice_hu(k), slice_position(k, orientation), orientation, **numbered)
    return folder


def refusal(study: Path, error: type[DataError] = DataError, options: DicomReadOptions | None = None) -> str:
    """What is said when a study is refused: one line that names it."""
    with pytest.raises(error, match=r"^[^\n]*$") as caught:
        read_series(study, options)
    assert str(study) in str(caught.value)
    return str(caught.value)


def zipped(study: Path, target: Path, **further: bytes) -> Path:
    """Zip a folder, and further files."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(study.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(study))
        for name, content in further.items():
            archive.writestr(name, content)
    return target


def sequence(**tags: Any) -> list[Dataset]:
    """Make a sequence of one item."""
    item = Dataset()
    for name, value in tags.items():
        setattr(item, name, value)
    return [item]


def write_enhanced(
    folder: Path, order: list[int], contents: Sequence[list[Dataset]] | None = None, **tags: Any
) -> Path:
    """Write the slices of `write_series` as the frames of one enhanced CT, each with a slope of its own.

    `contents` gives the FrameContentSequence of each frame.
    """
    folder.mkdir()
    frames = []
    for n, k in enumerate(order):
        plane = sequence(ImagePositionPatient=[f"{v:.6f}" for v in slice_position(k)])
        value = sequence(RescaleSlope=1 + k, RescaleIntercept=-1024 * (1 + k), RescaleType="HU")
        content = {} if contents is None else {"FrameContentSequence": contents[n]}
        frames += sequence(PlanePositionSequence=plane, PixelValueTransformationSequence=value, **content)
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
