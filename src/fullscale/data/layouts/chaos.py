"""CHAOS, the CT part: `ID/DICOM_anon` with the slices, `ID/Ground` with a PNG mask for each."""

from __future__ import annotations

from pathlib import Path

from fullscale.data.case import Case, Dataset, Problem
from fullscale.data.dicom.series import is_study

_SCAN, _TRUTH = "DICOM_anon", "Ground"


def recognise(root: Path) -> Dataset | None:
    """Take a folder with patients up to three folders deep, one patient's folder, or the `Ground` of one patient."""
    if root.name == _TRUTH and (root.parent / _SCAN).is_dir():
        root = root.parent
    patterns = (_SCAN, f"*/{_SCAN}", f"*/*/{_SCAN}", f"*/*/*/{_SCAN}")
    scans = sorted(folder for pattern in patterns for folder in root.glob(pattern) if is_study(folder))
    patients = {scan: scan.resolve().parent.name for scan in scans}
    if not any(name.isdecimal() for name in patients.values()):
        return None
    dataset = Dataset(root, "CHAOS", root.resolve().name, "CT", {0: "background", 1: "liver"})
    for scan, name in patients.items():
        truth = scan.parent / _TRUTH
        if name.isdecimal():
            dataset.add(Case.of_image(name, scan, truth if truth.is_dir() else None))
        else:
            dataset.problems.append(Problem(name, f"{scan}: is no CT (MR of CHAOS is passed over)", "warning"))
    return dataset
