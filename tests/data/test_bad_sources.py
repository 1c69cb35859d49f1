"""Data that cannot be trained on as they are: one clear line with the case or the file, and nothing half done."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fullscale.config.load import load_config
from fullscale.data.volume_files import write_volume
from fullscale.errors import FullscaleError
from fullscale.geometry.volume import Volume
from fullscale.training.prepare import find_inputs
from fullscale.training.request import TrainRequest

SHAPE = (14, 12, 8)
LABELS = {"background": 0, "liver": 1, "spleen": 2}


def scan(root: Path, shape: tuple[int, ...] = SHAPE) -> None:
    noise = np.random.default_rng(len(root.name)).normal(size=shape).astype(np.float32)
    write_volume(root, Volume(noise, np.eye(4)))


def drawn() -> np.ndarray:
    mask = np.zeros(SHAPE, np.float32)
    mask[2:5, 3:8, 2:6], mask[6:9, 3:8, 2:6] = 1, 2
    return mask


def mask(path: Path, array: np.ndarray) -> None:
    write_volume(path, Volume(array, np.eye(4)))


def nnunet(root: Path, **description: Any) -> None:
    for case in ("a", "b", "c"):
        for channel in (0, 1):
            scan(root / f"imagesTr/{case}_000{channel}.nii.gz")
        mask(root / f"labelsTr/{case}.nii.gz", drawn())
    content = {"channel_names": {"0": "T1", "1": "T2"}, "labels": LABELS} | description
    (root / "dataset.json").write_text(json.dumps(content))


def a_channel_is_missing(root: Path) -> Path:
    nnunet(root)
    (root / "imagesTr/b_0001.nii.gz").unlink()
    return root


def a_channel_has_another_shape(root: Path) -> Path:
    nnunet(root)
    scan(root / "imagesTr/b_0001.nii.gz", (14, 12, 9))
    return root


def a_channel_lies_elsewhere(root: Path) -> Path:
    nnunet(root)
    noise = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    write_volume(root / "imagesTr/b_0001.nii.gz", Volume(noise, np.diag([1, 1, 2.0, 1])))
    return root


def an_unknown_structure_is_labelled(root: Path) -> Path:
    nnunet(root, labelled={"b": ["livre"]})
    return root


def an_unknown_case_is_labelled(root: Path) -> Path:
    nnunet(root, labelled={"bb": ["liver"]})
    return root


def what_is_ignored_is_a_class(root: Path) -> Path:
    nnunet(root, labels=LABELS | {"ignore": 2})
    return root


def names_and_values_are_numbers(root: Path) -> Path:
    nnunet(root, labels={"11": 1, "12": 2})
    return root


def a_mask_has_values_between(root: Path) -> Path:
    nnunet(root)
    soft = drawn()
    soft[2, 3:8, 2:6] = 0.5
    mask(root / "labelsTr/b.nii.gz", soft)
    return root


def a_mask_holds_an_undeclared_value(root: Path) -> Path:
    nnunet(root)
    mask(root / "labelsTr/b.nii.gz", drawn() * 3)
    return root


def two_masks_overlap(root: Path) -> Path:
    for case in ("a", "b"):
        scan(root / case / "ct.nii.gz")
        for value, name in {1: "liver", 2: "spleen"}.items():
            both = (drawn() == value) | (drawn() * (case == "b") == 1)
            mask(root / case / f"segmentations/{name}.nii.gz", both.astype(np.uint8))
    return root


def listed(root: Path, columns: str, rows: str) -> Path:
    nnunet(root)
    (root / "cases.csv").write_text(f"image,label,case,{columns}\n{rows}")
    return root / "cases.csv"


ROW = "imagesTr/{0}_0000.nii.gz,labelsTr/{0}.nii.gz,{0},"


def a_column_is_misspelt(root: Path) -> Path:
    return listed(root, "labeled", ROW.format("a") + "liver\n")


def what_is_ignored_is_missing(root: Path) -> Path:
    return listed(root, "ignore", ROW.format("a") + "\n" + ROW.format("b") + "view/b.nii.gz\n")


BAD: dict[Callable[[Path], Path], tuple[str, ...]] = {
    a_channel_is_missing: ("in b: has the channels T1, the data set T1, T2",),
    a_channel_has_another_shape: ("in b: channels T1 and T2 lie on different grids", "(14, 12, 8) and (14, 12, 9)"),
    a_channel_lies_elsewhere: ("in b: channels T1 and T2 lie on different grids", "data.resample_channels=true"),
    an_unknown_structure_is_labelled: ("in b: ", "'livre', which is no structure"),
    an_unknown_case_is_labelled: ("in bb: ", "there is no such case"),
    what_is_ignored_is_a_class: ("dataset.json: label 2 is both 'spleen' and 'ignore'",),
    names_and_values_are_numbers: ("dataset.json: which of the labels", "Both are numbers"),
    a_mask_has_values_between: ("in b: ", "labels are whole numbers, found 0.5 in 20 voxels"),
    a_mask_holds_an_undeclared_value: ("in b: labels [3, 6] are not among the declared [0, 1, 2]",),
    two_masks_overlap: ("in b: ", "60 voxels are in 'liver' and 'spleen', where structures are exclusive"),
    a_column_is_misspelt: ("cases.csv: the column 'labeled' is not known; did you mean 'labelled'?",),
    what_is_ignored_is_missing: ("in b: ", "view/b.nii.gz: no such file, the list names it"),
}


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_it_is_refused_in_one_line_before_anything_is_written(tmp_path: Path, make: Callable[[Path], Path]):
    data = make(tmp_path / "data")
    config = load_config(None, ["trainer.device=cpu"])
    with pytest.raises(FullscaleError) as caught:
        find_inputs(TrainRequest(data, tmp_path / "run", config=config, cache=tmp_path / "cache"))
    text = str(caught.value)
    assert "\n" not in text
    for words in BAD[make]:
        assert words in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
