import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fullscale.data.case import WHOLE_SET
from fullscale.data.checks import Inspection, foreground_statistics, inspect_dataset
from fullscale.data.faults import count_labels
from fullscale.data.label_choice import LabelChoice
from fullscale.data.layouts.find import find_dataset
from fullscale.data.plan import make_plan
from fullscale.data.volume_files import write_volume
from fullscale.errors import UsageError
from fullscale.geometry.volume import Volume

AFFINE = np.array([[-2.0, 0, 0, 10], [0, 3, 0, -20], [0, 0, 5, 30], [0, 0, 0, 1]])
SHAPE = (6, 7, 8)


def make_scan() -> np.ndarray:
    return np.random.default_rng(3).integers(-1000, 1000, SHAPE).astype(np.int16)


def make_mask() -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:3, 2:5, 2:6] = 1
    mask[4, 4, 4] = 2
    return mask


def write_case(root: Path, name: str, image: Any = None, label: Any = None, affine: Any = AFFINE) -> None:
    """Write one case; a label's affine may differ from the image's."""
    image = make_scan() if image is None else image
    label = make_mask() if label is None else label
    write_volume(root / "imagesTr" / f"{name}.nii.gz", Volume(image, AFFINE))
    write_volume(root / "labelsTr" / f"{name}.nii.gz", Volume(label, affine))


def inspect(root: Path, labels: dict[str, int] | None = None, **options: Any) -> Inspection:
    if labels is not None:
        (root / "dataset.json").write_text(json.dumps({"labels": labels}))
    return inspect_dataset(find_dataset(root), **options)


def messages(inspection: Inspection, case: str, severity: str = "error") -> list[str]:
    assert all("\n" not in problem.message for problem in inspection.problems)
    return [p.message for p in inspection.problems if (p.case, p.severity) == (case, severity)]


def test_facts_of_a_case_counted_by_hand(tmp_path: Path):
    write_case(tmp_path, "a")
    inspection = inspect(tmp_path)
    facts, scan = inspection.facts["a"], make_scan()
    channel = facts.channels["image"]
    assert (facts.shape, facts.spacing_mm, facts.orientation, channel.dtype) == (SHAPE, (2, 3, 5), "LAS", "int16")
    assert (facts.channels["image"].intensity_min, facts.channels["image"].intensity_max) == (scan.min(), scan.max())
    np.testing.assert_allclose(facts.channels["image"].intensity_percentiles, np.percentile(scan, (0.5, 50, 99.5)))
    assert facts.label_voxels == {0: 336 - 25, 1: 24, 2: 1}
    assert facts.label_ml == pytest.approx({1: 24 * 0.03, 2: 0.03})
    np.testing.assert_array_equal(np.sort(facts.channels["image"].foreground), np.sort(scan[make_mask() > 0]))
    assert facts.channels["image"].foreground.dtype == np.float32
    assert inspection.problems == []
    assert [case.id for case in inspection.usable_cases] == ["a"]


def test_of_structures_that_are_chosen_the_foreground_is_theirs_alone(tmp_path: Path):
    write_case(tmp_path, "a")
    chosen, everything = inspect(tmp_path, choice=LabelChoice({2: "spleen"})), inspect(tmp_path)
    assert chosen.facts["a"].channels["image"].foreground.tolist() == [make_scan()[4, 4, 4]]
    assert chosen.facts == everything.facts
    assert (chosen.labels, chosen.scheme.structures) == (everything.labels, {2: "spleen"})


def test_an_structure_that_the_data_do_not_have_is_refused(tmp_path: Path):
    write_case(tmp_path, "a")
    with pytest.raises(UsageError, match=r"data\.labels names 7, which .* does not have; it has 1 \(label 1\), 2"):
        inspect(tmp_path, choice=LabelChoice({1: "liver", 7: "kidney"}))


