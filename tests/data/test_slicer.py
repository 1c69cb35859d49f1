"""Segmentations of 3D Slicer, written here by hand: names, layers, and a crop to what is drawn."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from fullscale.data.checks import inspect_dataset
from fullscale.data.label_choice import LabelChoice
from fullscale.data.labels import LabelScheme
from fullscale.data.layouts.find import find_dataset
from fullscale.data.read import read_label, read_truth
from fullscale.data.volume_files import volume_stem, write_volume
from fullscale.errors import DataError, GeometryError
from fullscale.geometry.volume import Volume
from fullscale.reporting.source import Source, read_case
from fullscale.scoring.evaluate import evaluate
from fullscale.scoring.summary import read_summary, write_summary

AFFINE = np.array([[0.8, 0, 0, -30], [0, 0.9, 0, 12], [0, 0, 3, 100], [0, 0, 0, 1]])


def drawn() -> np.ndarray:
    labels = np.zeros((12, 10, 6), np.uint8)
    labels[2:6, 3:7, 1:4] = 1
    labels[7:9, 3:5, 2:5] = 2
    return labels


def save(path: Path, layers: np.ndarray, affine: np.ndarray, segments: list[tuple[str, int, int]]) -> Path:
    """Write `[layer, X, Y, Z]`, or `[X, Y, Z]` for one layer, with (name, value, layer) of each segment."""
    vectors = " ".join("(" + ",".join(map(str, affine[:3, axis])) + ")" for axis in range(3))
    several = layers.ndim == 4
    lines = ["NRRD0004", "type: unsigned char", f"dimension: {layers.ndim}", "space: right-anterior-superior"]
    lines += [f"sizes: {' '.join(map(str, layers.shape))}", f"space directions: {'none ' * several}{vectors}"]
    lines += [f"kinds: {'list ' * several}domain domain domain", "encoding: gzip"]
    lines += [f"space origin: ({','.join(map(str, affine[:3, 3]))})"]
    for n, (name, value, layer) in enumerate(segments):
        fields = {"ID": f"Segment_{n}", "Name": name, "LabelValue": value, "Layer": layer}
        lines += [f"Segment{n}_{field}:={text}" for field, text in fields.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + gzip.compress(layers.tobytes(order="F")))
    return path


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "set" / "images" / "p1.nrrd"
    write_volume(path, Volume(np.arange(720).reshape(12, 10, 6).astype(np.int16), AFFINE))
    return path


NAMED = [("liver", 1, 0), ("spleen", 2, 0)]


def test_one_layer_goes_with_its_scan_and_gives_the_names(tmp_path: Path, scan: Path):
    assert volume_stem("p1.seg.nrrd") == "p1"
    label = save(tmp_path / "set" / "labels" / "p1.seg.nrrd", drawn(), AFFINE, NAMED)
    np.testing.assert_array_equal(read_label(label, scan).array, drawn())
    inspection = inspect_dataset(find_dataset(tmp_path / "set"))
    assert [case.id for case in inspection.usable_cases] == ["p1"]
    assert inspection.labels == {0: "background", 1: "liver", 2: "spleen"}


def test_layers_that_do_not_overlap_are_one_label_map(tmp_path: Path, scan: Path):
    layers = np.stack([drawn() == 1, drawn() == 2]).astype(np.uint8)
    label = save(tmp_path / "a.nrrd", layers, AFFINE, [("liver", 1, 0), ("spleen", 1, 1)])
    np.testing.assert_array_equal(read_label(label, scan).array, drawn())
    layers[1, 3, 4, 2] = 1
    overlapping = save(tmp_path / "b.nrrd", layers, AFFINE, [("liver", 1, 0), ("spleen", 1, 1)])
    with pytest.raises(
        DataError, match=r"b.nrrd: 1 voxels are in 'liver' and 'spleen', where structures are exclusive"
    ):
        read_label(overlapping, scan)


@pytest.mark.parametrize("damage", ["byte", "end", "checksum"])
def test_damaged_layers_are_named_in_a_line(damage: str, tmp_path: Path, scan: Path):
    layers = np.random.default_rng(0).integers(0, 2, (2, 12, 10, 6)).astype(np.uint8)
    label = save(tmp_path / "set" / "labels" / "p1.seg.nrrd", layers, AFFINE, [("liver", 1, 0), ("tumour", 1, 1)])
    content = bytearray(label.read_bytes())
    if damage == "byte":
        content[-60] ^= 0xFF
    elif damage == "checksum":
        content[-6] ^= 0xFF
    else:
        del content[-30:]
    label.write_bytes(content)
    with pytest.raises(DataError, match=r"p1\.seg\.nrrd.*(damaged|cut short)"):
        read_label(label, scan)


def test_a_crop_is_placed_on_the_scan(tmp_path: Path, scan: Path):
    moved = AFFINE.copy()
    moved[:3, 3] += AFFINE[:3, :3] @ (2, 3, 1)
    label = save(tmp_path / "a.seg.nrrd", drawn()[2:9, 3:7, 1:5], moved, NAMED)
    placed = read_label(label, scan)
    np.testing.assert_array_equal(placed.array, drawn())
    np.testing.assert_allclose(placed.affine, AFFINE)
    assert read_label(label, label).shape == (7, 4, 4)
    moved[0, 3] += 0.3
    between = save(tmp_path / "b.seg.nrrd", drawn()[2:9, 3:7, 1:5], moved, NAMED)
    with pytest.raises(GeometryError, match="lie between those of the scan"):
        read_label(between, scan)


@pytest.mark.usefixtures("scan")
def test_a_cropped_segmentation_is_the_truth_of_masks(tmp_path: Path):
    moved = AFFINE.copy()
    moved[:3, 3] += AFFINE[:3, :3] @ (2, 3, 1)
    label = save(tmp_path / "set" / "labels" / "p1.seg.nrrd", drawn()[2:9, 3:7, 1:5], moved, NAMED)
    found = drawn()
    found[2, 3:7, 1:4] = 0  # a quarter of the liver is missed
    write_volume(tmp_path / "masks" / "p1.nii.gz", Volume(found, AFFINE))
    for truth in (tmp_path / "set", label):  # the scan says where the crop lies, or the mask itself
        summary = evaluate(tmp_path / "masks" / "p1.nii.gz" if truth == label else tmp_path / "masks", truth)
        scores = {value: metrics["Dice"] for value, metrics in summary.cases[0].metrics.items()}
        assert scores == {1: pytest.approx(6 / 7), 2: 1}


def test_segments_overlap_where_regions_say_what_that_is(tmp_path: Path, scan: Path):
    layers = np.stack([drawn() == 1, drawn() == 1]).astype(np.uint8)
    layers[1, 2:4] = 0  # the tumour is half of the liver
    label = save(tmp_path / "a.seg.nrrd", layers, AFFINE, [("liver", 1, 0), ("tumour", 1, 1)])
    scheme = LabelScheme({}, {"liver": (1, 2), "tumour": (2,)})
    expected = (drawn() == 1).astype(np.uint8)
    expected[4:6] *= 2
    np.testing.assert_array_equal(read_label(label, scan, scheme).array, expected)


def renumbered(folder: Path) -> Path:
    """Two cases whose liver and spleen have each other's numbers."""
    for case, segments in (("p1", NAMED), ("p2", [("spleen", 1, 0), ("liver", 2, 0)])):
        scan = np.random.default_rng(len(case)).normal(0, 9, drawn().shape).astype(np.float32)
        write_volume(folder / "images" / f"{case}.nrrd", Volume(scan, AFFINE))
        save(folder / "labels" / f"{case}.seg.nrrd", drawn(), AFFINE, segments)
    return folder


