"""Data sets as folders: each layout, what is missing in one, and what is none."""

import json
from pathlib import Path

import pytest

from fullscale.data.case import WHOLE_SET, Case, Dataset
from fullscale.data.layouts.find import find_dataset
from tests.datasets import ids, refusal, touch, touch_dicom, write_decathlon, write_nnunet


def test_decathlon(tmp_path: Path):
    dataset = find_dataset(write_decathlon(tmp_path))
    assert (dataset.layout, dataset.name, dataset.modality) == ("Medical Segmentation Decathlon", "Liver", "CT")
    assert dataset.labels == {0: "background", 1: "liver", 2: "cancer"}
    first = Case.of_image(
        "liver_1", tmp_path / "imagesTr/liver_1.nii.gz", tmp_path / "labelsTr/liver_1.nii.gz", "liver_1"
    )
    assert dataset.cases[0] == first
    assert ids(dataset.cases) == ["liver_1", "liver_2"]
    assert ids(dataset.unlabelled) == ["liver_9"]
    assert dataset.problems == []


def test_decathlon_json_can_be_given_itself(tmp_path: Path):
    write_decathlon(tmp_path)
    (tmp_path / "dataset.json").rename(tmp_path / "list.json")
    assert ids(find_dataset(tmp_path / "list.json").cases) == ["liver_1", "liver_2"]


def test_decathlon_with_missing_files_keeps_the_rest(tmp_path: Path):
    write_decathlon(tmp_path)
    (tmp_path / "labelsTr/liver_1.nii.gz").unlink()
    (tmp_path / "imagesTs/liver_9.nii.gz").unlink()
    dataset = find_dataset(tmp_path)
    assert ids(dataset.cases) == ["liver_2"]
    (problem,) = dataset.problems
    assert (problem.case, problem.severity) == ("liver_1", "error")
    assert "labelsTr/liver_1.nii.gz: no such file" in problem.message


@pytest.mark.parametrize(
    "labels",
    [
        {"whole": [1, 2.5]},
        {"whole": [1, [2]]},
        {"liver": []},
        {"liver": "one"},
        {"liver": 1.5},
        {"liver": -1},
        {"liver": 10**30},
        ["liver"],
        {"a": 1, "b": 1},
        {"liver": True},
        {"1": ["liver"]},
    ],
)
def test_labels_that_are_no_names_of_numbers_are_refused(tmp_path: Path, labels: object):
    assert "label" in refusal(write_decathlon(tmp_path, labels=labels))


def test_nnunet_with_its_json(tmp_path: Path):
    write_nnunet(tmp_path)
    content = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}, "numTraining": 2}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    dataset = find_dataset(tmp_path)
    assert (dataset.layout, dataset.modality, dataset.name) == ("nnU-Net raw", "CT", tmp_path.name)
    assert dataset.labels == {0: "background", 1: "liver"}
    first = Case.of_image("a", tmp_path / "imagesTr/a_0000.nii.gz", tmp_path / "labelsTr/a.nii.gz", "a")
    assert dataset.cases[0] == first
    assert ids(dataset.cases) == ["a", "b"]
    assert ids(dataset.unlabelled) == ["t"]


def test_nnunet_of_the_first_version_lists_names_that_do_not_exist(tmp_path: Path):
    write_nnunet(tmp_path, "a")
    training = [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}]
    (tmp_path / "dataset.json").write_text(json.dumps({"modality": {"0": "MR"}, "training": training}))
    dataset = find_dataset(tmp_path)
    assert dataset.layout == "nnU-Net raw"
    assert ids(dataset.cases) == ["a"]
    assert dataset.problems == []


def test_nnunet_without_json(tmp_path: Path):
    dataset = find_dataset(write_nnunet(tmp_path))
    assert (dataset.layout, dataset.modality, dataset.labels) == ("nnU-Net raw", None, None)


def test_missing_partners_become_problems_and_the_rest_is_kept(tmp_path: Path):
    touch(write_nnunet(tmp_path), "imagesTr/c_0000.nii.gz", "labelsTr/d.nii.gz")
    dataset = find_dataset(tmp_path)
    assert ids(dataset.cases) == ["a", "b"]
    assert ids(dataset.unlabelled) == ["c", "t"]
    assert [(p.case, p.severity) for p in dataset.problems] == [("c", "warning"), ("d", "error")]
    assert "has no label" in dataset.problems[0].message
    assert "without its image" in dataset.problems[1].message


