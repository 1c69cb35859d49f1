"""The plan: what it chooses from which data, its reasons, and an edited one read back."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fullscale.data.case import Case, Dataset
from fullscale.data.checks import CaseFacts, ChannelFacts, Inspection
from fullscale.data.label_choice import LabelChoice
from fullscale.data.patch_plan import CPU_PATCH_VOXELS, GPU_PATCH_VOXELS, LARGEST, patch_shape
from fullscale.data.plan import make_plan, read_plan
from fullscale.errors import DataError


def facts(
    case: str,
    shape: tuple[int, int, int] = (512, 512, 90),
    spacing_mm: tuple[float, float, float] = (0.8, 0.8, 5.0),
    orientation: str = "LAS",
    lowest: float = -1024,
    structure_hu: tuple[float, float] = (60, 20),
    zero_fraction: float = 0.0,
    padding_fraction: float = 0.0,
) -> CaseFacts:
    sample = np.random.default_rng(0).normal(*structure_hu, 2000).astype(np.float32)
    return CaseFacts(
        case=case,
        shape=shape,
        spacing_mm=spacing_mm,
        orientation=orientation,
        label_voxels={0: 100, 1: 50},
        label_ml={1: 1400.0},
        channels={
            "image": ChannelFacts("int16", lowest, 1500, (lowest, 0, 900), zero_fraction, padding_fraction, sample)
        },
    )


def inspection(*cases: CaseFacts, modality: str | None = "CT", labels: dict[int, str] | None = None) -> Inspection:
    named = labels or {0: "background", 1: "liver"}
    listed = [Case.of_image(c.case, Path("image"), Path("label"), c.case) for c in cases]
    dataset = Dataset(Path("set"), "LiTS", "set", modality, labels, listed, [], [])
    return Inspection(dataset, named, {c.case: c for c in cases}, [])


def test_ct_gets_a_window_in_hounsfield_units_around_the_structure() -> None:
    intensity = make_plan(inspection(facts("a"), facts("b"))).intensity.value
    assert intensity.per == "dataset"
    assert intensity.low < 60 - 2.5 * 20
    assert intensity.high > 60 + 2.5 * 20
    assert intensity.mean == pytest.approx(60, abs=2)
    assert intensity.std >= (intensity.high - intensity.low) / 8 - 0.01


def test_scans_that_are_mostly_empty_are_normalised_by_what_is_in_them() -> None:
    full, empty = facts("a", lowest=0), facts("b", lowest=0, zero_fraction=0.996)
    assert make_plan(inspection(full, modality="MRI")).intensity.value.voxels == "all"
    choice = make_plan(inspection(full, empty, modality="MRI")).intensity
    assert (choice.value.per, choice.value.voxels) == ("scan", "nonzero")
    assert "up to 99.6% of a scan, do not count" in choice.reason


def test_the_padding_around_a_body_does_not_count_whatever_its_value() -> None:
    cases = [facts(name, lowest=-3.2, padding_fraction=part) for name, part in (("a", 0.2), ("b", 0.8), ("c", 0.9))]
    choice = make_plan(inspection(*cases, modality="MRI")).intensity
    assert (choice.value.per, choice.value.voxels) == ("scan", "body")
    assert "80% of the median scan, does not count" in choice.reason
    assert make_plan(inspection(cases[0], modality="MRI")).intensity.value.voxels == "all"
    assert make_plan(inspection(*cases, modality="CT")).intensity.value.per == "dataset"


@pytest.mark.parametrize("modality", ["MRI", "MR"])
def test_mri_is_normalised_scan_by_scan(modality: str) -> None:
    plan = make_plan(inspection(facts("a", lowest=0), modality=modality))
    assert plan.modality.value == "MRI"
    assert plan.intensity.value.per == "scan"


def test_a_modality_that_nobody_declared_is_told_from_air() -> None:
    assert make_plan(inspection(facts("a"), modality=None)).modality.value == "CT"
    assert make_plan(inspection(facts("a", lowest=0), modality=None)).modality.value == "unknown"


def test_a_cpu_gets_coarser_slices_and_a_narrow_network_a_gpu_the_papers() -> None:
    found = inspection(facts("a"))
    cpu, gpu = make_plan(found), make_plan(found, gpu_gib=80)
    assert cpu.spacing_mm.value == pytest.approx(0.8 * 512 / 192, rel=1e-3)
    assert cpu.patch_size.value == (192, 192)
    assert (cpu.width.value, gpu.width.value) == (16, 64)
    assert gpu.spacing_mm.value == pytest.approx(0.8)
    assert gpu.patch_size.value == (320, 320)
    assert 2 <= cpu.batch_size.value < gpu.batch_size.value <= 32


def test_small_slices_make_crops_of_their_own_size_whatever_the_stored_axes() -> None:
    sagittal = facts("a", shape=(36, 50, 35), spacing_mm=(1, 1, 1), orientation="SAR", lowest=0)
    plan = make_plan(inspection(sagittal, modality="MRI"), view="slices")
    assert plan.patch_size.value == (64, 48)
    assert plan.spacing_mm.value == 1


def test_isotropic_scans_are_shown_in_patches_of_their_proportions() -> None:
    sagittal = facts("a", shape=(36, 50, 35), spacing_mm=(1, 1, 1), orientation="SAR", lowest=0)
    plan = make_plan(inspection(sagittal, modality="MRI"))
    assert plan.view.value == "patches"
    assert plan.patch_size.value == (32, 48, 32)
    assert plan.spacing_mm.value == (1, 1, 1)
    assert plan.recipe.in_channels == 1
    assert plan.network.value["strides"] == ((2, 2, 2),) * 3
    assert plan.network.value["levels"] == 4


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "gpu_gib", "why"),
    [
        ((512, 512, 80), (0.8, 0.8, 5), 80, "slices lie 5 mm apart, 6.2 times"),
        ((200, 200, 12), (1, 1, 1.5), 80, "has 12 slices, fewer than 16"),
        ((300, 300, 200), (1, 1, 1), None, "366 times the patch that a CPU trains on quickly"),
    ],
)
def test_scans_that_patches_do_not_suit_are_shown_in_slices(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], gpu_gib: float | None, why: str
) -> None:
    found = inspection(facts("a", shape=shape, spacing_mm=spacing_mm))
    plan = make_plan(found, gpu_gib)
    assert plan.view.value == "slices"
    assert why in plan.view.reason
    assert make_plan(found, gpu_gib, "patches").view.value == "patches"


@given(
    st.tuples(*[st.integers(8, 500)] * 3), st.tuples(*[st.floats(0.3, 6)] * 3), st.sampled_from([None, 8.0, 24.0, 80.0])
)
@settings(max_examples=100, deadline=None)
def test_a_patch_fits_its_strides_and_the_memory(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], gpu_gib: float | None
) -> None:
    sides, strides = patch_shape(shape, spacing_mm, gpu_gib)
    deepest = np.prod(strides, axis=0)
    assert not (np.array(sides) % deepest).any()
    most = CPU_PATCH_VOXELS if gpu_gib is None else GPU_PATCH_VOXELS * gpu_gib / 24
    assert np.prod(sides) <= LARGEST * most or sides == tuple(deepest)
    assert all(side <= 1.5 * size or side == stride for side, size, stride in zip(sides, shape, deepest, strict=True))


def test_a_coarse_axis_is_halved_later() -> None:
    _, strides = patch_shape((40, 200, 200), (3, 1, 1), 24)
    assert strides[0] == (1, 2, 2)
    assert strides[-1] == (2, 2, 2)


def test_one_structure_is_a_sigmoid_and_two_are_a_softmax() -> None:
    one = make_plan(inspection(facts("a")))
    two = make_plan(inspection(facts("a"), labels={0: "background", 2: "spleen", 1: "liver"}))
    assert (one.classes, two.classes) == (1, 3)
    assert two.structures == {1: "liver", 2: "spleen"}
    merged = make_plan(inspection(facts("a"), labels={0: "background", 1: "liver", 2: "liver"}))
    assert (merged.classes, merged.structures) == (1, {1: "liver"})


def test_structures_that_are_chosen_are_the_labels() -> None:
    found = replace(inspection(facts("a")), choice=LabelChoice({2: "liver", 1: "liver"}))
    plan = make_plan(found)
    assert plan.labels.value == {0: "background", 1: "liver", 2: "liver"}
    assert plan.labels.reason == "set by data.labels"
    assert plan == make_plan(inspection(facts("a"))).with_labels(LabelChoice({2: "liver", 1: "liver"}))
    of_none = replace(facts("a").channels["image"], foreground=np.empty(0, np.float32))
    none_there = replace(facts("a"), channels={"image": of_none})
    with pytest.raises(DataError, match=r"holds a label that data\.labels names"):
        make_plan(replace(inspection(none_there), choice=LabelChoice({1: "liver"})))


def test_an_edited_plan_reads_back_and_a_broken_one_is_refused_by_key(tmp_path: Path) -> None:
    plan = make_plan(inspection(facts("a")))
    content = plan.model_dump(mode="json")
    assert all(len(choice["reason"]) > 5 for key, choice in content.items() if key != "dataset")
    path = tmp_path / "plan.json"
    content["spacing_mm"]["value"] = 1.5
    path.write_text(json.dumps(content))
    assert read_plan(path).recipe.spacing_mm == 1.5
    content["width"]["value"] = -4
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"plan\.json: width\.value: Input should be greater than 0"):
        read_plan(path)
    path.write_text("{")
    with pytest.raises(DataError, match=r"plan\.json"):
        read_plan(path)
    with pytest.raises(DataError, match="No such file"):
        read_plan(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("labels", {1: "liver"}, "0 for the background"),
        ("labels", {0: "background"}, "at least one structure"),
        ("labels", {0: "background", -1: "liver"}, "a higher value"),
        ("neighbours", 20, "neighbours"),
        ("patch_size", [0, 5], "patch_size"),
        ("intensity", {"per": "scan", "low": -150, "high": 250}, "percentiles"),
        ("intensity", {"per": "dataset", "low": 5, "high": 5}, "must be below"),
    ],
)
def test_an_edit_that_means_nothing_is_refused(tmp_path: Path, key: str, value: object, complaint: str) -> None:
    content = make_plan(inspection(facts("a"))).model_dump(mode="json")
    content[key]["value"] = value
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=complaint):
        read_plan(path)


def test_no_neighbours_is_a_plan_too(tmp_path: Path) -> None:
    content = make_plan(inspection(facts("a"))).model_dump(mode="json")
    content["neighbours"]["value"] = 0
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(content))
    assert read_plan(path).recipe.in_channels == 1


def test_nothing_to_learn_is_refused() -> None:
    with pytest.raises(DataError, match="no case"):
        make_plan(inspection())
    with pytest.raises(DataError, match="nothing to learn"):
        make_plan(inspection(facts("a"), labels={0: "background"}))


@pytest.mark.parametrize(
    ("name", "gpu_gib", "flip", "why"),
    [
        ("Anterior", 24, 0.5, "half of them mirrored: no structure is named after the left or the right"),
        ("kidney_left", 24, None, "none of them mirrored: a structure is named after the left or the right"),
        ("Anterior", None, None, "none of them mirrored: the short training of a CPU learns more without"),
    ],
)
def test_patches_are_mirrored_on_a_gpu_where_no_structure_has_a_side(
    name: str, gpu_gib: float | None, flip: float | None, why: str
) -> None:
    sagittal = facts("a", shape=(36, 50, 35), spacing_mm=(1, 1, 1), orientation="SAR", lowest=0)
    plan = make_plan(inspection(sagittal, modality="MRI", labels={0: "background", 1: name}), gpu_gib)
    assert plan.augment.value.get("flip") == flip
    assert plan.augment.value["spacing_mm"] == (1, 1, 1)
    assert why in plan.augment.reason
