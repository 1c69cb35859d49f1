"""Ignored voxels and structures that were not drawn: facts, prepared labels, and what is refused in one line."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fullscale.data.cache import PreparedCase, prepare_cases
from fullscale.data.case import WHOLE_SET, Case, Dataset
from fullscale.data.checks import Inspection, inspect_dataset, require_trainable
from fullscale.data.label_choice import LabelChoice
from fullscale.data.labels import IGNORED, LabelScheme
from fullscale.data.plan import make_plan
from fullscale.data.recipe import Intensity, Recipe
from fullscale.data.volume_files import write_volume
from fullscale.errors import DataError, GeometryError
from fullscale.geometry.volume import Volume

SHAPE = (12, 10, 4)
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
RECIPE = Recipe(intensity=Intensity(per="scan"), spacing_mm=None)
TWO = {1: "liver", 2: "spleen"}


def make_mask() -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:6, 2:6, 1:3] = 1
    mask[8:10, 6:8, 2] = 2
    return mask


def write(path: Path, array: Any, affine: Any = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(path, Volume(np.asarray(array), affine))
    return path


def a_case(root: Path, name: str = "a", mask: Any = None, **known: Any) -> Case:
    scan = np.random.default_rng(3).integers(0, 90, SHAPE).astype(np.int16)
    label = write(root / f"{name}_label.nii.gz", make_mask() if mask is None else mask)
    return replace(Case.of_image(name, write(root / f"{name}.nii.gz", scan), label), **known)


def inspect(root: Path, *cases: Case, labels: dict[int, str] | None = None, **choice: Any) -> Inspection:
    named = None if labels is None else {0: "background"} | labels
    dataset = Dataset(root, "a list", "set", None, named, cases=list(cases))
    return inspect_dataset(dataset, choice=LabelChoice(**choice))


def errors(inspection: Inspection) -> list[tuple[str, str]]:
    assert all("\n" not in problem.message for problem in inspection.problems)
    return [(problem.case, problem.message) for problem in inspection.errors]


def view_of(root: Path, inside: Any, affine: Any = AFFINE) -> Path:
    return write(root / "view.nii.gz", inside, affine)


def test_a_field_of_view_leaves_out_what_lies_outside(tmp_path: Path):
    inside = np.zeros(SHAPE, np.uint8)
    inside[:7] = 200
    case = a_case(tmp_path, ignore=view_of(tmp_path, inside))
    facts = inspect(tmp_path, case).facts["a"]
    assert facts.ignored_voxels == 5 * 10 * 4
    assert facts.label_voxels == {0: 7 * 10 * 4 - 32, 1: 32}
    assert facts.label_ml == {1: pytest.approx(32 * 0.002)}
    [prepared] = prepare_cases([case], RECIPE, TWO, tmp_path / "cache")
    assert prepared.voxels.sum(axis=0).tolist() == [7 * 10 * 4 - 32, 32, 0]
    label = np.asarray(prepared.label).transpose(2, 1, 0)
    assert ((label == IGNORED) == (inside == 0)).all()
    assert prepared.vanished == ()


def test_the_plan_says_where_the_unknown_is_said(tmp_path: Path):
    inside = np.ones(SHAPE, np.uint8)
    inside[0] = 0
    beside = make_plan(inspect(tmp_path, a_case(tmp_path, ignore=view_of(tmp_path, inside)), labels=TWO)).ignore
    assert (beside.value, "a mask beside the image says it in 1 of 1 cases" in beside.reason) == (None, True)
    assert "no label value" in make_plan(inspect(tmp_path, a_case(tmp_path), labels=TWO)).ignore.reason


def test_a_value_and_a_field_of_view_are_ignored_together(tmp_path: Path):
    mask, inside = make_mask(), np.ones(SHAPE, np.uint8)
    mask[0], inside[-1] = 9, 0
    case = a_case(tmp_path, mask=mask, ignore=view_of(tmp_path, inside))
    [prepared] = prepare_cases([case], RECIPE, LabelScheme(TWO, ignore=9), tmp_path / "cache")
    ignored = np.asarray(prepared.label).transpose(2, 1, 0) == IGNORED
    assert ignored[[0, -1]].all()
    assert not ignored[1:-1].any()
    again, other = (prepare_cases([case], RECIPE, LabelScheme(TWO, ignore=v), tmp_path / "cache")[0] for v in (9, None))
    assert again.folder == prepared.folder != other.folder


def test_prepared_labels_of_regions_hold_their_values_as_classes(tmp_path: Path):
    scheme = LabelScheme({}, {"both": (1, 2), "spleen": (2,)})
    [prepared] = prepare_cases([a_case(tmp_path)], RECIPE, scheme, tmp_path / "cache")
    np.testing.assert_array_equal(np.asarray(prepared.label).transpose(2, 1, 0), make_mask())
    assert prepared.voxels.sum(axis=0).tolist() == [480 - 36, 32, 4]


def test_what_was_not_drawn_is_known_of_a_prepared_case(tmp_path: Path):
    mask = make_mask()
    mask[mask == 2] = 0
    cases = [a_case(tmp_path), a_case(tmp_path, "b", mask, labelled=("liver",))]
    prepared: list[PreparedCase] = prepare_cases(cases, RECIPE, TWO, tmp_path / "cache")
    assert [case.unknown for case in prepared] == [(), (1,)]
    inspection = inspect(tmp_path, *cases, labels=TWO)
    assert errors(inspection) == []
    require_trainable(inspection)


def test_a_scheme_without_any_of_it_has_the_cache_it_always_had(tmp_path: Path):
    case = a_case(tmp_path)
    found = {prepare_cases([case], RECIPE, labels, tmp_path / "cache")[0].folder for labels in (TWO, LabelScheme(TWO))}
    assert len(found) == 1


def test_a_case_of_which_nothing_is_known_is_refused(tmp_path: Path):
    case = a_case(tmp_path, ignore=view_of(tmp_path, np.zeros(SHAPE, np.uint8)))
    [(name, message)] = errors(inspect(tmp_path, case))
    assert (name, message.split(":")[0]) == ("a", "every voxel is ignored")
    with pytest.raises(DataError, match="case a: every voxel is ignored"):
        prepare_cases([case], RECIPE, TWO, tmp_path / "cache")
    (name, message), *_ = errors(inspect(tmp_path, a_case(tmp_path, labelled=()), labels=TWO))
    assert message.startswith("none of liver, spleen is labelled in it")


def test_a_field_of_view_on_another_grid_is_refused(tmp_path: Path):
    case = a_case(tmp_path, ignore=view_of(tmp_path, np.ones(SHAPE, np.uint8), np.diag([1.0, 1.0, 2.5, 1.0])))
    [(name, message)] = errors(inspect(tmp_path, case))
    assert name == "a"
    assert "the label map and the mask of what is ignored" in message
    with pytest.raises(GeometryError, match=r"case a: .*the mask of what is ignored"):
        prepare_cases([case], RECIPE, TWO, tmp_path / "cache")


def test_a_structure_that_does_not_exist_is_no_structure_of_a_case(tmp_path: Path):
    cases = [a_case(tmp_path), a_case(tmp_path, "b", labelled=("liver", "splen"))]
    (name, message), *_ = errors(inspect(tmp_path, *cases, labels=TWO))
    assert (name, message) == (
        "b",
        "is labelled for 'splen', which is no structure of the data set; did you mean 'spleen'?",
    )


def test_a_structure_that_is_not_chosen_may_be_named(tmp_path: Path):
    case = a_case(tmp_path, labelled=("liver", "spleen"))
    dataset = Dataset(tmp_path, "a list", "set", None, {0: "background"} | TWO, cases=[case])
    assert errors(inspect_dataset(dataset, choice=LabelChoice({1: "liver"}))) == []


def test_a_mask_that_holds_what_is_said_not_to_be_drawn_is_refused(tmp_path: Path):
    [(name, message)] = errors(inspect(tmp_path, a_case(tmp_path, labelled=("liver",)), labels=TWO))[:1]
    assert name == "a"
    assert message.startswith("its mask holds 'spleen' (label 2), which is said not to be labelled in it")
    regions = {"both": (1, 2), "spleen": (2,)}
    assert errors(inspect(tmp_path, a_case(tmp_path), a_case(tmp_path, "b", labelled=("both",)), regions=regions)) == []


def test_a_structure_that_no_case_is_labelled_for_is_refused(tmp_path: Path):
    mask = np.minimum(make_mask(), 1) * (make_mask() == 1)
    inspection = inspect(tmp_path, a_case(tmp_path, mask=mask, labelled=("liver",)), labels=TWO)
    assert errors(inspection) == [(WHOLE_SET, "no case of set is labelled for 'spleen': leave it out with data.labels")]
    with pytest.raises(DataError, match="labelled for 'spleen'"):
        make_plan(inspection)


def test_nnunet_regions_with_a_value_to_ignore_are_read_whole(tmp_path: Path):
    from fullscale.data.layouts.find import find_dataset

    mask = make_mask()
    mask[0, 0, 0] = 3
    case = a_case(tmp_path / "files", mask=mask)
    for folder, file in (("imagesTr", case.first), ("labelsTr", case.label)):
        (tmp_path / folder).mkdir()
        name = "a_0000.nii.gz" if folder == "imagesTr" else "a.nii.gz"
        (tmp_path / folder / name).write_bytes(file.read_bytes())
    labels = {"background": 0, "both": [1, 2], "spleen": [2], "ignore": 3}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".nii.gz"}))
    plan = make_plan(inspect_dataset(find_dataset(tmp_path)))
    assert plan.scheme.members == {1: (1, 2), 2: (2,)}
    assert plan.scheme.ignore == 3
