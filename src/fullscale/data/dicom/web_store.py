"""DICOM files stored on a DICOMweb server (STOW-RS), each by itself."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydicom import Dataset

from fullscale.data.dicom.binary_seg import as_binary, is_label_map
from fullscale.data.dicom.headers import quietly, read_dataset
from fullscale.data.dicom.web import client_of, problem_of
from fullscale.errors import DataError, FullscaleError


def store(server: str, files: Iterable[Path]) -> list[str]:
    """Store files, a label map SEG as a binary one where the server refuses it.

    Args:
        server: URL of its DICOMweb service.
        files: DICOM files.

    Returns:
        For each file a word on what it was sent as: "as it is" or "binary".

    Raises:
        DataError: a file is no DICOM, or the server refuses it.
        UsageError: it wants credentials.
        FullscaleError: it is away.
    """
    return [_store_one(server, path) for path in files]


def _store_one(server: str, path: Path) -> str:
    dataset = quietly(path, read_dataset, path, False)
    if not dataset.get("SOPClassUID"):
        raise DataError(f"{path}: is no DICOM file that can be sent: it has no SOP class")
    try:
        _post(server, dataset, path.name)
    except DataError:
        if not is_label_map(dataset):
            raise
        _post(server, quietly(path, as_binary, dataset), path.name)
        return "binary"
    return "as it is"


def _post(server: str, dataset: Dataset, name: str) -> None:
    try:
        answer = client_of(server).store_instances([dataset])
    except Exception as error:
        problem = problem_of(server, error, name)
        raise FullscaleError(f"{server} {problem}; send again later") from error
    failed = answer.get("FailedSOPSequence") or []
    if failed:
        raise DataError(f"{name}: {server} does not store it (failure {int(failed[0].get('FailureReason') or 0):04X})")