def test_regions_are_chosen_by_the_data_set_or_exclusive_structures_by_the_settings(tmp_path: Path):
    write_case(tmp_path, "a")
    labels: Any = {"background": 0, "whole": [1, 2], "core": [2]}
    declared = inspect(tmp_path, labels)
    assert declared.errors == []
    plan = make_plan(declared)
    assert plan.regions.value == {"whole": (1, 2), "core": (2,)}
    assert (plan.structures, plan.classes) == ({1: "whole", 2: "core"}, 2)
    chosen = inspect(tmp_path, labels, choice=LabelChoice({1: "whole", 2: "core"}))
    assert chosen.errors == []
    assert make_plan(chosen).labels.value == {0: "background", 1: "whole", 2: "core"}
    assert (make_plan(chosen).regions.value, make_plan(chosen).classes) == ({}, 3)
    own = inspect(tmp_path, choice=LabelChoice(regions={"all": (1, 2), "small": (2,)}))
    assert make_plan(own).structures == {1: "all", 2: "small"}
    assert make_plan(declared).with_labels(own.choice).structures == {1: "all", 2: "small"}
    assert make_plan(own).with_labels(chosen.choice).scheme.regions == {}
    with pytest.raises(UsageError, match=r"data\.regions names 7, which .* does not have; it has 1"):
        inspect(tmp_path, choice=LabelChoice(regions={"all": (1, 7)}))


def test_a_case_that_is_labelled_for_an_unknown_structure_is_refused(tmp_path: Path):
    for name in ("a", "b"):
        write_case(tmp_path, name)
    dataset = replace(find_dataset(tmp_path), labelled={"a": ("livre",), "b": ("liver",)})
    dataset = replace(dataset, cases=[replace(case, labelled=dataset.labelled[case.id]) for case in dataset.cases])
    nameless = inspect_dataset(dataset)
    assert messages(nameless, "b") == [
        "is labelled for 'liver', but no structure has a name: name the labels, as in data.labels={1: liver}"
    ]
    assert not nameless.facts
    named = inspect_dataset(dataset, choice=LabelChoice({1: "liver"}))
    assert messages(named, "a") == [
        "is labelled for 'livre', which is no structure of the data set; did you mean 'liver'?"
    ]
    assert list(named.facts) == ["b"]
    assert named.names == {0: "background", 1: "liver", 2: "label 2"}


def test_a_value_to_ignore_is_never_a_structure_unless_it_is_called_background(tmp_path: Path):
    mask = make_mask()
    mask[0, 0, :] = 3
    write_case(tmp_path, "a", label=mask)
    labels = {"background": 0, "liver": 1, "spleen": 2, "ignore": 3}
    for named in (None, {1: "liver", 2: "spleen"}):
        inspection = inspect(tmp_path, labels, choice=LabelChoice(named))
        facts = inspection.facts["a"]
        assert inspection.errors == []
        assert 3 not in inspection.labels
        assert (facts.ignored_voxels, facts.label_voxels) == (8, {0: 336 - 25 - 8, 1: 24, 2: 1})
        plan = make_plan(inspection)
        assert (plan.structures, plan.ignore.value) == ({1: "liver", 2: "spleen"}, 3)
    with pytest.raises(UsageError, match="label 3 is to be ignored, and is border as well"):
        inspect(tmp_path, labels, choice=LabelChoice({1: "liver", 3: "border"}))
    chosen = inspect(tmp_path, labels, choice=LabelChoice({1: "liver", 2: "spleen", 3: "background"}))
    assert chosen.errors == []
    assert (make_plan(chosen).structures, make_plan(chosen).ignore.value) == ({1: "liver", 2: "spleen"}, None)
    np.testing.assert_array_equal(
        np.sort(chosen.facts["a"].channels["image"].foreground),
        np.sort(make_scan()[make_mask() > 0].astype(np.float32)),
    )


def test_labels_are_named_after_the_values_found_where_none_are_declared(tmp_path: Path):
    write_case(tmp_path, "a")
    write_case(tmp_path, "b", label=make_mask() * 3)
    assert inspect(tmp_path).labels == {0: "background", 1: "label 1", 2: "label 2", 3: "label 3", 6: "label 6"}


