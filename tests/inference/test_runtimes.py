"""A run computed by another runtime: its graph is made once and kept, and made anew where it does not fit."""

import json
import logging
import re
import shutil
import sys
import threading
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor

from fullscale.bundle.card import ModelCard
from fullscale.bundle.store import load_bundle, save_bundle, save_ensemble
from fullscale.data.recipe import Intensity, Recipe
from fullscale.data.volume_files import read_volume
from fullscale.errors import DataError, UsageError
from fullscale.geometry.volume import Volume
from fullscale.inference.archive import predict_archive
from fullscale.inference.attempt import ArchiveRequest, ModelRequest
from fullscale.inference.entries import find_entries
from fullscale.inference.export import precision, quickest
from fullscale.inference.export.precision import Change, changes, objection
from fullscale.inference.forecast import cost_of, describe_forecast
from fullscale.inference.predictor import Predictor
from fullscale.inference.region import RegionMode
from fullscale.inference.runtimes.blobs import Blobs
from fullscale.inference.runtimes.load import load_members
from fullscale.inference.runtimes.torch import TorchRuntime
from fullscale.inference.timing import times_faster
from fullscale.networks import create_network
from fullscale.work.ledger import Ledger
from tests.conftest import Command, Once
from tests.faults.damage import held_to_rights

INTENSITY = Intensity(per="dataset", low=-100, high=300, mean=50, std=80)
MADE = "is brought to"

traces = pytest.mark.slow
"""A network is traced, by the test or by its fixture, which takes its time."""


def saved(folder: Path, seed: int = 0, spatial_dims: int = 2) -> Path:
    """Write a bundle of two levels and random weights."""
    card = ModelCard(
        network="unet3+",
        options={"levels": 2, "width": 4, "skip_channels": 4, "spatial_dims": spatial_dims},
        labels={1: "structure"},
        recipe=Recipe(intensity=INTENSITY, spacing_mm=None)
        if spatial_dims == 2
        else Recipe(intensity=INTENSITY, spacing_mm=None, view="patches", neighbours=0),
        tile_size=None if spatial_dims == 2 else (16, 24, 24),
        modality="CT",
    )
    torch.manual_seed(seed)
    save_bundle(folder, card, card.build().state_dict())
    return folder


