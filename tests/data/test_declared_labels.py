"""The labels of a dataset.json: in either direction, numbers as names, regions, what is ignored, contradictions."""

import json
from pathlib import Path

import pytest

from fullscale.data.case import WHOLE_SET
from fullscale.data.layouts.find import find_dataset
from fullscale.errors import DataError
from fullscale.inference.batch import find_scans
from tests.datasets import ids, refusal, touch, write_nnunet


def declare(root: Path, labels: object, **further: object) -> Path:
    write_nnunet(root)
    (root / "dataset.json").write_text(json.dumps({"labels": labels, **further}))
    return root


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ({"background": 0, "11": 1, "12": 2}, {1: "11", 2: "12"}),
        ({"Background": 0, "1": 11}, {11: "1"}),
        ({"0": "background", "1": "11", "2": 12}, {1: "11", 2: "12"}),
        ({"liver": 1, "11": 2}, {1: "liver", 2: "11"}),  # of two keys one is no number, so that both are names
        ({"1": "liver", "2": "11"}, {1: "liver", 2: "11"}),
        ({"background": "0", "liver": "1"}, {1: "liver"}),
    ],
)
def test_the_direction_is_decided_once_for_all_labels(tmp_path: Path, labels: dict[str, object], names: dict[int, str]):
    assert find_dataset(declare(tmp_path, labels)).labels == {0: "background", **names}


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ({"11": 1, "12": 2}, "Both are numbers; add {'background': 0}"),
        ({"background": 1, "liver": 2}, "label 'background' is 1, expected 0"),
        ({"background": 0, "liver": 0}, "label 0 has two names, 'background' and 'liver'"),
        ({"background": 0, "liver": 1, "ignore": 1}, "label 1 is both 'liver' and 'ignore'"),
        ({"background": 0, "whole": [1, 2], "ignore": 2}, "label 2 is both 'whole' and 'ignore'"),
        ({"background": 0, "liver": 1, "ignore": 0}, "label 'ignore' is 0, expected one value above 0"),
        ({"background": 0, "liver": 1, "ignore": [2, 3]}, "label 'ignore' is 2, 3, expected one value"),
        ({"background": 0, "liver": 1, "Ignore": 2, "ignore": 3}, "label 'ignore' is 2 and 3"),
        ({"background": 0, "0": "background"}, "is no pair of a name and one whole number"),
        ({"background": 0, "liver": "one"}, "is no pair of a name and one whole number"),
        ("liver", "'labels' is 'liver', expected names and numbers"),
    ],
)
def test_labels_that_contradict_themselves_are_refused(tmp_path: Path, labels: object, says: str):
    assert says in refusal(declare(tmp_path, labels))


REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}


def test_regions_come_with_the_values_that_they_are_written_as(tmp_path: Path):
    dataset = find_dataset(declare(tmp_path, REGIONS | {"ignore": 4}, regions_class_order=[1, 2, 3]))
    assert dataset.labels is None
    assert list(dataset.regions.items()) == [("whole", (1, 2, 3)), ("core", (2, 3)), ("enhancing", (3,))]
    assert (dataset.region_order, dataset.ignore) == ((1, 2, 3), 4)
    assert find_dataset(declare(tmp_path, REGIONS)).region_order == ()


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ([1, 2], "'regions_class_order' is [1, 2], expected the value that each of the regions whole, core, enhancing"),
        ([1, 1, 3], "writes 'core' as 1, expected one of its values 2, 3"),
        ([2, 2, 3], "writes two regions as one value (2, 2, 3)"),
        ("123", "'regions_class_order' is '123'"),
        ([1, 2, 3.0], "'regions_class_order' is [1, 2, 3.0]"),
    ],
)
def test_an_order_that_fits_no_regions_is_refused(tmp_path: Path, order: object, says: str):
    assert says in refusal(declare(tmp_path, REGIONS, regions_class_order=order))


def test_what_is_declared_and_not_used_is_said(tmp_path: Path):
    declare(tmp_path, {"clear label": 0, "liver": 1}, overwrite_image_reader_writer="SimpleITKIO")
    problems = find_dataset(tmp_path).problems
    assert {(p.case, p.severity) for p in problems} == {(WHOLE_SET, "warning")}
    assert [p.message for p in problems] == [
        "dataset.json: label 0 is called 'clear label', and taken as background",
        "dataset.json: 'overwrite_image_reader_writer' is 'SimpleITKIO', and not used: files are read by their suffix",
    ]
    declare(tmp_path, {"background": 0, "liver": 1}, overwrite_image_reader_writer=None)
    assert find_dataset(tmp_path).problems == []


def test_files_of_another_ending_are_passed_over_and_said(tmp_path: Path):
    declare(tmp_path, {"background": 0, "liver": 1}, file_ending=".nii.gz")
    touch(tmp_path, "imagesTr/a_0000.mha", "labelsTr/a.mha")
    dataset = find_dataset(tmp_path)
    assert ids(dataset.cases) == ["a", "b"]
    assert [p.message for p in dataset.problems] == [
        "files that do not end in '.nii.gz' are passed over: 2, such as a_0000.mha"
    ]
    declare(tmp_path, {"background": 0, "liver": 1}, file_ending=".nrrd")
    assert "'file_ending' is '.nrrd', but the images are other files, such as a_0000.mha" in refusal(tmp_path)
    declare(tmp_path, {"background": 0, "liver": 1}, file_ending=3)
    assert "'file_ending' is 3, expected the end of a file name" in refusal(tmp_path)


def test_the_table_of_nnunet_says_where_the_files_of_each_case_are(tmp_path: Path):
    touch(tmp_path, "far/x.nii.gz", "far/y.nii.gz", "far/m.nii.gz")
    table = {"one": {"images": ["far/x.nii.gz", "far/y.nii.gz"], "label": "far/m.nii.gz"}}
    content = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "liver": 1}, "dataset": table}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    dataset = find_dataset(tmp_path)
    (case,) = dataset.cases
    assert (dataset.layout, case.id, case.label) == ("nnU-Net raw", "one", tmp_path / "far/m.nii.gz")
    assert case.channels == {"T1": tmp_path / "far/x.nii.gz", "T2": tmp_path / "far/y.nii.gz"}
    table["one"]["images"] = ["far/x.nii.gz"]
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    assert "'dataset' has for case 'one'" in refusal(tmp_path)


def test_predict_says_what_is_wrong_with_a_data_set(tmp_path: Path):
    with pytest.raises(DataError, match=r"dataset\.json: which of the labels"):
        find_scans([declare(tmp_path, {"11": 1})])
    declare(tmp_path, {"liver": 1}, channel_names={"0": "T1", "1": "T2"})
    with pytest.raises(DataError) as caught:
        find_scans([tmp_path])
    assert "no scan" not in str(caught.value)
    assert str(caught.value).startswith(
        f"{tmp_path}: no case of {tmp_path.name} (nnU-Net raw) can be used; a: has the "
    )
