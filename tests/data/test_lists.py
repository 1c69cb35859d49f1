"""Data sets as a list: CSV and JSON, and what is refused in one."""

import json
from pathlib import Path

import pytest

from fullscale.data.case import WHOLE_SET, Case
from fullscale.data.layouts.find import find_dataset
from tests.datasets import ids, refusal, touch, write_nnunet

CSV = "Image;Label;Case;Patient\nscans/1/ct.nii.gz;masks/1.nii.gz;one;p7\nscans/2/ct.nii.gz;masks/2.nii.gz;two;p7\n"


def write_list_files(root: Path) -> Path:
    return touch(root, *(f"scans/{n}/ct.nii.gz" for n in (1, 2, 3)), *(f"masks/{n}.nii.gz" for n in (1, 2)))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_list_with_paths_relative_to_it(tmp_path: Path, separator: str):
    write_list_files(tmp_path)
    text = (CSV + "scans/3/ct.nii.gz;;three;\n").replace(";", separator)
    (tmp_path / "cases.csv").write_text("\ufeff" + text, encoding="utf-8")
    dataset = find_dataset(tmp_path / "cases.csv")
    assert (dataset.layout, dataset.name) == ("CSV list", "cases")
    one, two = dataset.cases
    assert one == Case.of_image("one", tmp_path / "scans/1/ct.nii.gz", tmp_path / "masks/1.nii.gz", "p7")
    assert (two.id, two.group) == ("two", "p7")
    assert dataset.unlabelled == [Case.of_image("three", tmp_path / "scans/3/ct.nii.gz", None, "three")]


def test_columns_that_tell_groups_are_kept_and_other_columns_are_not(tmp_path: Path):
    write_list_files(tmp_path)
    text = "image,label,case,Subgroup: Scanner,age\nscans/1/ct.nii.gz,masks/1.nii.gz,one,A,60\n"
    (tmp_path / "cases.csv").write_text(text + "scans/2/ct.nii.gz,masks/2.nii.gz,two,,70\n")
    dataset = find_dataset(tmp_path / "cases.csv")
    assert [case.subgroups for case in dataset.cases] == [{"Scanner": "A"}, {}]
    assert "the column 'age' (2 cases) is not understood" in dataset.problems[0].message


def test_json_list(tmp_path: Path):
    write_list_files(tmp_path)
    rows = [{"image": "scans/1/ct.nii.gz", "label": str(tmp_path / "masks/1.nii.gz"), "case": "one", "patient": 7}]
    (tmp_path / "cases.json").write_text(json.dumps(rows))
    dataset = find_dataset(tmp_path / "cases.json")
    assert dataset.layout == "JSON list"
    assert dataset.cases == [Case.of_image("one", tmp_path / "scans/1/ct.nii.gz", tmp_path / "masks/1.nii.gz", "7")]


def test_list_that_names_a_missing_file_keeps_the_rest(tmp_path: Path):
    write_list_files(tmp_path)
    (tmp_path / "cases.csv").write_text(CSV.replace("masks/2", "masks/nowhere"))
    dataset = find_dataset(tmp_path / "cases.csv")
    assert ids(dataset.cases) == ["one"]
    assert [(p.case, p.severity) for p in dataset.problems] == [("two", "error")]


def test_list_without_case_names_for_files_of_one_name_is_refused(tmp_path: Path):
    write_list_files(tmp_path)
    rows = [{"image": f"scans/{n}/ct.nii.gz", "label": f"masks/{n}.nii.gz"} for n in (1, 2)]
    (tmp_path / "cases.json").write_text(json.dumps(rows))
    text = refusal(tmp_path / "cases.json")
    assert "'ct' stands for two images" in text
    assert "a column 'case'" in text


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", "", "has the columns [], expected 'image'"),
        ("a.csv", "scan,mask\na,b\n", "has the columns ['scan', 'mask'], expected 'image'"),
        ("a.csv", "image,label\n", "lists no cases"),
        ("a.csv", "image,label\n,b.nii\n", "line 2 names no image"),
        ("a.csv", "image,label\na.nii,b.nii,c.nii\n", "line 2 has more cells than there are columns, such as 'c.nii'"),
        ("a.csv", "image,label,Label\na,b,c\n", "has the column 'label' twice"),
        ("a.csv", "image,label,mask\na,b,c\n", "line 2 names two label maps, by 'label' and by 'mask'"),
        ("a.json", "[" * 10_000, "is not JSON"),
        ("a.json", '["\\ud800"]', "is not JSON"),
        ("a.json", "[]", "lists no cases"),
        ("a.json", "[", "is not JSON"),
        ("a.json", "{}", "has no list 'training'"),
        ("a.json", "[7]", "entry 1 is 7"),
        ("a.json", '[{"label": "b.nii"}]', "entry 1 names no image"),
        ("a.json", '[{"image": ["a.nii", "b.nii"]}]', "'image' of entry 1 is ['a.nii', 'b.nii'], expected one text"),
        ("a.json", "3", "expected a list of cases"),
        ("a.nii.gz", "", "is a file, expected the folder of a data set or a CSV or JSON list"),
    ],
)
def test_lists_that_are_none_are_refused(tmp_path: Path, name: str, content: str, says: str):
    (tmp_path / name).write_text(content)
    assert says in refusal(tmp_path / name)