def test_foreground_is_sampled_alike_from_every_case_and_pooled(tmp_path: Path):
    big = np.random.default_rng(0).normal(100, 20, (40, 40, 40)).astype(np.float32)
    write_case(tmp_path, "a", big, np.ones(big.shape, np.uint8))
    first, again = inspect(tmp_path), inspect(tmp_path)
    sample = first.facts["a"].channels["image"].foreground
    assert sample.shape == (10_000,)
    np.testing.assert_array_equal(sample, again.facts["a"].channels["image"].foreground)
    pooled = foreground_statistics([first.facts["a"], again.facts["a"]])["image"]
    assert pooled is not None
    assert pooled["mean"] == pytest.approx(big.mean(), abs=1)
    assert pooled["std"] == pytest.approx(big.std(), abs=1)
    assert pooled["percentile_99_5"] == pytest.approx(np.percentile(big, 99.5), abs=3)
    assert pooled["percentile_0_5"] < pooled["percentile_50"] < pooled["percentile_99_5"]


def test_percentiles_of_a_large_scan_come_from_a_sample_close_to_all_voxels(tmp_path: Path):
    big = np.random.default_rng(0).normal(0, 300, (128, 128, 80)).astype(np.int16)
    write_case(tmp_path, "a", big, (big > 0).astype(np.uint8))
    facts = inspect(tmp_path).facts["a"]
    np.testing.assert_allclose(
        facts.channels["image"].intensity_percentiles, np.percentile(big, (0.5, 50, 99.5)), atol=6
    )
    assert (facts.channels["image"].intensity_min, facts.channels["image"].intensity_max) == (big.min(), big.max())


def broken_scan(value: float) -> np.ndarray:
    scan = make_scan().astype(np.float32)
    scan[0, 0, :2] = value
    return scan


SHIFTED = AFFINE + np.array([[0, 0, 0, 1.5], [0] * 4, [0] * 4, [0] * 4])


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ({"label": make_mask()[:, :, :-1]}, "different grids: shapes differ: (6, 7, 8) and (6, 7, 7)"),
        ({"affine": SHIFTED}, "different grids: affines differ by up to 1.5 mm"),
        ({"label": make_mask() * 7}, "labels [7, 14] are not among the declared [0, 1, 2]"),
        ({"label": make_mask().astype(np.int16) * -1}, "labels [-2, -1] are not among the declared [0, 1, 2]"),
        ({"image": broken_scan(np.nan)}, "2 of 336 voxels of the image are NaN or infinite"),
        ({"image": broken_scan(np.inf)}, "2 of 336 voxels of the image are NaN or infinite"),
        ({"label": make_scan()}, "different values; is it an image?"),
        ({"image": np.full(SHAPE, -7, np.int16)}, "every voxel of the image is -7: there is nothing to see"),
        ({"image": make_mask()}, "image and label are the same"),
        ({"label": make_mask() + np.float32(0.25)}, "labels are whole numbers, found 0.25, 1.25, 2.25"),
    ],
)
def test_a_case_that_cannot_be_used_is_left_out_with_the_reason(tmp_path: Path, written: dict[str, Any], says: str):
    write_case(tmp_path, "good")
    write_case(tmp_path, "bad", **written)
    inspection = inspect(tmp_path, {"structure": 1, "lesion": 2})
    (message,) = messages(inspection, "bad")
    assert says in message
    assert [case.id for case in inspection.usable_cases] == ["good"]
    assert [problem.case for problem in inspection.errors] == ["bad"]


def test_negative_labels_are_refused_where_none_are_declared(tmp_path: Path):
    write_case(tmp_path, "bad", label=make_mask().astype(np.int16) * -1)
    assert "labels [-2, -1] are negative" in messages(inspect(tmp_path), "bad")[0]


@pytest.mark.parametrize("part", ["imagesTr", "labelsTr"])
@pytest.mark.parametrize("content", [b"", b"text", None])
def test_an_unreadable_file_is_a_problem_of_its_case_alone(tmp_path: Path, part: str, content: bytes | None):
    write_case(tmp_path, "good")
    write_case(tmp_path, "bad")
    path = tmp_path / part / "bad.nii.gz"
    path.write_bytes(path.read_bytes()[:-9] if content is None else content)
    inspection = inspect(tmp_path)
    (message,) = messages(inspection, "bad")
    assert str(path) in message
    assert list(inspection.facts) == ["good"]