def test_segments_whose_numbers_differ_from_case_to_case_are_told_by_their_names(tmp_path: Path):
    dataset = find_dataset(renumbered(tmp_path))
    assert dataset.labels == {0: "background", 1: "liver", 2: "spleen"}
    (said,) = [p.message for p in dataset.problems]
    assert said == (
        "segments are told by their names, as their numbers differ from case to case: 1 is 'liver' and 'spleen'"
    )
    first, second = (read_truth(case, LabelScheme(dataset.labels)).array for case in dataset.cases)
    np.testing.assert_array_equal(first, drawn())
    np.testing.assert_array_equal(second, np.array([0, 2, 1])[drawn()])
    inspection = inspect_dataset(dataset, choice=LabelChoice({3: "spleen"}))
    assert not inspection.errors
    assert [facts.label_voxels for facts in inspection.facts.values()] == [{0: 708, 3: 12}, {0: 672, 3: 48}]
    write_volume(tmp_path / "found" / "p2.nii.gz", Volume(np.array([0, 2, 1], np.uint8)[drawn()], AFFINE))
    write_volume(tmp_path / "found" / "p1.nii.gz", Volume(drawn(), AFFINE))
    summary = evaluate(tmp_path / "found", tmp_path)
    assert [case.mean("Dice") for case in summary.cases] == [1, 1]
    write_summary(summary, tmp_path / "scores.json")
    read = read_summary(tmp_path / "scores.json")
    shown = read_case(Source(tmp_path / "scores.json", read, scheme=read.scheme), read.cases[1])
    np.testing.assert_array_equal(shown.truth.array, shown.mask.array)


def test_what_cannot_be_told_by_names_is_refused(tmp_path: Path):
    renumbered(tmp_path)
    extra = tmp_path / "labels" / "p3.seg.nrrd"
    write_volume(tmp_path / "images" / "p3.nrrd", Volume(drawn().astype(np.float32), AFFINE))
    save(extra, drawn(), AFFINE, [("liver", 1, 0), ("liver", 2, 0)])
    with pytest.raises(DataError, match=r"p3.seg.nrrd: calls two segments 'liver', and the numbers of segments differ"):
        find_dataset(tmp_path)
    extra.unlink()
    write_volume(tmp_path / "labels" / "p3.nrrd", Volume(drawn(), AFFINE))
    with pytest.raises(DataError, match=r"p3.nrrd: has no names, and the numbers of segments differ"):
        find_dataset(tmp_path)
