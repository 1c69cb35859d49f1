"""Phantoms: seeded, varied, anatomically in place, and labelled as synthetic."""

import json
from contextlib import closing
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fullscale.data.checks import inspect_dataset
from fullscale.data.layouts.find import find_dataset
from fullscale.data.phantom import Layout, make_case, write_dataset
from fullscale.errors import UsageError
from fullscale.geometry.orientation import axis_codes
from fullscale.geometry.volume import Volume
from fullscale.outputs import RECORD
from tests.conftest import Command

SMALL = {"size": 48, "slices": 24}


def centre_mm(labels: Volume, value: int) -> np.ndarray:
    index = np.argwhere(labels.array == value).mean(axis=0)
    return (labels.affine @ [*index, 1])[:3]


def test_the_same_seed_gives_the_same_case_and_another_another() -> None:
    first, again, other = make_case(3, **SMALL), make_case(3, **SMALL), make_case(4, **SMALL)
    np.testing.assert_array_equal(first[0].array, again[0].array)
    np.testing.assert_array_equal(first[1].affine, again[1].affine)
    assert not np.allclose(first[0].affine, other[0].affine)


@pytest.mark.parametrize("seed", range(8))
def test_structures_lie_where_they_belong_and_look_like_tissue(seed: int) -> None:
    scan, labels = make_case(seed, **SMALL, structures=(1, 2, 3, 4))
    liver, spleen, right_kidney, left_kidney = (centre_mm(labels, value) for value in (1, 2, 3, 4))
    assert liver[0] > 0 > spleen[0]
    assert right_kidney[0] > 0 > left_kidney[0]
    assert spleen[1] < liver[1]
    assert max(right_kidney[2], left_kidney[2]) < min(liver[2], spleen[2])
    means = [scan.array[labels.array == value].mean() for value in (1, 2, 3, 4)]
    assert all(30 < mean < 180 for mean in means)
    assert max(means) - min(means) < 40
    assert scan.array.min() < -900
    assert scan.array.max() > 300
    assert 500 < (labels.array == 1).sum() * labels.voxel_ml < 3000
    z = next(axis for axis, code in enumerate(axis_codes(labels.affine)) if code in "SI")
    empty = ~labels.array.any(axis=tuple(axis for axis in range(3) if axis != z))
    assert 2 <= empty.sum() < 20


def test_stored_orientations_vary() -> None:
    assert len({axis_codes(make_case(seed, **SMALL)[0].affine) for seed in range(12)}) > 4


def test_a_written_set_is_recognised_whole_and_says_that_it_is_synthetic(tmp_path: Path) -> None:
    written = list(write_dataset(tmp_path / "set", 2, test_cases=1, **SMALL))
    assert len(written) == 3
    dataset = find_dataset(tmp_path / "set")
    inspection = inspect_dataset(dataset)
    assert (len(inspection.facts), len(dataset.unlabelled)) == (2, 1)
    assert not inspection.problems
    assert inspection.labels == {0: "background", 1: "liver", 2: "spleen"}
    description = json.loads((tmp_path / "set" / "dataset.json").read_text())
    assert "synthetic" in description["name"]
    header = nib.load(tmp_path / "set" / "imagesTr" / "phantom_000.nii.gz").header
    assert b"SYNTHETIC" in header["descrip"].item()


@pytest.mark.parametrize("layout", ["msd", "lits"])
def test_phantoms_are_drawn_whole_or_not_at_all_and_again_by_the_same_command(
    layout: Layout, fullscale: Command, tmp_path: Path
) -> None:
    def drawn() -> dict[str, bytes]:
        files = (path for path in folder.rglob("*") if path.is_file() and path.name != RECORD)
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}

    folder = tmp_path / "set"
    with closing(write_dataset(folder, 2, layout=layout, **SMALL)) as interrupted:
        next(interrupted)
    assert drawn() == {}
    command = ("phantom", folder, "--layout", layout, "--cases", 2, "--size", 32, "--slices", 8)
    assert fullscale(*command).returncode == 0
    first = drawn()
    assert len(first) == (9 if layout == "msd" else 8)
    assert fullscale(*command).returncode == 0
    assert drawn() == first


def test_phantoms_replace_no_file_of_someone_else(fullscale: Command, tmp_path: Path) -> None:
    def refused(folder: Path, *more: object) -> str:
        result = fullscale("phantom", folder, "--cases", 1, "--size", 32, "--slices", 8, *more)
        assert result.returncode == 2
        return result.stderr

    assert fullscale("phantom", tmp_path / "set", "--cases", 1, "--size", 32, "--slices", 8).returncode == 0
    label = tmp_path / "set" / "labelsTr" / "phantom_000.nii.gz"
    label.write_bytes(label.read_bytes() + b"corrected")
    assert "labelsTr is a folder whose files fullscale phantom did not write" in refused(tmp_path / "set")
    assert "not empty: it holds dataset.json" in refused(tmp_path / "set", "--layout", "lits")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    assert "not empty: it holds notes.txt" in refused(tmp_path / "other")
    with pytest.raises(UsageError, match="is a file"):
        next(write_dataset(tmp_path / "other" / "notes.txt", 1, **SMALL))
    with pytest.raises(UsageError, match="not empty"):
        next(write_dataset(tmp_path / "set", 1, **SMALL))
    assert label.read_bytes().endswith(b"corrected")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["notes.txt"]


def test_a_phantom_too_small_to_draw_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 16"):
        make_case(0, size=4)


def test_a_longer_scan_has_more_slices_without_the_structure() -> None:
    _, short = make_case(1, **SMALL, structures=(1,), length_mm=200)
    _, long = make_case(1, **SMALL, structures=(1,), length_mm=400)
    empty = []
    for labels in (short, long):
        z = next(axis for axis, code in enumerate(axis_codes(labels.affine)) if code in "SI")
        assert labels.spacing_mm[z] * labels.shape[z] == pytest.approx(200 if labels is short else 400)
        empty.append((~labels.array.any(axis=tuple(axis for axis in range(3) if axis != z))).sum())
    assert empty[1] > empty[0] + 5


def test_tumours_lie_within_the_liver_and_are_darker() -> None:
    _, plain = make_case(2, **SMALL)
    scan, labels = make_case(2, **SMALL, structures=(1, 5))
    tumour, liver = labels.array == 5, labels.array == 1
    assert tumour.sum() > 3
    np.testing.assert_array_equal(tumour | liver, plain.array == 1)
    assert scan.array[tumour].mean() < scan.array[liver].mean() - 15


def test_the_layout_of_lits(tmp_path: Path) -> None:
    list(write_dataset(tmp_path / "lits", 2, test_cases=1, layout="lits", **SMALL))
    dataset = find_dataset(tmp_path / "lits")
    assert (dataset.layout, [case.id for case in dataset.cases]) == ("LiTS", ["volume-0", "volume-1"])
    assert [case.id for case in dataset.unlabelled] == ["test-volume-2"]
    assert not dataset.problems
    assert set(inspect_dataset(dataset).labels) == {0, 1, 2}
    with pytest.raises(UsageError, match="liver and tumour"):
        next(write_dataset(tmp_path / "other", 1, layout="lits", structures=(2,), **SMALL))
