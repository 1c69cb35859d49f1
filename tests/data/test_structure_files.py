"""Labels as one file a structure: their values, files that lack, overlaps, and the layout of TotalSegmentator."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fullscale.data.cache import prepare_cases
from fullscale.data.case import WHOLE_SET
from fullscale.data.checks import inspect_dataset
from fullscale.data.identity import DigestIndex, case_digest
from fullscale.data.label_choice import LabelChoice
from fullscale.data.labels import LabelScheme
from fullscale.data.layouts.find import find_dataset
from fullscale.data.plan import make_plan
from fullscale.data.read import read_label
from fullscale.data.volume_files import write_volume
from fullscale.errors import DataError, GeometryError, UsageError
from fullscale.geometry.volume import Volume
from fullscale.scoring.evaluate import evaluate
from tests.datasets import refusal, touch

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
SHAPE = (12, 10, 8)


def mask(low: int, high: int) -> np.ndarray:
    """A slab along the first axis."""
    inside = np.zeros(SHAPE, np.uint8)
    inside[low:high, 2:7, 2:6] = 1
    return inside


STRUCTURES = {"spleen": mask(8, 11), "liver": mask(1, 5), "aorta": mask(6, 8)}


def write_case(folder: Path, seed: int = 0, **masks: np.ndarray) -> Path:
    scan = np.random.default_rng(seed).normal(0, 100, SHAPE).astype(np.float32)
    write_volume(folder / "ct.nii.gz", Volume(scan, AFFINE))
    for name, inside in (STRUCTURES | masks).items():
        write_volume(folder / "segmentations" / f"{name}.nii.gz", Volume(inside, AFFINE))
    return folder


def test_structures_have_values_in_the_order_of_their_names(tmp_path: Path):
    write_case(tmp_path / "s1")
    write_case(tmp_path / "s2", 1)
    dataset = find_dataset(tmp_path)
    assert (dataset.layout, dataset.modality) == ("TotalSegmentator", "CT")
    assert dataset.labels == {0: "background", 1: "aorta", 2: "liver", 3: "spleen"}
    assert [(case.id, case.label, case.labelled) for case in dataset.cases] == [
        (name, tmp_path / name / "segmentations", None) for name in ("s1", "s2")
    ]
    inspection = inspect_dataset(dataset)
    voxels = {1: 2 * 20, 2: 4 * 20, 3: 3 * 20}
    assert inspection.facts["s1"].label_voxels == {0: 960 - 180, **voxels}
    found = read_label(dataset.cases[0].label, dataset.cases[0].first)
    np.testing.assert_array_equal(found.array, STRUCTURES["aorta"] + 2 * STRUCTURES["liver"] + 3 * STRUCTURES["spleen"])


def test_values_are_those_that_are_chosen_by_name(tmp_path: Path):
    write_case(tmp_path / "s1")
    dataset = find_dataset(tmp_path / "s1")  # one case by itself
    inspection = inspect_dataset(dataset, choice=LabelChoice({1: "liver", 7: "spleen"}))
    assert inspection.facts["s1"].label_voxels == {0: 960 - 140, 1: 80, 7: 60}
    assert make_plan(inspection, view="slices").labels.value == {0: "background", 1: "liver", 7: "spleen"}
    with pytest.raises(UsageError, match=r"data\.labels names 'livre', of which s1 has no file; did you mean 'liver'"):
        inspect_dataset(dataset, choice=LabelChoice({1: "livre"}))
    with pytest.raises(UsageError, match="names 'liver' twice"):
        inspect_dataset(dataset, choice=LabelChoice({1: "liver", 2: "liver"}))


def test_a_structure_without_a_file_in_a_case_is_not_labelled_in_it(tmp_path: Path):
    write_case(tmp_path / "s1")
    (write_case(tmp_path / "s2") / "segmentations/liver.nii.gz").unlink()
    dataset = find_dataset(tmp_path)
    assert {case.id: case.labelled for case in dataset.cases} == {"s1": None, "s2": ("aorta", "spleen")}
    (problem,) = dataset.problems
    assert (problem.case, problem.severity) == (WHOLE_SET, "warning")
    assert problem.message == "in 1 case structures are not labelled, as they have no file, such as 'liver' in s2"
    assert inspect_dataset(dataset).facts["s2"].label_voxels == {0: 960 - 100, 1: 40, 3: 60}


def test_masks_that_overlap_are_refused_with_their_names_and_voxels(tmp_path: Path):
    write_case(tmp_path / "s1", spleen=mask(4, 9))
    (problem,) = inspect_dataset(find_dataset(tmp_path)).errors
    assert problem.case == "s1"
    assert problem.message == (
        f"{tmp_path / 's1' / 'segmentations'}: 40 voxels are in 'aorta' and 'spleen', where structures are exclusive; "
        "correct the masks, or let structures overlap by data.regions={aorta: [1, 3], spleen: [2, 3]}"
    )
    alone = inspect_dataset(find_dataset(tmp_path), choice=LabelChoice({1: "spleen"}))
    assert alone.errors == []


def test_label_maps_that_are_called_like_scans_are_no_structures(tmp_path: Path):
    touch(tmp_path, "p1.nii.gz", "p2.nii.gz", "segmentations/p1.nii.gz", "segmentations/p2.nii.gz")
    assert "none of the known layouts fits" in refusal(tmp_path)


@pytest.mark.parametrize("other", [255, 7])
def test_any_one_number_is_inside(tmp_path: Path, other: int):
    write_case(tmp_path / "s1", liver=mask(1, 5) * np.uint8(other))
    assert inspect_dataset(find_dataset(tmp_path)).facts["s1"].label_voxels[2] == 80


def test_files_that_are_no_masks_of_one_structure_are_refused(tmp_path: Path):
    two = mask(1, 5)
    two[1, 2, 2] = 2
    folder = write_case(tmp_path / "s1", liver=two) / "segmentations"
    with pytest.raises(DataError, match=r"liver\.nii\.gz: holds the labels 1, 2, expected one structure alone"):
        read_label(folder, tmp_path / "unused")
    with pytest.raises(DataError, match="holds no file of kidney; it has aorta, liver, spleen"):
        read_label(folder, tmp_path / "unused", LabelScheme({1: "kidney"}))
    write_volume(folder / "liver.nii.gz", Volume(mask(1, 5), np.diag([2.0, 2.0, 4.0, 1.0])))
    with pytest.raises(GeometryError, match=r"segmentations/aorta\.nii\.gz and liver\.nii\.gz lie on different grids"):
        read_label(folder, tmp_path / "unused")
    touch(folder, "liver.nrrd")
    with pytest.raises(DataError, match=r"liver\.nii\.gz and liver\.nrrd are both called after one structure"):
        read_label(folder, tmp_path / "unused")


def test_a_list_may_name_folders_of_masks(tmp_path: Path):
    for name in ("s1", "s2"):
        write_case(tmp_path / name)
    rows = [f"{name}/ct.nii.gz,{name}/segmentations,{name}" for name in ("s1", "s2")]
    (tmp_path / "cases.csv").write_text("\n".join(["image,label,case", *rows]))
    assert find_dataset(tmp_path / "cases.csv").labels == find_dataset(tmp_path).labels
    touch(tmp_path, "one.nii.gz")
    (tmp_path / "cases.csv").write_text("\n".join(["image,label,case", *rows, "s1/ct.nii.gz,one.nii.gz,s3"]))
    assert "case s3 has a label map, others have one file a structure" in refusal(tmp_path / "cases.csv")


def test_a_dataset_json_names_the_values_and_says_what_is_not_used(tmp_path: Path):
    write_case(tmp_path / "s1")
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "spleen": 4, "liver": 5}}))
    dataset = find_dataset(tmp_path)
    assert dataset.labels == {0: "background", 4: "spleen", 5: "liver"}
    assert inspect_dataset(dataset).facts["s1"].label_voxels == {0: 960 - 140, 4: 60, 5: 80}
    assert [p.message for p in dataset.problems] == [
        "files of 1 structure that dataset.json does not name are not used, such as 'aorta'"
    ]


def test_a_case_without_masks_is_unlabelled(tmp_path: Path):
    write_case(tmp_path / "s1")
    for file in (write_case(tmp_path / "s2") / "segmentations").iterdir():
        file.unlink()
    dataset = find_dataset(tmp_path)
    assert [case.id for case in dataset.unlabelled] == ["s2"]
    assert dataset.problems[0].message.endswith("s2/segmentations: holds no masks, left out of training")


def test_names_of_structures_are_part_of_what_is_prepared(tmp_path: Path):
    write_case(tmp_path / "s1")
    dataset = find_dataset(tmp_path)
    plan = make_plan(inspect_dataset(dataset), view="slices")
    prepared = {
        name: prepare_cases(dataset.cases, plan.recipe, {0: "background", 1: name}, tmp_path / "cache")[0]
        for name in ("liver", "spleen", "aorta")
    }
    assert {name: int(case.voxels[:, 1].sum()) for name, case in prepared.items()} == {
        "liver": 80,
        "spleen": 60,
        "aorta": 40,
    }
    before = case_digest(dataset.cases[0], DigestIndex())
    folder = tmp_path / "s1/segmentations"
    (folder / "liver.nii.gz").rename(folder / "ladder.nii.gz")
    after = case_digest(replace(dataset.cases[0]), DigestIndex())
    assert (before.image, before.label != after.label) == (after.image, True)


def test_predictions_are_scored_against_masks(tmp_path: Path):
    case = write_case(tmp_path / "set/s1")
    predicted = 2 * STRUCTURES["liver"] + STRUCTURES["spleen"]
    write_volume(tmp_path / "out/s1.nii.gz", Volume(predicted, AFFINE))
    [scores] = evaluate(tmp_path / "out", case.parent, {1: "spleen", 2: "liver"}).cases
    assert {label: one["Dice"] for label, one in scores.metrics.items()} == {1: 1, 2: 1}
    [scores] = evaluate(tmp_path / "out", case.parent).cases  # by the order of names, 1 is the aorta and 3 the spleen
    assert {label: one["Dice"] for label, one in scores.metrics.items()} == {1: 0, 2: 1, 3: 0}


REGIONS = {"liver": (1, 2), "tumour": (2,)}


def test_a_case_that_lacks_a_structure_is_whole_where_that_one_is_not_asked_for(tmp_path: Path):
    write_case(tmp_path / "a", **STRUCTURES)
    write_case(tmp_path / "b", liver=STRUCTURES["liver"], spleen=STRUCTURES["spleen"])
    inspection = inspect_dataset(find_dataset(tmp_path), choice=LabelChoice({1: "spleen"}))
    assert (list(inspection.facts), inspection.errors) == (["a", "b"], [])


def test_masks_may_overlap_as_regions_do(tmp_path: Path):
    write_case(tmp_path / "s1", tumour=mask(2, 3))
    dataset = find_dataset(tmp_path)
    inspection = inspect_dataset(dataset, choice=LabelChoice(regions=REGIONS))
    assert inspection.errors == []
    assert inspection.facts["s1"].label_voxels == {0: 960 - 80, 1: 60, 2: 20}
    plan = make_plan(inspection, view="slices")
    [prepared] = prepare_cases(dataset.cases, plan.recipe, plan.scheme, tmp_path / "cache")
    assert prepared.voxels.sum(axis=0).tolist()[1:] == [60, 20]
    with pytest.raises(UsageError, match=r"data\.regions names 'lung', of which .* has no file"):
        inspect_dataset(dataset, choice=LabelChoice(regions={"lung": (1,)}))


def test_regions_of_masks_without_a_value_are_refused(tmp_path: Path):
    write_case(tmp_path / "s1", tumour=mask(4, 6))
    (problem,) = inspect_dataset(find_dataset(tmp_path), choice=LabelChoice(regions=REGIONS)).errors
    assert "20 voxels are in 'tumour' and nothing else, which no label value of the regions stands" in problem.message
    apart = {"liver": (1, 3), "tumour": (2, 3)}
    inspection = inspect_dataset(find_dataset(tmp_path), choice=LabelChoice(regions=apart))
    assert inspection.facts["s1"].label_voxels == {0: 960 - 100, 1: 60, 2: 20, 3: 20}


def test_a_dataset_json_may_declare_the_regions_of_masks(tmp_path: Path):
    write_case(tmp_path / "s1", tumour=mask(2, 3))
    content = {"labels": {"background": 0, "liver": [1, 2], "tumour": 2}, "regions_class_order": [1, 2]}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    inspection = inspect_dataset(find_dataset(tmp_path))
    assert inspection.facts["s1"].label_voxels == {0: 960 - 80, 1: 60, 2: 20}
