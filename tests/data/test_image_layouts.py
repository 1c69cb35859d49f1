"""Layouts of 2D images, each as the smallest folder of its kind."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fullscale.data.case import Dataset
from fullscale.data.channels import join_channels, read_scan
from fullscale.data.checks import inspect_dataset
from fullscale.data.discover import discover
from fullscale.data.layouts.find import find_dataset, recognise
from fullscale.errors import DataError

RNG = np.random.default_rng(0)
COLOURS = ("red", "green", "blue")


def image(path: Path, colours: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (8, 9, 3) if colours else (8, 9)).astype(np.uint8)).save(path)


def mask(path: Path, rows: slice = slice(2, 4), value: int = 255) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.zeros((8, 9), np.uint8)
    array[rows] = value
    Image.fromarray(array).save(path)


def pairs(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    return {case.id: tuple(file.name for file in case.files) for case in (*dataset.cases, *dataset.unlabelled)}


def test_two_folders_of_equal_names_whatever_their_suffixes(tmp_path: Path):
    for number in (1, 2):
        image(tmp_path / f"image/{number}.jpg")
        mask(tmp_path / f"label/{number}.gif")
    found = find_dataset(tmp_path)
    assert found.channels == COLOURS
    assert pairs(found)["2"] == ("2.jpg", "2.jpg", "2.jpg", "2.gif")
    inspection = inspect_dataset(found)
    assert inspection.errors == []
    assert inspection.labels == {0: "background", 255: "label 255"}
    assert {facts.label_ml[255] for facts in inspection.facts.values()} == {18}  # pixels


def test_drive_has_its_field_of_view_and_a_test_set_without_labels(tmp_path: Path):
    for number in (21, 22):
        image(tmp_path / f"training/images/{number}_training.tif")
        mask(tmp_path / f"training/1st_manual/{number}_manual1.gif")
        mask(tmp_path / f"training/mask/{number}_training_mask.gif", slice(1, 6))
    image(tmp_path / "test/images/01_test.tif")
    mask(tmp_path / "test/mask/01_test_mask.gif")
    found = find_dataset(tmp_path)
    assert found.layout == "DRIVE"
    assert found.labels == {0: "background", 255: "vessel"}
    assert [case.ignore and case.ignore.name for case in found.cases] == [f"{n}_training_mask.gif" for n in (21, 22)]
    assert [(case.id, case.ignore and case.ignore.name) for case in found.unlabelled] == [
        ("01_test", "01_test_mask.gif")
    ]
    assert pairs(find_dataset(tmp_path / "training")) == {k: v for k, v in pairs(found).items() if "test" not in k}


def test_busi_has_several_masks_an_image_in_folders_and_names_with_spaces_and_brackets(tmp_path: Path):
    for kind, number in (("benign", 1), ("benign", 2), ("malignant", 1)):
        image(tmp_path / f"{kind}/{kind} ({number}).png", colours=False)
        mask(tmp_path / f"{kind}/{kind} ({number})_mask.png")
    mask(tmp_path / "benign/benign (2)_mask_1.png", slice(5, 7))
    image(tmp_path / "benign/benign (3).png", colours=False)
    found = find_dataset(tmp_path)
    assert [case.id for case in found.cases] == ["benign (1)", "benign (2)", "malignant (1)"]
    assert pairs(found)["benign (2)"] == ("benign (2).png", "benign (2)_mask.png", "benign (2)_mask_1.png")
    assert [case.id for case in found.unlabelled] == ["benign (3)"]
    assert inspect_dataset(found).facts["benign (2)"].label_voxels == {0: 36, 255: 36}


def test_names_that_two_folders_share_are_told_apart(tmp_path: Path):
    for kind in ("a", "b"):
        image(tmp_path / f"{kind}/1.png")
        mask(tmp_path / f"{kind}/1_mask.png")
    assert [case.id for case in find_dataset(tmp_path).cases] == ["a_1", "b_1"]


def test_nnunet_has_one_file_of_three_channels(tmp_path: Path):
    image(tmp_path / "imagesTr/a_0000.png")
    mask(tmp_path / "labelsTr/a.png", value=1)
    content = {"channel_names": {"0": "R", "1": "G", "2": "B"}, "labels": {"background": 0, "road": 1}}
    (tmp_path / "dataset.json").write_text(json.dumps(content | {"numTraining": 1, "file_ending": ".png"}))
    found = find_dataset(tmp_path)
    assert found.channels == ("R", "G", "B")
    assert pairs(found) == {"a": ("a_0000.png",) * 3 + ("a.png",)}
    assert inspect_dataset(found).errors == []
    mask(tmp_path / "labelsTr/a.png", value=255)
    assert "colours that are in no table, such as 255" in inspect_dataset(found).errors[0].message


def test_a_list_of_images(tmp_path: Path):
    image(tmp_path / "a.png")
    mask(tmp_path / "truth.bmp")
    (tmp_path / "list.csv").write_text("image,label\na.png,truth.bmp\n")
    found = find_dataset(tmp_path / "list.csv")
    assert pairs(found) == {"a": ("a.png",) * 3 + ("truth.bmp",)}


def test_a_grey_image_among_colour_images_is_a_problem_and_the_reverse(tmp_path: Path):
    for number in range(3):
        image(tmp_path / f"images/{number}.png", colours=number != 1)
        mask(tmp_path / f"masks/{number}.png")
    found = find_dataset(tmp_path)
    assert [case.id for case in found.cases] == ["0", "2"]
    assert "1.png: is grey, most images of the set are in colours" in found.problems[0].message
    image(tmp_path / "images/0.png", colours=False)
    assert "2.png: is in colours, most images of the set are grey" in find_dataset(tmp_path).problems[0].message


def test_a_damaged_image_is_a_problem_of_its_case(tmp_path: Path):
    for number in range(3):
        image(tmp_path / f"images/{number}.png")
        mask(tmp_path / f"masks/{number}.png")
    whole = (tmp_path / "images/1.png").read_bytes()
    (tmp_path / "images/1.png").write_bytes(whole[: len(whole) // 2])
    inspection = inspect_dataset(find_dataset(tmp_path))
    assert sorted(inspection.facts) == ["0", "2"]
    assert [problem.case for problem in inspection.errors] == ["1"]


def test_images_without_masks_are_scans_and_no_data_set(tmp_path: Path):
    for number in range(2):
        image(tmp_path / f"{number}.png")
    assert recognise(tmp_path) is None
    contents = discover(tmp_path)
    assert [scan.name for scan in contents.scans] == ["0", "1"]
    with pytest.raises(DataError, match="NAME with NAME_mask"):
        find_dataset(tmp_path)


def test_a_model_of_colours_takes_colour_images_and_refuses_grey_ones(tmp_path: Path):
    image(tmp_path / "a.png")
    image(tmp_path / "b.png", colours=False)
    colour, grey = join_channels(discover(tmp_path).scans, COLOURS)
    assert list(read_scan(colour, COLOURS)) == list(COLOURS)
    with pytest.raises(DataError, match="is a grey image, expected colours"):
        read_scan(grey, COLOURS)
    [colour, grey] = join_channels(discover(tmp_path).scans, ("image",))
    with pytest.raises(DataError, match="is a colour image, expected one of grey values"):
        read_scan(colour, ("image",))
    assert read_scan(grey, ("image",))["image"].shape == (9, 8, 1)


def test_real_sets(shared_data: Path):
    drive, membrane = (find_dataset(shared_data / name) for name in ("drive", "membrane"))
    assert (len(drive.cases), drive.channels, drive.problems) == (20, COLOURS, [])
    assert all(case.ignore for case in drive.cases)
    assert (len(membrane.cases), membrane.channels, membrane.problems) == (20, ("image",), [])


def described(where: Path, **content: object) -> Path:
    path = where / "elsewhere.json"
    path.write_text(json.dumps(content))
    return path


def test_a_description_apart_from_its_folder_says_what_colours_mean_black_too(tmp_path: Path):
    for number in range(3):
        image(tmp_path / f"data/image/{number}.png", colours=False)
        mask(tmp_path / f"data/label/{number}.png")
    path = described(tmp_path, folder="data", colours={"255": "cell", "0": "membrane"}, name="cells")
    found = find_dataset(path)
    assert (found.name, found.labels, found.root) == ("cells", {0: "background", 1: "cell", 2: "membrane"}, path)
    facts = inspect_dataset(found).facts["1"]
    assert facts.label_voxels == {1: 18, 2: 54}
    assert [scan.name for scan in discover(path).scans] == ["0", "1", "2"]


def test_a_description_apart_says_all_that_one_in_the_folder_would(tmp_path: Path):
    for name in ("a", "b"):
        image(tmp_path / f"data/images/{name}.png", colours=False)
        mask(tmp_path / f"data/labels/{name}.png")
    content = {
        "labels": {"background": 0, "whole": [1, 2], "core": [2], "ignore": 9},
        "regions_class_order": [1, 2],
        "labelled": {"b": ["whole"]},
        "overwrite_image_reader_writer": "SimpleITKIO",
    }
    apart = find_dataset(described(tmp_path, folder="data", **content))
    (tmp_path / "data/dataset.json").write_text(json.dumps(content))
    inside = find_dataset(tmp_path / "data")
    for found in (apart, inside):
        assert (found.regions, found.region_order, found.ignore) == ({"whole": (1, 2), "core": (2,)}, (1, 2), 9)
        assert [case.labelled for case in found.cases] == [None, ("whole",)]
        assert any("'overwrite_image_reader_writer'" in problem.message for problem in found.problems)


def test_a_table_in_the_folder_says_the_same_and_labels_may_number_the_structures(tmp_path: Path):
    image(tmp_path / "images/a.png")
    mask(tmp_path / "masks/a.png")
    content = {"labels": {"background": 0, "vessel": 7}, "colours": {"#ffffff": "vessel"}}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    assert inspect_dataset(find_dataset(tmp_path)).facts["a"].label_voxels == {0: 54, 7: 18}
    (tmp_path / "dataset.json").write_text(json.dumps(content | {"colours": {"#ffffff": "nerve"}}))
    with pytest.raises(DataError, match="'colours' names 'nerve', the labels are background, vessel"):
        find_dataset(tmp_path)


def test_a_description_of_no_folder_or_of_no_data_set_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="'folder' is 'gone', which is no folder"):
        find_dataset(described(tmp_path, folder="gone"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no data set found, it is empty"):
        find_dataset(described(tmp_path, folder="empty"))