def test_empty_masks_and_single_slices_are_warned_of_but_used(tmp_path: Path):
    write_case(tmp_path, "empty", label=np.zeros(SHAPE, np.uint8))
    write_case(tmp_path, "flat", make_scan()[:, :, :1], make_mask()[:, :, 2:3])
    inspection = inspect(tmp_path)
    assert messages(inspection, "empty", "warning") == ["the mask is empty"]
    assert messages(inspection, "flat", "warning") == ["the scan has one slice only (shape (6, 7, 1))"]
    assert list(inspection.facts) == ["empty", "flat"]
    assert inspection.facts["empty"].channels["image"].foreground.size == 0
    assert inspection.facts["empty"].as_dict()["channels"]["image"]["foreground"] is None


def test_images_that_are_mostly_zero_or_look_like_label_maps_are_warned_of(tmp_path: Path):
    mostly_zero = np.zeros(SHAPE, np.float32)
    mostly_zero[0, 0, 0] = 5
    write_case(tmp_path, "zero", mostly_zero)
    write_case(tmp_path, "few", make_mask() * 3)
    inspection = inspect(tmp_path)
    assert "99.7 % of the voxels of the image are 0" in messages(inspection, "zero", "warning")
    assert messages(inspection, "few", "warning") == [
        "the image holds 3 different values only (0, 3, 6 ...); is it a label map?"
    ]
    assert inspection.facts["zero"].channels["image"].zero_fraction == pytest.approx(335 / 336)
    assert list(inspection.facts) == ["few", "zero"]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32])
def test_labels_that_a_header_scales_are_rounded_and_that_is_said_once(tmp_path: Path, dtype: type):
    mask = make_mask().astype(np.float64)
    for name in "abcd":
        write_case(tmp_path, name)
        image = nib.Nifti1Image(mask, AFFINE)
        image.set_data_dtype(dtype)  # nibabel scales the floats into the whole range of the type
        nib.save(image, tmp_path / "labelsTr" / f"{name}.nii.gz")
    inspection = inspect(tmp_path, {"structure": 1, "lesion": 2})
    assert inspection.facts["a"].label_voxels == {0: 336 - 25, 1: 24, 2: 1}
    if dtype is np.int32:  # steps so small that float32 rounds to whole numbers by itself
        assert inspection.problems == []
        return
    (warning,) = inspection.problems
    assert (warning.case, warning.severity) == (WHOLE_SET, "warning")
    assert warning.message.startswith("4 cases, such as a: the label map holds scaled integers")
    mask[0, 0, 0] = 0.5
    image = nib.Nifti1Image(mask, AFFINE)
    image.set_data_dtype(dtype)
    nib.save(image, tmp_path / "labelsTr" / "a.nii.gz")
    assert "labels are whole numbers, found 0.5" in messages(inspect(tmp_path), "a")[0]


def test_labels_that_arithmetic_left_beside_whole_numbers_are_rounded_and_that_is_said_once(tmp_path: Path):
    for name, off in {"a": -1e-6, "b": 4e-4, "c": -4e-4}.items():
        write_case(tmp_path, name, label=make_mask() * (1.0 + off))
    inspection = inspect(tmp_path)
    assert [f.label_voxels for f in inspection.facts.values()] == [{0: 336 - 25, 1: 24, 2: 1}] * 3
    (warning,) = inspection.problems
    assert warning.message.startswith("3 cases, such as a: the label map holds numbers that are nearly whole")


@pytest.mark.parametrize("share", [1 / 255, 0.5, 254 / 255])
def test_labels_of_an_anti_aliased_border_are_refused(tmp_path: Path, share: float):
    mask = make_mask().astype(np.float32)
    mask[1, 2, 2] = share
    write_case(tmp_path, "a", label=mask)
    (message,) = messages(inspect(tmp_path), "a")
    assert (
        f"labels are whole numbers, found {share:.6g} in 1 voxels; where it was interpolated or anti-aliased" in message
    )