def test_a_list_in_another_encoding_is_refused(tmp_path: Path):
    (tmp_path / "a.csv").write_bytes("image,label\nl\xf6we.nii,b\n".encode("latin-1"))
    assert "is not text in UTF-8" in refusal(tmp_path / "a.csv")


def test_a_mask_is_a_label_and_unknown_columns_are_named_once(tmp_path: Path):
    write_list_files(tmp_path)
    text = CSV.replace("Label", "Mask").replace("Patient", "Patient;Age;Site").replace("p7", "p7;63;")
    (tmp_path / "cases.csv").write_text(text)
    dataset = find_dataset(tmp_path / "cases.csv")
    assert [case.label for case in dataset.cases] == [tmp_path / "masks/1.nii.gz", tmp_path / "masks/2.nii.gz"]
    (problem,) = dataset.problems  # the column Site is empty everywhere
    assert (problem.case, problem.severity) == (WHOLE_SET, "warning")
    assert "the column 'age' (2 cases) is not understood and passed over" in problem.message


def test_a_list_says_what_is_ignored_and_which_structures_were_drawn(tmp_path: Path):
    touch(write_list_files(tmp_path), "view/1.nii.gz")
    rows = ["image,label,case,ignore,labelled", "scans/1/ct.nii.gz,masks/1.nii.gz,one,view/1.nii.gz,liver | spleen"]
    (tmp_path / "cases.csv").write_text("\n".join([*rows, "scans/2/ct.nii.gz,masks/2.nii.gz,two,,"]))
    one, two = find_dataset(tmp_path / "cases.csv").cases
    assert (one.ignore, one.labelled) == (tmp_path / "view/1.nii.gz", ("liver", "spleen"))
    assert (two.ignore, two.labelled) == (None, None)
    entry = {"image": "scans/1/ct.nii.gz", "label": "masks/1.nii.gz", "labelled": ["a|b"], "ignore": "nowhere.nii"}
    (tmp_path / "cases.json").write_text(json.dumps([entry]))
    (problem,) = find_dataset(tmp_path / "cases.json").problems
    assert (problem.case, problem.severity) == ("ct", "error")
    assert "nowhere.nii: no such file" in problem.message
    (tmp_path / "cases.json").write_text(json.dumps([entry | {"ignore": None}]))
    assert find_dataset(tmp_path / "cases.json").cases[0].labelled == ("a|b",)  # of a list, a name is taken as it is


@pytest.mark.parametrize("value", [7, ["liver", 3], "liver||spleen", [""], {"liver": 1}])
def test_structures_that_were_drawn_are_names(tmp_path: Path, value: object):
    write_list_files(tmp_path)
    (tmp_path / "cases.json").write_text(json.dumps([{"image": "scans/1/ct.nii.gz", "labelled": value}]))
    assert "'labelled' of entry 1 is " in refusal(tmp_path / "cases.json")


@pytest.mark.parametrize(
    ("column", "meant"),
    [("labeled", "labelled"), ("patient_id", "patient"), ("masks", "mask"), ("lable", "label"), ("ignored", "ignore")],
)
def test_a_column_that_is_nearly_known_is_refused(tmp_path: Path, column: str, meant: str):
    write_list_files(tmp_path)
    (tmp_path / "cases.csv").write_text(f"image,case,{column}\nscans/1/ct.nii.gz,one,p7\n")
    assert f"the column '{column}' is not known; did you mean '{meant}'?" in refusal(tmp_path / "cases.csv")
    (tmp_path / "cases.json").write_text(json.dumps([{"image": "scans/1/ct.nii.gz", column.title(): "x"}]))
    assert f"did you mean '{meant}'?" in refusal(tmp_path / "cases.json")


def test_dataset_json_has_a_table_of_the_structures_that_were_drawn(tmp_path: Path):
    root = write_nnunet(tmp_path)
    content = {"labels": {"background": 0, "liver": 1, "spleen": 2}, "labelled": {"a": ["liver"], "zz": "spleen"}}
    (root / "dataset.json").write_text(json.dumps(content))
    dataset = find_dataset(root)
    assert {case.id: case.labelled for case in dataset.cases} == {"a": ("liver",), "b": None}
    assert [p.case for p in dataset.problems] == ["zz"]
    (root / "dataset.json").write_text(json.dumps(content | {"labelled": ["a"]}))
    assert "'labelled' is ['a'], expected names of structures by case" in refusal(root)


@pytest.mark.parametrize("name", ["x" * 300, "a\x00b"])
def test_a_name_that_no_file_can_have_is_a_problem_of_its_case(tmp_path: Path, name: str):
    write_list_files(tmp_path)
    rows = [{"image": "scans/1/ct.nii.gz", "label": "masks/1.nii.gz", "case": "good"}, {"image": name, "case": "bad"}]
    (tmp_path / "cases.json").write_text(json.dumps(rows))
    dataset = find_dataset(tmp_path / "cases.json")
    assert (ids(dataset.cases), [problem.case for problem in dataset.problems]) == (["good"], ["bad"])
