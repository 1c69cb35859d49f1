"""Folders of data sets in the layouts that are known, of empty files."""

import json
from pathlib import Path

import pytest

from fullscale.data.case import Case
from fullscale.data.layouts.find import find_dataset
from fullscale.errors import DataError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def touch_dicom(root: Path, *names: str) -> Path:
    touch(root, *names)
    for name in names:
        (root / name).write_bytes(b"\0" * 128 + b"DICM")
    return root


def ids(cases: list[Case]) -> list[str]:
    return [case.id for case in cases]


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        find_dataset(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def write_decathlon(root: Path, **changes: object) -> Path:
    touch(root, "imagesTr/liver_2.nii.gz", "imagesTr/liver_1.nii.gz", "imagesTs/liver_9.nii.gz")
    touch(root, "labelsTr/liver_1.nii.gz", "labelsTr/liver_2.nii.gz")
    pairs = [{"image": f"./imagesTr/liver_{n}.nii.gz", "label": f"./labelsTr/liver_{n}.nii.gz"} for n in (2, 1)]
    content = {
        "name": "Liver",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "liver", "2": "cancer"},
        "training": pairs,
        "test": ["./imagesTs/liver_9.nii.gz"],
    }
    (root / "dataset.json").write_text(json.dumps(content | changes))
    return root


def write_nnunet(root: Path, *cases: str) -> Path:
    for case in cases or ("b", "a"):
        touch(root, f"imagesTr/{case}_0000.nii.gz", f"labelsTr/{case}.nii.gz")
    return touch(root, "imagesTs/t_0000.nii.gz")