def test_a_case_in_another_unit_than_the_others_is_warned_of(tmp_path: Path):
    for name in "abc":
        write_case(tmp_path, name)
    write_volume(tmp_path / "imagesTr/d.nii.gz", Volume(make_scan() + 1024, AFFINE @ np.diag([0.1, 0.1, 0.1, 1])))
    write_volume(tmp_path / "labelsTr/d.nii.gz", Volume(make_mask(), AFFINE @ np.diag([0.1, 0.1, 0.1, 1])))
    (tmp_path / "dataset.json").write_text('{"modality": {"0": "CT"}, "labels": {"a": 1, "b": 2}}')
    inspection = inspect(tmp_path)
    spacing, offset = messages(inspection, "d", "warning")
    assert spacing == "its spacing is 0.2 x 0.3 x 0.5 mm, most have about 2 x 3 x 5; is it right?"
    assert "its lowest voxel is 2" in offset
    assert len(inspection.problems) == 2


def test_a_declared_label_that_never_appears_is_warned_of(tmp_path: Path):
    write_case(tmp_path, "a")
    inspection = inspect(tmp_path, {"structure": 1, "lesion": 2, "cyst": 3})
    assert messages(inspection, WHOLE_SET, "warning") == ["label 3 (cyst) is declared but appears in no case"]


def test_problems_of_the_layout_are_kept(tmp_path: Path):
    write_case(tmp_path, "a")
    write_case(tmp_path, "b")
    (tmp_path / "labelsTr/b.nii.gz").unlink()
    (tmp_path / "imagesTr/._a.nii.gz").touch()
    inspection = inspect(tmp_path)
    assert len(messages(inspection, "b", "warning")) == 1
    assert len(messages(inspection, WHOLE_SET, "warning")) == 1


def test_the_dictionary_is_json_without_nan(tmp_path: Path):
    write_case(tmp_path, "a")
    write_case(tmp_path, "bad", image=broken_scan(np.nan))
    write_case(tmp_path, "empty", label=np.zeros(SHAPE, np.uint8))
    content = json.loads(json.dumps(inspect(tmp_path).as_dict(), allow_nan=False))
    assert (content["cases"], content["usable_cases"]) == (3, 2)
    assert content["labels"] == {"0": "background", "1": "label 1", "2": "label 2"}
    assert content["facts"][0]["label_ml"] == {"1": 0.72, "2": 0.03}
    assert content["problems"][0]["case"] == "bad"
    assert content["foreground"]["image"]["mean"] == pytest.approx(make_scan()[make_mask() > 0].mean(), abs=1e-3)


def test_progress_is_told_after_every_case(tmp_path: Path):
    for name in "ab":
        write_case(tmp_path, name)
    told: list[tuple[int, int, str]] = []
    inspect(tmp_path, progress=lambda *step: told.append(step))
    assert told == [(1, 2, "a"), (2, 2, "b")]


def test_processes_find_the_same(tmp_path: Path):
    for name in "abc":
        write_case(tmp_path, name)
    write_case(tmp_path, "bad", label=make_mask()[1:])
    alone, shared = inspect(tmp_path), inspect(tmp_path, jobs=2)
    assert alone.as_dict() == shared.as_dict()


@settings(deadline=None, max_examples=50)
@given(arrays(np.int32, (2, 3, 4), elements=st.sampled_from([-70_000, -1, 0, 1, 2, 255, 65_000])))
def test_label_counts_agree_with_counting_one_by_one(labels: np.ndarray):
    slow = {value: labels.ravel().tolist().count(value) for value in sorted(set(labels.ravel().tolist()))}
    assert count_labels(labels) == slow


def test_a_structure_that_reaches_the_border_of_every_scan_is_said(tmp_path: Path):
    for number in range(3):
        cut = make_mask()
        cut[0, 2, number] = 1
        write_case(tmp_path, f"case_{number}", label=cut)
    inspection = inspect(tmp_path, {"background": 0, "liver": 1, "spleen": 2})
    assert inspection.facts["case_0"].at_border == (1,)
    [warning] = messages(inspection, WHOLE_SET, "warning")
    assert warning.startswith("'liver' reaches the border of all 3 scans that hold it: it may be cut there")
    write_case(tmp_path, "case_3")
    assert not messages(inspect(tmp_path, {"background": 0, "liver": 1, "spleen": 2}), WHOLE_SET, "warning")