@pytest.fixture(autouse=True)
def without_bf16(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Random weights are unsure everywhere, so that bf16 is tested by itself; speeds are not left to the machine.

    And no test keeps a graph for others.
    """
    monkeypatch.setattr(quickest, "has_bf16", lambda: False)
    monkeypatch.setattr(quickest, "times_faster", lambda *_: 2.0)
    monkeypatch.setenv("FULLSCALE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def made(once: Once) -> Path:
    """A bundle beside which a graph for OpenVINO is kept."""

    def make(folder: Path) -> None:
        patch = pytest.MonkeyPatch()
        patch.setattr(quickest, "has_bf16", lambda: False)
        patch.setattr(quickest, "times_faster", lambda *_: 2.0)
        load_members(saved(folder), "cpu", "openvino")
        patch.undo()

    return once("bundle-with-graph", make)


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "bundle"))


def graphs(bundle: Path) -> list[Path]:
    return sorted(path for path in (bundle / "runtimes").iterdir() if path.is_dir())


def copy_graph(made: Path, output: Path) -> None:
    """Take the graph that was made instead of making it."""
    for file in graphs(made)[0].glob("network.*"):
        shutil.copy(file, output.parent)


def computed_by(bundle: Path, runtime: str, device: str = "auto") -> str:
    _, [member] = load_members(bundle, device, runtime)  # type: ignore[arg-type]
    return member.runtime.describe().split(" on ")[0]


@traces
def test_it_is_made_once_and_computes_what_pytorch_computes(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(quickest, "export_model", None)  # it would be called in vain
    caplog.set_level(logging.INFO)
    _, [there] = load_members(bundle, "auto", "openvino")
    [member] = load_bundle(bundle).members
    image = torch.randn(2, 3, 50, 41)
    expected = TorchRuntime(member.network).logits(image)
    torch.testing.assert_close(there.runtime.logits(image), expected, rtol=1e-4, atol=1e-4)
    assert not caplog.records
    [graph] = graphs(bundle)
    blobs = sorted((graph / "compiled").iterdir())
    assert len(blobs) == 2, "encoder and decoder"
    for damage in (lambda: None, lambda: blobs[0].write_bytes(blobs[0].read_bytes()[:-9]), blobs[1].unlink):
        damage()
        _, [again] = load_members(bundle, "auto", "openvino")
        torch.testing.assert_close(again.runtime.logits(image), expected, rtol=1e-4, atol=1e-4)


@traces
@pytest.mark.parametrize("region", ["whole", "coarse"])
def test_what_a_graph_costs_is_measured_on_a_size_that_the_scan_needs(
    region: RegionMode, bundle: Path, phantoms: Path
) -> None:
    predictor = Predictor.from_run(bundle, region=region, runtime="openvino")
    scan = read_volume(next((phantoms / "imagesTs").iterdir()))
    if region == "coarse":  # a small scan is seen whole
        scan = Volume(scan.array.repeat(3, axis=0).repeat(3, axis=1), scan.affine)
    said = describe_forecast(predictor, scan, cost_of(predictor))
    assert said is not None
    assert re.search(r"voxels, about (at most )?\d+ s$", said), "how much memory is not known"
    folder = graphs(bundle)[0] / "compiled"
    measured = {path.name for path in folder.iterdir()}
    shutil.rmtree(folder)
    Predictor.from_run(bundle, region=region, runtime="openvino").predict(scan)
    needed = {path.name for path in folder.iterdir()}
    assert measured <= needed
    assert measured


@traces
def test_auto_takes_openvino_where_its_graph_is_kept_and_quicker(
    bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert computed_by(bundle, "auto") == "OpenVINO in float32"
    assert computed_by(bundle, "torch") == "PyTorch in float32"
    assert "PyTorch" in Predictor.from_run(bundle).describe()
    assert "OpenVINO" in ModelRequest(bundle, runtime="auto").load().describe()
    assert computed_by(saved(tmp_path / "other"), "auto") == "PyTorch in float32"
    [graph] = graphs(bundle)
    record = json.loads((graph / "kept.json").read_text())
    for speed, runtime in ((1.04, "PyTorch"), (1.06, "OpenVINO")):
        (graph / "kept.json").write_text(json.dumps(record | {"speed": speed}))
        assert computed_by(bundle, "auto").startswith(runtime)
        assert computed_by(bundle, "openvino").startswith("OpenVINO"), "where it is asked for"
        assert ("not quicker than PyTorch" in caplog.text) == (runtime == "PyTorch")
        caplog.clear()
    save_ensemble(tmp_path / "two", {"a": bundle, "b": tmp_path / "other"})
    shutil.copytree(bundle / "runtimes", tmp_path / "two" / "a" / "runtimes")
    _, members = load_members(tmp_path / "two", "cpu", "auto")
    assert {member.runtime.describe().split()[0] for member in members} == {"PyTorch"}, "all or none"


@traces
@pytest.mark.parametrize("fault", ["weights", "record", "version", "runtime", "model", "torn"])
def test_what_does_not_fit_is_not_used_by_auto_and_made_anew_when_asked_for(
    fault: str, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    [graph] = graphs(bundle)
    record = json.loads((graph / "kept.json").read_text())
    if fault == "weights":
        content = bytearray((graph / "network.bin").read_bytes())
        content[len(content) // 2] ^= 0x10
        (graph / "network.bin").write_bytes(content)
        told = "network.bin has changed"
    elif fault == "torn":
        (graph / "kept.json").unlink()
        told = "cannot read what is kept"
    elif fault == "record":
        (graph / "kept.json").write_text("{")
        told = "kept.json"
    elif fault == "version":
        (graph / "kept.json").write_text(json.dumps(record | {"fullscale": "0.1.0"}))
        told = "was made for fullscale 0.1.0"
    elif fault == "runtime":
        (graph / "kept.json").write_text(json.dumps(record | {"runtime": "2020.1"}))
        told = "was made for OpenVINO 2020.1"
    else:
        other = saved(tmp_path / "other", seed=1)
        shutil.copytree(bundle / "runtimes", other / "runtimes")
        bundle, told = other, "was made for another model"
    assert computed_by(bundle, "auto") == "PyTorch in float32"
    assert "PyTorch computes instead" in caplog.text
    assert told in caplog.text
    caplog.clear()
    begun: list[Path] = []

    def export(folder: Path, *_: object) -> None:
        begun.append(folder)
        raise DataError("that far")

    monkeypatch.setattr(quickest, "export_model", export)
    with pytest.raises(DataError, match="that far; the runtime torch needs no graph"):
        load_members(bundle, "cpu", "openvino")
    assert begun == [bundle]
    assert told in caplog.text
    assert "made anew" in caplog.text
    assert graphs(bundle) == [bundle / "runtimes" / graph.name], "what was there stays until the new one is whole"


@pytest.mark.long
@traces
def test_a_graph_of_another_version_is_replaced(bundle: Path) -> None:
    [graph] = graphs(bundle)
    before = json.loads((graph / "kept.json").read_text())
    (graph / "kept.json").write_text(json.dumps(before | {"fullscale": "0.1.0"}))
    assert computed_by(bundle, "openvino") == "OpenVINO in float32"
    assert json.loads((graph / "kept.json").read_text()) == before
    assert graphs(bundle) == [graph]


@traces
def test_two_at_once_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Path) -> None:
    bundle, made_by = saved(tmp_path / "bundle"), []

    def export(folder: Path, output: Path, *_: object) -> None:
        made_by.append(folder)
        copy_graph(made, output)

    monkeypatch.setattr(quickest, "export_model", export)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(computed_by(bundle, "openvino"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["OpenVINO in float32"] * 2
    assert made_by == [bundle]


@traces
def test_beside_a_bundle_that_cannot_be_written_the_users_cache_keeps_it(
    tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = saved(tmp_path / "bundle")

    monkeypatch.setattr(quickest, "export_model", lambda _, output, *__: copy_graph(made, output))
    bundle.chmod(0o555)
    with held_to_rights():
        assert computed_by(bundle, "openvino") == "OpenVINO in float32"
        assert computed_by(bundle, "auto") == "OpenVINO in float32"
    assert not (bundle / "runtimes").exists()
    assert len(list((tmp_path / "cache" / "runtimes").glob("*/openvino-*/network.xml"))) == 1


@traces
@pytest.mark.parametrize(
    ("most", "chosen"), [(1.0, "OpenVINO in bf16, the encoder in float32"), (-1.0, "float32 (bf16 changes")]
)
def test_bf16_is_used_where_masks_stay_and_otherwise_it_is_said(
    most: float, chosen: str, tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, forms = saved(tmp_path / "bundle"), []

    def export(_: Path, output: Path, __: str, form: str) -> None:
        forms.append(form)
        copy_graph(made, output)

    monkeypatch.setattr(quickest, "export_model", export)
    monkeypatch.setattr(quickest, "has_bf16", lambda: True)
    monkeypatch.setattr(precision, "MOST_CHANGED", most)
    monkeypatch.setattr(precision, "MOST_DICE", 1.0)
    for runtime in ("openvino", "auto"):  # made, and found
        assert chosen in computed_by(bundle, runtime)
    assert forms == (["direct"] if most > 0 else ["direct", "factored"])


@pytest.mark.long
@traces
def test_patches_are_computed_by_openvino(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = saved(tmp_path / "bundle", spatial_dims=3)
    monkeypatch.setattr(quickest, "has_bf16", lambda: True)
    predictors = [Predictor.from_run(bundle, "cpu", runtime=name) for name in ("torch", "openvino")]  # type: ignore[arg-type]
    scan = np.random.default_rng(0).normal(50, 80, (30, 26, 20)).astype(np.float32)
    masks = [predictor.predict(scan, spacing_mm=(1, 1, 1)).array for predictor in predictors]
    assert 0 < masks[0].mean() < 1
    assert (masks[0] != masks[1]).mean() < (0.05 if "bf16" in predictors[1].describe() else 1e-4)


def test_voxels_that_change_are_counted_for_each_structure_that_is_found() -> None:
    """Liver is what is bright, and one row of it is lost; of the spleen there is too little to say anything."""
    card = ModelCard(
        network="unet3+",
        labels={1: "liver", 2: "spleen"},
        recipe=Recipe(intensity=INTENSITY, spacing_mm=None, neighbours=0),
        modality="CT",
    )
    liver = 0

    def exact(image: Tensor) -> Tensor:
        nonlocal liver
        liver += int((image > 0).sum())
        return torch.cat([torch.zeros_like(image), image, torch.full_like(image, -1)], dim=1)

    def quick(image: Tensor) -> Tensor:
        logits = exact(image)
        logits[..., 96, :] = 0
        return logits

    assert changes(card, exact, exact) == [Change("liver", liver // 2, 0, 1.0)]
    liver = 0
    [found] = changes(card, exact, quick)
    assert found.voxels == liver // 2
    assert 0.003 < found.changed / found.voxels < 0.01
    assert found.dice == pytest.approx(1 - found.changed / (2 * found.voxels - found.changed))
    assert objection([found]).startswith("bf16 changes 0.")
    assert objection([]).startswith("bf16 could not be checked")
    assert objection([Change("liver", 10_000, 10, 0.9995)]) == ""
    assert objection([Change("liver", 10_000, 11, 0.9995)]) != ""
    assert objection([Change("liver", 10_000, 10, 0.9979)]) != ""


def test_the_quicker_of_two_runtimes_is_known() -> None:
    class Slow:
        device = torch.device("cpu")

        def __init__(self, seconds: float) -> None:
            self.seconds, self.shapes = seconds, list[tuple[int, ...]]()

        def segment(self, image: Tensor) -> tuple[Tensor, None]:
            time.sleep(self.seconds)
            self.shapes.append(tuple(image.shape))
            return image, None

    card = ModelCard(
        network="unet",
        options={"spatial_dims": 3},
        labels={1: "structure"},
        recipe=Recipe(intensity=INTENSITY, spacing_mm=None, view="patches", neighbours=0),
        tile_size=(16, 96, 32),
        modality="CT",
    )
    quick, slow = Slow(0.005), Slow(0.05)
    assert times_faster(quick, slow, card) > 1 > times_faster(slow, quick, card)  # type: ignore[arg-type]
    assert set(quick.shapes) == set(slow.shapes) == {(1, 1, 16, 64, 32)}


@pytest.mark.parametrize("channels", [1, 3])
def test_maps_are_channels_last_on_a_cpu(channels: int) -> None:
    network = create_network("unet", channels, 2, width=4).eval()
    laid_out: list[bool] = []
    for level in network.encoder.levels:  # type: ignore[attr-defined]
        level.register_forward_hook(lambda *given: laid_out.append(given[-1].stride(1) == 1))
    TorchRuntime(network).logits(torch.randn(2, channels, 32, 32))
    assert laid_out
    assert all(laid_out)


def test_blobs_come_back_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = Blobs(tmp_path / "compiled")
    assert blobs.get("a") is None
    blobs.put("a", b"graph")
    assert blobs.get("a") == b"graph"
    (tmp_path / "compiled" / "a").write_bytes((tmp_path / "compiled" / "a").read_bytes()[:-1])
    assert blobs.get("a") is None
    monkeypatch.setattr("fullscale.inference.runtimes.blobs.MOST_BYTES", 40)
    blobs.put("b", b"graph")
    assert blobs.get("b") is None, "there is no room for it"
    Blobs(tmp_path / "compiled" / "a").put("c", b"graph")  # the folder is a file: nothing is kept


def test_what_contradicts_itself_or_is_not_installed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = saved(tmp_path / "bundle")
    with pytest.raises(UsageError, match=r"OpenVINO is computed on the CPU, not on 'cuda'; use the device cpu, or"):
        load_members(bundle, "cuda", "openvino")
    with pytest.raises(UsageError, match="runtime 'tensorrt' is unknown: expected auto, torch, onnx, openvino"):
        load_members(bundle, "cpu", "tensorrt")  # type: ignore[arg-type]
    (tmp_path / "model.onnx").touch()
    with pytest.raises(UsageError, match=r"model\.onnx is computed by onnx, not by openvino"):
        load_members(tmp_path / "model.onnx", "cpu", "openvino")
    for library, runtime, extra in (("openvino", "openvino", "openvino"), ("onnxruntime", "onnx", "export")):
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(UsageError, match=rf"pip install 'fullscale\[{extra}\]'"):
            load_members(bundle, "cpu", runtime)  # type: ignore[arg-type]
    assert not (bundle / "runtimes").exists()


@traces
def test_an_archive_takes_masks_of_auto_for_those_of_pytorch_and_not_those_of_a_graph(
    bundle: Path, phantoms: Path, tmp_path: Path
) -> None:
    output, [scan] = tmp_path / "out", (phantoms / "imagesTs").glob("*.nii.gz")
    known = []
    for runtime in ("torch", "auto", "openvino", "openvino"):
        request = ArchiveRequest(ModelRequest(bundle, "cpu", runtime=runtime), output)  # type: ignore[arg-type]
        [result] = predict_archive(request, find_entries([scan], request, Ledger(output)), jobs=1)
        assert result.error is None
        known.append(result.earlier)
    assert known == [False, True, False, True]


@traces
def test_a_kept_graph_without_its_runtime_is_passed_over(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert computed_by(bundle, "auto") == "PyTorch in float32"
    assert "pip install 'fullscale[openvino]'" in caplog.text


@pytest.mark.long
@traces
def test_the_command_predicts_with_a_graph_of_onnx(tmp_path: Path, phantoms: Path, fullscale: Command) -> None:
    bundle, scan = saved(tmp_path / "bundle"), phantoms / "imagesTs" / "phantom_006.nii.gz"
    masks = []
    for runtime in ("torch", "onnx", "onnx"):
        done = fullscale("predict", bundle, scan, "-o", tmp_path / runtime, "--runtime", runtime)
        assert done.returncode == 0, done.stderr
        assert (MADE in done.stderr) == (runtime == "onnx" and len(masks) == 1)
        assert ("ONNX Runtime in float32" in done.stderr) == (runtime == "onnx")
        masks.append(np.asarray(nib.load(tmp_path / runtime / scan.name).dataobj))
    assert masks[0].any()
    assert all((mask != masks[0]).mean() < 1e-4 for mask in masks)
