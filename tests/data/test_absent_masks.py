"""Truth that is told by a list: one file a structure, and masks that are not there because nothing is drawn."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fullscale.data.cache import prepare_cases
from fullscale.data.case import Dataset
from fullscale.data.checks import inspect_dataset
from fullscale.data.discover import discover
from fullscale.data.identity import DigestIndex, case_digest
from fullscale.data.label_choice import LabelChoice
from fullscale.data.labels import LabelScheme
from fullscale.data.layouts.find import find_dataset
from fullscale.data.plan import make_plan
from fullscale.data.read import read_truth
from fullscale.data.volume_files import write_volume
from fullscale.errors import DataError
from fullscale.geometry.volume import Volume
from fullscale.reporting.source import Source, read_case
from fullscale.scoring.evaluate import evaluate
from fullscale.scoring.summary import read_summary, write_summary
from tests.datasets import refusal

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
SHAPE = (12, 10, 8)
SCHEME = LabelScheme({0: "background", 1: "liver", 2: "spleen"})


def inside(low: int, high: int) -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    array[low:high, 2:7, 2:6] = 1
    return array


def write(folder: Path, **arrays: np.ndarray) -> None:
    for name, array in arrays.items():
        write_volume(folder / f"{name}.nii.gz", Volume(array, AFFINE))


def listed(folder: Path, columns: str, *rows: str) -> Path:
    """Write scans a, b and c with masks of the liver and the spleen, and a list of them."""
    for seed, name in enumerate("abc"):
        scan = np.random.default_rng(seed).normal(0, 100, SHAPE).astype(np.float32)
        write(folder, **{name: scan, f"{name}_liver": inside(1, 5), f"{name}_spleen": inside(8, 11)})
    (folder / "list.csv").write_text("\n".join([columns, *rows]) + "\n")
    return folder / "list.csv"


def truths(dataset: Dataset, scheme: LabelScheme = SCHEME) -> dict[str, list[int]]:
    return {case.id: np.unique(read_truth(case, scheme).array).tolist() for case in dataset.cases}


COLUMNS = "image,label:spleen,Mask:liver"
A, B = "a.nii.gz,a_spleen.nii.gz,a_liver.nii.gz", "b.nii.gz,b_spleen.nii.gz,"


def test_structures_of_a_list_become_one_label_map_of_values_by_name(tmp_path: Path) -> None:
    dataset = find_dataset(listed(tmp_path, COLUMNS, A, B, "c.nii.gz,empty,c_liver.nii.gz"))
    assert dataset.labels == {0: "background", 1: "liver", 2: "spleen"}
    a, b, c = dataset.cases
    np.testing.assert_array_equal(read_truth(a, SCHEME).array, inside(1, 5) + 2 * inside(8, 11))
    assert truths(dataset) == {"a": [0, 1, 2], "b": [0, 2], "c": [0, 1]}
    assert [case.labelled for case in (a, b)] == [None, ("spleen",)], "an empty cell: nobody looked"
    assert set(c.labelled or ()) == {"liver", "spleen"}, "the word empty: there is none"
    assert [p.message for p in dataset.problems] == [
        "in 1 case structures are not labelled, as they have no file, such as 'liver' in b"
    ]
    assert set(b.files) == {tmp_path / "b.nii.gz", tmp_path / "b_spleen.nii.gz"}
    choice = LabelChoice({7: "spleen"})
    inspected = inspect_dataset(dataset, choice=choice)
    assert not inspected.errors
    assert [facts.label_voxels.get(7) for facts in inspected.facts.values()] == [60, 60, None]


def test_a_json_list_names_them_alike_and_images_may_be_masks_of_structures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    disc = np.hypot(*np.mgrid[-8:8, -8:8]) < 5
    for name, array in (("a", rng.integers(0, 255, (16, 16))), ("cup", disc * 255), ("rim", ~disc * 255)):
        Image.fromarray(array.astype(np.uint8)).save(tmp_path / f"{name}.png")
    entry = {"image": "a.png", "label:cup": "cup.png", "label:rim": "rim.png"}
    (tmp_path / "list.json").write_text(json.dumps([entry]))
    dataset = find_dataset(tmp_path / "list.json")
    assert dataset.labels == {0: "background", 1: "cup", 2: "rim"}
    [case] = dataset.cases
    scheme = LabelScheme(dataset.labels)
    np.testing.assert_array_equal(read_truth(case, scheme).array[..., 0].T, np.where(disc, 1, 2))
    assert read_truth(case, scheme).unit == "px"


@pytest.mark.parametrize(
    ("columns", "row", "message"),
    [
        ("image,label,label:liver", "a.nii.gz,a_liver.nii.gz,a_liver.nii.gz", "names a label map and structures"),
        (
            "image,label:liver,mask:liver",
            "a.nii.gz,a_liver.nii.gz,a_liver.nii.gz",
            "has the column 'label:liver' twice",
        ),
    ],
)
def test_a_truth_that_is_said_twice_is_refused(tmp_path: Path, columns: str, row: str, message: str) -> None:
    path = listed(tmp_path, columns, row)
    assert message in refusal(path)


def test_a_structure_whose_file_is_missing_or_overlaps_another_is_a_problem_of_its_case(tmp_path: Path) -> None:
    rows = ["a.nii.gz,gone.nii.gz,a_liver.nii.gz", "b.nii.gz,b_liver.nii.gz,b_liver.nii.gz"]
    found = inspect_dataset(find_dataset(listed(tmp_path, COLUMNS, *rows, "c.nii.gz,c_spleen.nii.gz,c_liver.nii.gz")))
    a, b = found.errors
    assert (a.case, a.message) == ("a", f"{tmp_path}/gone.nii.gz: no such file, the list names it")
    assert b.case == "b"
    assert "60 voxels are in 'liver' and 'spleen'" in b.message.replace("80", "60")
    assert list(found.facts) == ["c"]


def test_a_mask_called_empty_is_a_case_in_which_nothing_is_drawn(tmp_path: Path) -> None:
    path = listed(tmp_path, "image,label", "a.nii.gz,a_liver.nii.gz", "b.nii.gz,Empty", "c.nii.gz,")
    dataset = find_dataset(path)
    assert [case.id for case in dataset.cases] == ["a", "b"]
    assert [case.id for case in dataset.unlabelled] == ["c"]
    truth = read_truth(dataset.cases[1])
    assert (truth.shape, truth.array.any()) == (SHAPE, False)
    np.testing.assert_array_equal(truth.affine, AFFINE)
    found = inspect_dataset(dataset)
    assert not found.problems
    assert found.facts["b"].label_voxels == {0: 960}
    digests = [case_digest(case, DigestIndex()) for case in (dataset.cases[1], replace(dataset.cases[1], empty=False))]
    assert digests[0].image == digests[1].image
    assert digests[0].label != digests[1].label


def test_the_word_is_refused_where_a_file_has_that_name_too(tmp_path: Path) -> None:
    path = listed(tmp_path, "image,label", "a.nii.gz,empty")
    (tmp_path / "empty").mkdir()
    assert "says 'empty', a file here and the word for no mask; call it './empty'" in refusal(path)


def test_a_case_of_nothing_is_prepared_scored_and_shown(tmp_path: Path) -> None:
    path = listed(tmp_path, COLUMNS, A, "b.nii.gz,empty,empty")
    dataset = find_dataset(path)
    found = inspect_dataset(dataset)
    assert list(found.facts) == ["a", "b"]
    plan = make_plan(found, 30)
    prepared = prepare_cases(dataset.cases, plan.recipe, found.scheme, tmp_path / "cache")
    assert [case.voxels[:, 1:].any() for case in prepared] == [True, False]
    write(tmp_path / "masks", a=inside(1, 5), b=inside(0, 1))
    summary = evaluate(tmp_path / "masks", path)
    a, b = summary.cases
    assert (a.metrics[1]["Dice"], a.metrics[2]["Dice"]) == (1, 0)
    assert (b.metrics[1]["Dice"], b.metrics[1]["n_ref"], b.metrics[2]["Dice"]) == (0, 0, None)
    write_summary(summary, tmp_path / "scores.json")
    read = read_summary(tmp_path / "scores.json")
    for case, values in zip(read.cases, ([0, 1, 2], [0]), strict=True):
        shown = read_case(Source(tmp_path / "scores.json", read, scheme=read.scheme), case)
        assert np.unique(shown.truth.array).tolist() == values


def test_a_description_names_the_cases_in_which_nothing_is_drawn(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8)).astype(np.uint8)).save(
            tmp_path / f"images/{name}.png"
        )
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / "masks/a.png")
    assert [p.case for p in find_dataset(tmp_path).problems] == ["b", "c"]
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "x": 1}, "empty": ["b", "z"]}))
    dataset = find_dataset(tmp_path)
    assert [(case.id, case.empty) for case in dataset.cases] == [("a", False), ("b", True)]
    assert [case.id for case in dataset.unlabelled] == ["c"]
    told = {p.case: p.message for p in dataset.problems}
    assert told.keys() == {"c", "z"}, "what is said to be empty is not left out"
    assert told["z"] == "dataset.json says that it is 'empty', but there is no such case"
    assert len(discover(tmp_path).scans) == 3
    apart = tmp_path.parent / f"{tmp_path.name}.json"
    (tmp_path / "dataset.json").unlink()
    apart.write_text(json.dumps({"folder": tmp_path.name, "empty": ["b"]}))
    assert [case.id for case in find_dataset(apart).cases] == ["a", "b"]


@pytest.mark.parametrize(
    ("empty", "message"), [(["a"], "case a is said to be 'empty', and has the mask"), (True, "expected a list")]
)
def test_a_description_that_cannot_be_is_refused(tmp_path: Path, empty: object, message: str) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / folder / "a.png")
    (tmp_path / "dataset.json").write_text(json.dumps({"empty": empty}))
    with pytest.raises(DataError, match=message):
        find_dataset(tmp_path)
