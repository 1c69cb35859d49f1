"""DICOM slices drawn for tests, by pydicom alone."""

import random
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from scipy.spatial.transform import Rotation

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