@pytest.mark.parametrize("folders", [("", ""), ("Training Batch 1/", "Training Batch 1/"), ("volume_pt1/", "seg/")])
def test_lits_flat_or_in_subfolders(tmp_path: Path, folders: tuple[str, str]):
    for number in (10, 2):
        touch(tmp_path, f"{folders[0]}volume-{number}.nii", f"{folders[1]}segmentation-{number}.nii.gz")
    touch(tmp_path, f"{folders[0]}test-volume-2.nii")
    dataset = find_dataset(tmp_path)
    assert (dataset.layout, dataset.modality, dataset.labels) == ("LiTS", "CT", None)
    pairs = {case.id: (case.first.name, case.label.name if case.label else "") for case in dataset.cases}
    assert pairs["volume-2"] == ("volume-2.nii", "segmentation-2.nii.gz")
    assert len(pairs) == 2
    assert ids(dataset.unlabelled) == ["test-volume-2"]


def test_one_number_twice_is_refused(tmp_path: Path):
    touch(tmp_path, "volume-0.nii", "volume-0.nii.gz", "segmentation-0.nii")
    assert "'volume-0' stands for two images" in refusal(tmp_path)


@pytest.mark.parametrize("above", ["", "CT/", "Train_Sets/CT/"])
def test_chaos_from_the_root_or_from_its_ct_folder(tmp_path: Path, above: str):
    touch_dicom(tmp_path, f"{above}3/DICOM_anon/i0.dcm", f"{above}12/DICOM_anon/i0.dcm")
    touch(tmp_path, f"{above}3/Ground/liver_0.png")
    dataset = find_dataset(tmp_path)
    assert (dataset.layout, dataset.modality) == ("CHAOS", "CT")
    assert dataset.labels == {0: "background", 1: "liver"}
    folder = tmp_path / f"{above}3"
    assert dataset.cases == [Case.of_image("3", folder / "DICOM_anon", folder / "Ground", "3")]
    assert ids(dataset.unlabelled) == ["12"]


def test_one_patient_of_chaos(tmp_path: Path):
    touch_dicom(tmp_path, "3/DICOM_anon/i0.dcm")
    touch(tmp_path, "3/Ground/liver_0.png")
    assert ids(find_dataset(tmp_path / "3").cases) == ["3"]


def test_mr_sequences_of_chaos_are_not_taken_for_ct(tmp_path: Path):
    touch_dicom(tmp_path, "CT/3/DICOM_anon/i0.dcm", "MR/3/T2SPIR/DICOM_anon/i0.dcm")
    touch(tmp_path, "CT/3/Ground/liver_0.png", "MR/3/T2SPIR/Ground/0.png")
    dataset = find_dataset(tmp_path)
    assert ids(dataset.cases) == ["3"]
    assert "T2SPIR" in dataset.problems[0].message
    assert "no data set found" in refusal(tmp_path / "MR")


@pytest.mark.parametrize(
    ("images", "labels"), [("images", "labels"), ("Image", "Mask"), ("imagesTr", "labelsTr"), ("volumes", "seg")]
)
def test_two_folders_of_equal_names(tmp_path: Path, images: str, labels: str):
    touch(tmp_path, f"{images}/p1.nii.gz", f"{images}/p2.mha", f"{labels}/p1.nrrd", f"{labels}/p2.nii")
    dataset = find_dataset(tmp_path)
    assert (dataset.layout, dataset.modality, dataset.labels) == ("two folders", None, None)
    assert dataset.cases[1] == Case.of_image("p2", tmp_path / images / "p2.mha", tmp_path / labels / "p2.nii", "p2")


def test_two_folders_with_dicom_series_as_images(tmp_path: Path):
    touch(touch_dicom(tmp_path, "images/p1/0.dcm"), "labels/p1.nii.gz")
    assert find_dataset(tmp_path).cases[0].first == tmp_path / "images/p1"


def test_two_folders_take_labels_from_a_json_beside_them(tmp_path: Path):
    touch(tmp_path, "images/p1.nii.gz", "labels/p1.nii.gz")
    (tmp_path / "dataset.json").write_text('{"labels": {"liver": 1}, "modality": {"0": "MR"}}')
    dataset = find_dataset(tmp_path)
    assert (dataset.labels, dataset.modality) == ({0: "background", 1: "liver"}, "MR")


def test_two_folders_with_no_equal_names_are_refused(tmp_path: Path):
    touch(tmp_path, "images/ct_1.nii.gz", "labels/seg_1.nii.gz")
    assert "no volumes of equal names" in refusal(tmp_path)


