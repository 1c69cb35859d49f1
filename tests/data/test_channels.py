"""Several channels: which file is which, in every layout, on one grid, in one order."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fullscale.data.case import WHOLE_SET, Case
from fullscale.data.channels import join_channels, read_scan
from fullscale.data.checks import inspect_dataset
from fullscale.data.discover import Scan, discover
from fullscale.data.layouts.find import find_dataset
from fullscale.data.plan import make_plan
from fullscale.data.read import read_channels
from fullscale.data.recipe import Intensity, Recipe, image_slices, slice_geometry
from fullscale.data.volume_files import write_volume
from fullscale.errors import DataError, GeometryError
from fullscale.geometry.volume import Volume

AFFINE = np.diag([1.5, 1.5, 2.0, 1.0])
SHAPE = (12, 10, 8)


def write(path: Path, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> Path:
    array = np.random.default_rng(seed).normal(seed, 1, shape).astype(np.float32)
    write_volume(path, Volume(array, AFFINE))
    return path


def write_label(path: Path) -> Path:
    label = np.zeros(SHAPE, dtype=np.uint8)
    label[3:8, 3:8, 2:6] = 1
    write_volume(path, Volume(label, AFFINE))
    return path


def problems(root: Path, case: str) -> list[str]:
    return [p.message for p in find_dataset(root).problems if p.case == case and p.severity == "error"]


def nnunet(root: Path, **description: object) -> Path:
    for number, case in enumerate(("a", "b")):
        for channel in range(2):
            write(root / "imagesTr" / f"{case}_000{channel}.nii.gz", 10 * channel + number)
        write_label(root / "labelsTr" / f"{case}.nii.gz")
    (root / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "lesion": 1}, **description}))
    return root


def test_nnunets_channels_have_the_declared_names_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    dataset = find_dataset(nnunet(tmp_path, channel_names={"1": "T1c", "0": "FLAIR"}))
    assert dataset.channels == ("FLAIR", "T1c")
    assert dataset.modality == "MRI"
    assert [case.id for case in dataset.cases] == ["a", "b"]
    assert {name: file.name for name, file in dataset.cases[1].channels.items()} == {
        "FLAIR": "b_0000.nii.gz",
        "T1c": "b_0001.nii.gz",
    }


def test_channels_that_nobody_names_have_their_numbers(tmp_path: Path) -> None:
    assert find_dataset(nnunet(tmp_path)).channels == ("0000", "0001")


def test_a_case_that_lacks_a_channel_or_has_one_more_is_named(tmp_path: Path) -> None:
    nnunet(tmp_path, channel_names={"0": "FLAIR", "1": "T1c"})
    (tmp_path / "imagesTr" / "b_0001.nii.gz").unlink()
    assert problems(tmp_path, "b") == ["has the channels FLAIR, the data set FLAIR, T1c"]
    write(tmp_path / "imagesTr" / "b_0001.nii.gz")
    write(tmp_path / "imagesTr" / "b_0002.nii.gz")
    assert problems(tmp_path, "b") == ["has the channels FLAIR, T1c, 0002, the data set FLAIR, T1c"]


def test_the_decathlons_channels_lie_along_the_fourth_axis(tmp_path: Path) -> None:
    import nibabel as nib

    array = np.random.default_rng(0).normal(size=(*SHAPE, 2)).astype(np.float32)
    (tmp_path / "imagesTr").mkdir()
    nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / "imagesTr" / "a.nii.gz")
    write_label(tmp_path / "labelsTr" / "a.nii.gz")
    described = {
        "modality": {"0": "FLAIR", "1": "T1w"},
        "labels": {"0": "background", "1": "tumour"},
        "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    [case] = find_dataset(tmp_path).cases
    channels = read_channels(case.channels)
    assert list(channels) == ["FLAIR", "T1w"]
    for index, channel in enumerate(channels.values()):
        np.testing.assert_array_equal(channel.array, array[..., index])
        np.testing.assert_allclose(channel.affine, AFFINE)
    described["modality"] = {"0": "FLAIR", "1": "T1w", "2": "T2w"}
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    inspection = inspect_dataset(find_dataset(tmp_path))
    [problem] = [p.message for p in inspection.problems if p.case == "a"]
    assert "a.nii.gz: has shape (12, 10, 8, 2), expected 3 channels along a fourth axis" in problem


def test_a_folder_a_patient_tells_channels_and_label_by_their_names(tmp_path: Path) -> None:
    for patient in ("BraTS_001", "BraTS_002"):
        for seed, part in enumerate(("flair", "t1ce")):
            write(tmp_path / patient / f"{patient}_{part}.nii.gz", seed)
        write_label(tmp_path / patient / f"{patient}_seg.nii.gz")
    dataset = find_dataset(tmp_path)
    assert dataset.layout == "a folder a patient"
    assert dataset.channels == ("flair", "t1ce")
    assert [case.label.name for case in dataset.cases if case.label] == ["BraTS_001_seg.nii.gz", "BraTS_002_seg.nii.gz"]
    (tmp_path / "BraTS_002" / "BraTS_002_t1ce.nii.gz").rename(tmp_path / "BraTS_002" / "BraTS_002_t2.nii.gz")
    assert problems(tmp_path, "BraTS_002") == ["has the channels flair, t2, the data set flair, t1ce"]


def test_an_ending_that_all_channels_share_is_no_part_of_their_names(tmp_path: Path) -> None:
    for part in ("Flair_norm", "T1c_norm", "brainmask"):
        write(tmp_path / "p1" / f"{part}.nii.gz")
    write_label(tmp_path / "p1" / "OTMultiClass.nii.gz")
    dataset = find_dataset(tmp_path)
    assert dataset.channels == ("Flair", "T1c")
    assert [p.message for p in dataset.problems] == ["brainmask.nii.gz is no channel, and passed over"]


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_a_list_names_a_channel_in_each_column(tmp_path: Path, suffix: str) -> None:
    for name in ("x", "y"):
        write(tmp_path / f"{name}.nii.gz")
    write_label(tmp_path / "m.nii.gz")
    rows = [{"image:Flair": "x.nii.gz", "image:T1c": "y.nii.gz", "label": "m.nii.gz", "case": "one"}]
    listed = tmp_path / f"cases{suffix}"
    csv = "\n".join(",".join(values) for values in (rows[0], rows[0].values()))
    listed.write_text(csv if suffix == ".csv" else json.dumps(rows))
    dataset = find_dataset(listed)
    assert dataset.channels == ("Flair", "T1c")
    assert [file.name for file in dataset.cases[0].channels.values()] == ["x.nii.gz", "y.nii.gz"]
    listed.write_text(
        "image,image:T1c\nx.nii.gz,y.nii.gz" if suffix == ".csv" else json.dumps([{"image": "x", **rows[0]}])
    )
    with pytest.raises(DataError, match="names an image and channels"):
        find_dataset(listed)


def test_channels_on_other_grids_are_refused_with_both(tmp_path: Path) -> None:
    files = {"t1": write(tmp_path / "t1.nii.gz"), "t2": write(tmp_path / "t2.nii.gz", shape=(12, 10, 9))}
    with pytest.raises(GeometryError, match=r"channels t1 and t2 lie on different grids: .*12.*10.*8.*12.*10.*9"):
        read_channels(files)
    label = write_label(tmp_path / "label.nii.gz")
    inspection = inspect_dataset(
        find_dataset(_listed(tmp_path, {"image:t1": "t1.nii.gz", "image:t2": "t2.nii.gz", "label": label.name}))
    )
    assert not inspection.facts
    assert "channels t1 and t2" in inspection.errors[0].message


def _listed(folder: Path, row: dict[str, str]) -> Path:
    (folder / "cases.json").write_text(json.dumps([row]))
    return folder / "cases.json"


def test_every_channel_is_looked_at_and_normalised_by_itself(tmp_path: Path) -> None:
    inspection = inspect_dataset(find_dataset(nnunet(tmp_path, channel_names={"0": "CT", "1": "PET"})))
    facts = inspection.facts["a"]
    assert list(facts.channels) == ["CT", "PET"]
    assert facts.channels["PET"].intensity_percentiles[1] == pytest.approx(10, abs=0.2)
    plan = make_plan(inspection, view="slices")
    assert {name: intensity.per for name, intensity in plan.recipe.intensities.items()} == {
        "CT": "dataset",
        "PET": "scan",
    }
    assert plan.recipe.in_channels == 6
    json.loads(json.dumps(inspection.as_dict()))


def test_a_warning_names_the_channel_it_is_about(tmp_path: Path) -> None:
    nnunet(tmp_path, channel_names={"0": "FLAIR", "1": "T1c"})
    flat = np.zeros(SHAPE, dtype=np.float32)
    write_volume(tmp_path / "imagesTr" / "a_0001.nii.gz", Volume(flat, AFFINE))
    inspection = inspect_dataset(find_dataset(tmp_path))
    errors = [p.message for p in inspection.problems if (p.case, p.severity) == ("a", "error")]
    assert errors == ["T1c: every voxel of the image is 0: there is nothing to see"]
    assert not [p for p in inspection.problems if p.case == WHOLE_SET]


def test_prepared_channels_are_those_of_each_alone(tmp_path: Path) -> None:
    files = {"t1": write(tmp_path / "t1.nii.gz", 1), "t2": write(tmp_path / "t2.nii.gz", 2)}
    channels = read_channels(files)
    each = {"t1": Intensity(per="dataset", low=-5, high=5), "t2": Intensity(per="scan")}
    both = Recipe(intensity=each, spacing_mm=1.0, neighbours=0)
    geometry = slice_geometry(channels["t1"], both)
    found = image_slices(channels, geometry, both)
    for index, (name, intensity) in enumerate(each.items()):
        alone = Recipe(intensity=intensity, spacing_mm=1.0, neighbours=0)
        np.testing.assert_array_equal(found[index], image_slices({"image": channels[name]}, geometry, alone)[0])
    assert Recipe.model_validate_json(both.model_dump_json()) == both
    assert hash(both) == hash(both.model_copy())


def loose(folder: Path, *names: str) -> list[Scan]:
    for name in names:
        write(folder / name)
    return discover(folder).scans


def test_loose_files_are_put_together_by_number_or_by_name(tmp_path: Path) -> None:
    numbered = loose(tmp_path / "n", "b_0001.nii.gz", "a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz")
    joined = join_channels(numbered, ("FLAIR", "T1c"))
    assert [(scan.name, {c: f.name for c, f in scan.channels.items()}) for scan in joined] == [
        ("a", {"FLAIR": "a_0000.nii.gz", "T1c": "a_0001.nii.gz"}),
        ("b", {"FLAIR": "b_0000.nii.gz", "T1c": "b_0001.nii.gz"}),
    ]
    named = loose(tmp_path / "m", "p-7_flair.nii.gz", "p-7_T1c.nii.gz")
    [scan] = join_channels(named, ("T1c", "FLAIR"))
    assert (scan.name, list(scan.channels)) == ("p-7", ["T1c", "FLAIR"])
    folder = loose(tmp_path / "f", "p1/flair.nii.gz", "p1/t1c.nii.gz", "p2/t1c.nii.gz", "p2/flair.nii.gz")
    assert [scan.name for scan in join_channels(folder, ("FLAIR", "T1c"))] == ["p1", "p2"]
    assert join_channels(numbered, ("image",)) == numbered


def test_an_image_in_colours_is_for_a_model_of_colours_alone(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (9, 5, 2)).save(tmp_path / "a.png")
    scan = Scan("a", tmp_path / "a.png")
    for colours in (("red", "green", "blue"), ("R", "G", "B")):
        assert list(join_channels([scan], colours)[0].channels) == list(colours)
    with pytest.raises(DataError, match=r"a\.png: is in colours; the model takes T1, T2, FLAIR: give a file for each"):
        join_channels([scan], ("T1", "T2", "FLAIR"))


def test_a_scan_without_a_channel_is_refused(tmp_path: Path) -> None:
    scans = loose(tmp_path, "a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz")
    with pytest.raises(DataError, match="b: has no file of the channel T1c; the model takes FLAIR, T1c"):
        join_channels(scans, ("FLAIR", "T1c"))
    case = Case("a", {"FLAIR": tmp_path / "a_0000.nii.gz", "T1c": tmp_path / "a_0001.nii.gz"}, None, "a")
    whole = Scan("a", case.first, channels=case.channels)
    assert list(read_scan(whole, ("T1c",))) == ["T1c"]
    with pytest.raises(DataError, match="a: has the channels FLAIR, T1c, the model takes T2"):
        read_scan(whole, ("T2",))
