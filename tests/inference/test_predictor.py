"""Prediction: on the scan's own grid whatever it is, the same as one slice at a time, and from the bundle alone."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from fullscale.bundle.store import load_bundle
from fullscale.data.recipe import image_slices, slice_geometry
from fullscale.data.volume_files import write_volume
from fullscale.errors import DataError, UsageError
from fullscale.geometry.orientation import reorient
from fullscale.geometry.volume import Volume
from fullscale.inference.predictor import Predictor, view_of
from fullscale.inference.runtimes.torch import choose_device
from fullscale.views.slices import with_neighbours


def test_a_mask_keeps_the_grid_and_header_of_its_scan(predictor: Predictor, scan: Volume, tmp_path: Path) -> None:
    mask = predictor.predict(scan)
    assert mask.shape == scan.shape
    assert mask.array.dtype == np.uint8
    write_volume(tmp_path / "mask.nii.gz", mask)
    back = sitk.ReadImage(tmp_path / "mask.nii.gz")
    assert back.GetSize() == scan.shape
    np.testing.assert_allclose(back.GetSpacing(), scan.spacing_mm, rtol=1e-5)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAI", "SRA", "PIR"])
def test_the_same_patient_gets_the_same_mask_however_stored(predictor: Predictor, scan: Volume, codes: str) -> None:
    expected = reorient(predictor.predict(scan), "RAS")
    found = reorient(predictor.predict(reorient(scan, codes)), "RAS")
    np.testing.assert_array_equal(found.array, expected.array)
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-6)


def test_batches_change_nothing(trained_run: Path, scan: Volume) -> None:
    masks = [Predictor.from_run(trained_run, "cpu", size).predict(scan).array for size in (1, 5, None)]
    np.testing.assert_array_equal(masks[0], masks[1])
    np.testing.assert_array_equal(masks[0], masks[2])


def test_the_mask_is_the_networks_answer_slice_by_slice(trained_run: Path, predictor: Predictor, scan: Volume) -> None:
    recipe = predictor.card.recipe
    geometry = slice_geometry(scan, recipe)
    slices = image_slices({"image": scan}, geometry, recipe)
    middle = slices.shape[1] // 2
    image = torch.from_numpy(with_neighbours(slices, middle, recipe.neighbours))[None]
    with torch.no_grad():
        logits = load_bundle(trained_run).members[0].network(image)
        logits = torch.nn.functional.interpolate(logits, geometry.shape[1:], mode="bilinear")
    expected = np.array([0, *predictor.card.structures])[logits.argmax(1)[0].numpy()]
    canonical = reorient(predictor.predict(scan), "RAS").array
    np.testing.assert_array_equal(canonical[:, :, middle].T, expected)


def test_probabilities_agree_with_the_mask(predictor: Predictor, scan: Volume) -> None:
    mask, soft = predictor.predict_probabilities(scan)
    assert list(soft) == ["liver", "spleen"]
    np.testing.assert_array_equal(mask.array, predictor.predict(scan).array)
    liver, spleen = (soft[name].array.astype(np.float32) for name in ("liver", "spleen"))
    assert liver.min() >= 0
    assert (liver + spleen).max() <= 1.001
    background = 1 - liver - spleen
    clear = np.abs(np.sort(np.stack([background, liver, spleen]), axis=0)[-1] - 0.5) > 0.01
    chosen = np.stack([background, liver, spleen]).argmax(0)
    assert (chosen == mask.array)[clear & (background > 0.5)].all()


def test_a_structure_gated_away_has_probability_exactly_zero(trained_run: Path, scan: Volume) -> None:
    [member] = load_bundle(trained_run).members
    with torch.no_grad():
        member.network.guidance.conv.bias[0] = 1e6  # type: ignore[union-attr,index]
    mask, soft = Predictor.from_network(member.card, member.network, "cpu").predict_probabilities(scan)
    assert not soft["liver"].array.any()
    assert not (mask.array == 1).any()


def test_a_bundle_predicts_alone_and_is_read_without_pickle(
    trained_run: Path, scan: Volume, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained_run / "bundle", tmp_path / "elsewhere")
    monkeypatch.setattr("pickle.load", lambda *_: pytest.fail("a pickle was read"))
    monkeypatch.setattr("torch.load", lambda *_, **__: pytest.fail("torch.load was called"))
    alone = Predictor.from_run(tmp_path / "elsewhere", device="cpu")
    np.testing.assert_array_equal(alone.predict(scan).array, predictor.predict(scan).array)
    assert "synthetic" in json.loads((tmp_path / "elsewhere" / "model.json").read_text())["provenance"]["dataset"]


def test_damaged_bundles_are_refused_in_one_line(trained_run: Path, tmp_path: Path) -> None:
    def copy(name: str) -> Path:
        return Path(shutil.copytree(trained_run / "bundle", tmp_path / name))

    with pytest.raises(DataError, match="does not exist"):
        load_bundle(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no model"):
        load_bundle(tmp_path / "empty")
    cut = copy("cut") / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"cannot read the weights"):
        load_bundle(cut.parent)
    gone = copy("gone") / "model.safetensors"
    gone.unlink()
    with pytest.raises(DataError, match=r"cannot read .*model\.safetensors: No such file"):
        load_bundle(gone.parent)
    newer = copy("newer") / "model.json"
    newer.write_text(newer.read_text().replace('"format": 2', '"format": 3'))
    with pytest.raises(DataError, match=r"model\.json is not a model card of this version: format"):
        load_bundle(newer.parent)
    wider = copy("wider") / "model.json"
    wider.write_text(wider.read_text().replace('"width": 4', '"width": 8'))
    with pytest.raises(DataError, match=r"does not fit the network"):
        load_bundle(wider.parent)


def test_nan_and_odd_scans(predictor: Predictor) -> None:
    broken = np.zeros((20, 20, 4), dtype=np.float32)
    broken[0, 0, 0] = np.nan
    with pytest.raises(DataError, match="1 NaN"):
        predictor.predict(Volume(broken, np.diag([2.0, 2, 5, 1])))
    for shape in ((9, 33, 1), (1, 40, 3), (17, 5, 2)):
        assert predictor.predict(Volume(np.zeros(shape, dtype=np.int16), np.diag([2.0, 2, 5, 1]))).shape == shape


def test_an_array_is_a_scan_once_its_spacing_is_said(predictor: Predictor, scan: Volume) -> None:
    upright = reorient(scan, "RAS")
    expected = predictor.predict(Volume(upright.array, np.diag([*upright.spacing_mm, 1])))
    stored = np.asarray(upright.array, dtype=np.int16)
    for array in (stored, stored.astype(np.float64), torch.from_numpy(stored.copy()), stored[:, ::1]):
        found = predictor.predict(array, spacing_mm=upright.spacing_mm)
        np.testing.assert_array_equal(found.array, expected.array)
        np.testing.assert_allclose(found.spacing_mm, upright.spacing_mm)
    mask, soft = predictor.predict_probabilities(stored, spacing_mm=list(upright.spacing_mm))
    np.testing.assert_array_equal(mask.array, expected.array)
    assert list(soft) == ["liver", "spleen"]


def test_what_is_no_scan_is_refused_with_what_to_pass(predictor: Predictor, scan: Volume) -> None:
    array = np.zeros((4, 5, 6), dtype=np.int16)
    with pytest.raises(UsageError, match=r"pass spacing_mm=\(x, y, z\) in mm for axes \[X, Y, Z\]"):
        predictor.predict(array)
    for spacing in ((1, 1), (1, 1, 0), (1, 1, -1), (1, 1, np.nan), 1.0):
        with pytest.raises(UsageError, match="spacing_mm is"):
            predictor.predict(array, spacing_mm=spacing)  # type: ignore[arg-type]
    for wrong in (array[0], array[None], array.astype(complex), array.astype(object)):
        with pytest.raises(UsageError, match=r"expected numbers \[X, Y, Z\]"):
            predictor.predict(wrong, spacing_mm=(1, 1, 1))
    with pytest.raises(UsageError, match="has its own spacing"):
        predictor.predict(scan, spacing_mm=(1, 1, 1))
    with pytest.raises(UsageError, match="a list is no scan"):
        predictor.predict([[[0]]])  # type: ignore[arg-type]


def test_a_scan_too_large_for_the_memory_is_refused_before_anything_is_allocated(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = np.broadcast_to(np.zeros(1, dtype=np.int16), (40_000, 40_000, 2_000))
    with pytest.raises(
        DataError,
        match=r"40000x40000x2000 voxels needs .* GiB of memory .* are free; crop it to \d+ of its 2000 slices",
    ):
        predictor.predict(huge, spacing_mm=(0.01, 0.01, 1))
    small = np.zeros((20, 20, 4), dtype=np.int16)
    recipe = predictor.card.recipe  # type: ignore[union-attr]
    shape = slice_geometry(Volume(small, np.diag([2.0, 2, 5, 1])), recipe).network_shape
    needed = 3 * small.size + 4 * int(np.prod(shape))
    monkeypatch.setattr("fullscale.inference.memory.available_memory", lambda: needed)
    predictor.predict(small, spacing_mm=(2, 2, 5))
    monkeypatch.setattr("fullscale.inference.memory.available_memory", lambda: needed - 1)
    with pytest.raises(DataError, match=r"20x20x4 voxels needs .* crop it to 3 of its 4 slices, or"):
        predictor.predict(small, spacing_mm=(2, 2, 5))


def test_devices_that_are_not_there_are_refused() -> None:
    for name in ("cuda:99", "tpu", "nonsense", "meta"):
        with pytest.raises(UsageError, match="device"):
            choose_device(name)


def test_slices_come_in_order(predictor: Predictor) -> None:
    slices = np.random.default_rng(0).normal(size=(1, 7, 20, 26)).astype(np.float32)
    member = predictor.members[0]
    batches = list(view_of(member.card, batch_size=3).maps(member.runtime.logits, slices, torch.device("cpu")))
    assert [tuple(batch.shape) for batch in batches] == [(3, 3, 20, 26), (3, 3, 20, 26), (1, 3, 20, 26)]