def test_two_folders_that_could_both_be_the_images_are_refused(tmp_path: Path):
    touch(tmp_path, "images/1.nii.gz", "scans/1.nii.gz", "labels/1.nii.gz")
    assert "(images, scans, labels)" in refusal(tmp_path)


def test_unknown_fields_of_the_decathlon_are_named_too(tmp_path: Path):
    write_decathlon(tmp_path)
    content = json.loads((tmp_path / "dataset.json").read_text())
    content["training"][0]["scanner"] = "B"
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    assert "the column 'scanner' (1 case)" in find_dataset(tmp_path).problems[0].message


def test_regions_and_the_ignore_value_of_nnunet_are_kept_apart_from_labels(tmp_path: Path):
    write_nnunet(tmp_path)
    labels = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    dataset = find_dataset(tmp_path)
    assert (dataset.labels, dataset.regions, dataset.ignore) == (None, {"whole": (1, 2), "core": (2,)}, 3)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels | {"whole": 1}}))
    dataset = find_dataset(tmp_path)
    assert (dataset.labels, dataset.regions, dataset.ignore) == ({0: "background", 1: "whole", 2: "core"}, {}, 3)


def test_values_that_share_a_name_are_no_regions(tmp_path: Path):
    dataset = find_dataset(write_decathlon(tmp_path, labels={"1": "liver", "2": "liver"}))
    assert (dataset.labels, dataset.regions) == ({0: "background", 1: "liver", 2: "liver"}, {})


def test_pictures_beside_volumes_are_previews_and_alone_are_images(tmp_path: Path):
    touch(tmp_path, "a/images/1.nii", "a/images/1.png", "a/labels/1.nii", "a/labels/1.png")
    [case] = find_dataset(tmp_path / "a").cases
    assert (case.first.name, case.label and case.label.name) == ("1.nii", "1.nii")
    touch(tmp_path, "b/images/1.png", "b/labels/1.gif", "b/labels/2.bmp")
    found = find_dataset(tmp_path / "b")
    assert [(case.first.name, case.label and case.label.name) for case in found.cases] == [("1.png", "1.gif")]
    assert "2.bmp: is a label without its image" in found.problems[0].message
    touch(tmp_path, "b/labels/1.png")
    assert "1.gif and 1.png stand for one case" in refusal(tmp_path / "b")


def test_the_ground_truth_of_one_chaos_patient_leads_to_its_scan(tmp_path: Path):
    touch_dicom(tmp_path, "3/DICOM_anon/i0.dcm")
    touch(tmp_path, "3/Ground/liver_0.png")
    (case,) = find_dataset(tmp_path / "3" / "Ground").cases
    assert case == Case.of_image("3", tmp_path / "3/DICOM_anon", tmp_path / "3/Ground")


def with_litter(root: Path, *names: str) -> Dataset:
    return find_dataset(touch(root, *names))


def test_litter_is_passed_over_and_reported_once(tmp_path: Path):
    write_nnunet(tmp_path)
    dataset = with_litter(tmp_path, "imagesTr/._a_0000.nii.gz", "labelsTr/._a.nii.gz", ".DS_Store")
    assert ids(dataset.cases) == ["a", "b"]
    (problem,) = dataset.problems
    assert (problem.case, problem.severity) == (WHOLE_SET, "warning")
    assert "passed over: 3" in problem.message


def test_litter_in_lits_and_unfinished_writes_are_no_cases(tmp_path: Path):
    touch(tmp_path, "volume-0.nii", "segmentation-0.nii")
    dataset = with_litter(tmp_path, "._volume-0.nii", "._volume-1.nii", ".writing-x-volume-2.nii")
    assert ids(dataset.cases) == ["volume-0"]
    assert "passed over: 2" in dataset.problems[0].message


def test_path_that_does_not_exist(tmp_path: Path):
    assert "no such file or folder" in refusal(tmp_path / "nowhere")


def test_empty_folder(tmp_path: Path):
    assert "no data set found, it is empty" in refusal(tmp_path)


def test_unknown_layout_is_told_how_to_write_a_list(tmp_path: Path):
    text = refusal(touch(tmp_path, "ct.nii.gz", "seg.nii.gz"))
    assert "none of the known layouts fits" in text
    assert "CSV file with the columns image,label,case,patient" in text


@pytest.mark.parametrize("content", ["{", '["a"]', "\x00"])
def test_broken_dataset_json_is_refused(tmp_path: Path, content: str):
    (tmp_path / "dataset.json").write_text(content)
    assert "dataset.json: " in refusal(tmp_path)
