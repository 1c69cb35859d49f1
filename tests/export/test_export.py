"""Exported models: they compute what PyTorch computes, predict by themselves, and are refused where they do not."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from fullscale.bundle.card import read_card
from fullscale.bundle.store import load_bundle, save_bundle, save_ensemble
from fullscale.data.labels import LabelScheme
from fullscale.errors import DataError, FullscaleError, UsageError
from fullscale.inference.export.model import SUFFIXES, export_model
from fullscale.inference.export.parity import LOGIT_TOLERANCE, compare
from fullscale.inference.runtimes.onnx import open_onnx
from fullscale.networks import list_networks, network_options
from tests.conftest import Command, Once
from tests.faults.damage import held_to_rights

traces = pytest.mark.slow
"""A network is traced, by the test or by its fixture, which takes its time."""


@pytest.fixture(scope="session")
def exported(shallow_bundle: Path, once: Once) -> Path:
    def make(folder: Path) -> None:
        folder.mkdir()
        done = export_model(shallow_bundle, folder / "phantom.onnx")
        assert len({case.shape[-2:] for case in done.cases}) >= 4
        assert all(case.difference <= LOGIT_TOLERANCE for case in done.cases)
        assert any(case.with_structure for case in done.cases)

    return once("exported", make) / "phantom.onnx"


@traces
def test_the_file_and_its_card_predict_without_run_or_data(
    exported: Path, shallow_bundle: Path, phantoms: Path, fullscale: Command, tmp_path: Path
) -> None:
    for suffix in (".onnx", ".json"):
        shutil.copy(exported.with_suffix(suffix), tmp_path / f"moved{suffix}")
    scan = phantoms / "imagesTs" / "phantom_006.nii.gz"
    masks = {}
    for model in (tmp_path / "moved.onnx", shallow_bundle):
        output = tmp_path / f"masks_{model.stem}"
        done = fullscale("predict", model, scan, "-o", output)
        assert done.returncode == 0, done.stderr
        masks[model] = np.asarray(nib.load(output / scan.name).dataobj)
    of_onnx, of_torch = masks.values()
    assert of_torch.any()
    assert (of_onnx != of_torch).mean() < 1e-4


@pytest.mark.long
@traces
def test_the_direct_form_exports_too(shallow_bundle: Path, tmp_path: Path) -> None:
    done = export_model(shallow_bundle, tmp_path / "m.onnx", form="direct")
    assert done.form == "direct"
    assert {path.name for path in tmp_path.iterdir()} == {"m.onnx", "m.json"}


@traces
def test_a_torch_program_runs_in_code_of_ones_own(shallow_bundle: Path, tmp_path: Path) -> None:
    export_model(shallow_bundle, tmp_path / "m.pt2", "torch", "direct")
    [member] = load_bundle(shallow_bundle).members
    card, network = member.card, member.network
    image = torch.randn(3, card.recipe.in_channels, 50, 70)
    with torch.inference_mode():
        logits = torch.export.load(tmp_path / "m.pt2").module()(image)
        assert compare("noise", image, network(image), logits, card.scheme).difference <= LOGIT_TOLERANCE


ELSEWHERE = ("deeplabv2", "deeplabv3")
"""Their operations are those of deeplabv3+."""


# ONNX is made of a program of torch.export, so that one more network as such a program is enough.
@pytest.mark.long
@traces
@pytest.mark.parametrize(
    ("name", "format"),
    [(name, "onnx") for name in list_networks() if name not in ELSEWHERE]
    + [("deeplabv3+", "torch"), ("unet3+", "openvino"), ("unet++", "openvino"), ("deeplabv3+", "openvino")],
)
def test_every_network_exports(name: str, format: str, trained_run: Path, tmp_path: Path) -> None:
    card = read_card(trained_run / "bundle" / "model.json")
    sizes = {"encoder": "resnet18" if "lab" in name or "psp" in name else "plain", "width": 4}
    card.network = name
    card.options = {word: size for word, size in sizes.items() if word in network_options(name)}
    torch.manual_seed(0)
    save_bundle(tmp_path / "bundle", card, card.build().state_dict())
    done = export_model(tmp_path / "bundle", tmp_path / f"m{SUFFIXES[format][0]}", format)  # type: ignore[arg-type, index]
    assert all(case.difference <= LOGIT_TOLERANCE for case in done.cases)


@traces
def test_a_model_of_regions_exports(shallow_bundle: Path, tmp_path: Path) -> None:
    regions = {"whole": (1, 2), "core": (2,)}
    before = read_card(shallow_bundle / "model.json")
    card = before.model_copy(update={"regions": regions, "region_order": (1, 2), "postprocess": ()})
    torch.manual_seed(0)
    save_bundle(tmp_path / "bundle", card, card.build().state_dict())
    done = export_model(tmp_path / "bundle", tmp_path / "m.onnx", form="direct")
    assert all(case.difference <= LOGIT_TOLERANCE for case in done.cases)
    read, _ = open_onnx(tmp_path / "m.onnx")
    assert read.scheme.regions == regions


@traces
def test_a_model_that_differs_from_pytorch_is_not_written(
    shallow_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "m.pt2"
    model.write_bytes(b"an older one")
    monkeypatch.setattr("fullscale.inference.export.parity.LOGIT_TOLERANCE", -1)
    with pytest.raises(FullscaleError, match="differs from PyTorch, nothing was written"):
        export_model(shallow_bundle, model, "torch", "direct")
    assert model.read_bytes() == b"an older one"
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt2"]


def test_the_comparison_sees_another_gate_and_another_class() -> None:
    scheme = LabelScheme({1: "liver", 2: "spleen"})
    image = torch.zeros(1, 3, 2, 2)
    logits = torch.tensor([[[[0.0, 1], [2, 3]], [[1, 0], [0, 4]], [[-1, -1], [-1, -1]]]])
    same = compare("hand", image, logits, logits.clone(), scheme)
    assert (same.difference, same.voxels_different, same.voxels) == (0, 0, 4)
    other = logits.clone()
    other[0, 1, 1, 1] = 2
    assert compare("hand", image, logits, other, scheme).difference == pytest.approx(0.5)
    assert compare("hand", image, logits, other, scheme).voxels_different == 1
    gated = logits.clone()
    gated[:, 1:] = torch.finfo(torch.float32).min / 2
    assert compare("hand", image, logits, gated, scheme).difference == float("inf")
    assert compare("hand", image, logits, gated, scheme).with_structure == 1
    assert compare("hand", image, gated, gated, scheme).with_structure == 0


@traces
def test_a_model_without_its_card_or_with_anothers_is_refused(exported: Path, tmp_path: Path) -> None:
    shutil.copy(exported, tmp_path / "m.onnx")
    with pytest.raises(DataError, match=r"m\.json is missing"):
        open_onnx(tmp_path / "m.onnx")
    card = json.loads(exported.with_suffix(".json").read_text())
    card["labels"]["1"] = "pancreas"
    (tmp_path / "m.json").write_text(json.dumps(card))
    with pytest.raises(DataError, match="not the card that"):
        open_onnx(tmp_path / "m.onnx")


@traces
def test_any_flipped_byte_of_an_exported_model_is_noticed(exported: Path, tmp_path: Path) -> None:
    shutil.copy(exported.with_suffix(".json"), tmp_path / "m.json")
    whole = exported.read_bytes()
    for place in np.random.default_rng(0).integers(len(whole), size=20):
        broken = bytearray(whole)
        broken[place] ^= 0x10
        (tmp_path / "m.onnx").write_bytes(broken)
        with pytest.raises(DataError, match=r"m\.onnx has changed since it was exported"):
            open_onnx(tmp_path / "m.onnx")
    (tmp_path / "m.onnx").chmod(0)
    with held_to_rights(), pytest.raises(DataError, match=r"^cannot read .*m\.onnx: Permission denied$"):
        open_onnx(tmp_path / "m.onnx")


@traces
def test_a_model_exported_by_0_1_is_read(exported: Path, tmp_path: Path) -> None:
    """Its file names the SHA-256 of the bytes of its card, and its card says nothing of the file."""
    onnx = pytest.importorskip("onnx")
    card = json.loads(exported.with_suffix(".json").read_text())
    for newer in ("exported", "weights_sha256", "trained_on", "distribution"):
        del card[newer]
    structures = {value: name for value, name in card["labels"].items() if value != "0"}
    card |= {"format": 1, "classes": 3, "labels": structures, "trained_labels": card["labels"]}
    (tmp_path / "m.json").write_text(json.dumps(card))
    model = onnx.load(exported)
    [entry] = [entry for entry in model.metadata_props if entry.key == "model_card_sha256"]
    entry.value = hashlib.sha256((tmp_path / "m.json").read_bytes()).hexdigest()
    onnx.save(model, tmp_path / "m.onnx")
    read, _ = open_onnx(tmp_path / "m.onnx")
    assert read.structures == {1: "liver", 2: "spleen"}


@traces
def test_what_is_no_onnx_model_is_refused_in_one_line(exported: Path, tmp_path: Path, fullscale: Command) -> None:
    whole = exported.read_bytes()
    for name, content in (("torn", whole[: len(whole) // 2]), ("empty", b""), ("text", b"no model")):
        model = tmp_path / f"{name}.onnx"
        model.write_bytes(content)
        shutil.copy(exported.with_suffix(".json"), model.with_suffix(".json"))
        with pytest.raises(DataError, match=f"{name}.onnx"):
            open_onnx(model)
    done = fullscale("predict", tmp_path / "absent.onnx", tmp_path, "-o", tmp_path / "out")
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1


def test_requests_that_contradict_themselves_are_refused(trained_run: Path, tmp_path: Path) -> None:
    for output, format, form in (
        ("m.pt2", "onnx", "factored"),
        ("m.onnx", "torch", "factored"),
        ("m.onnx", "onnx", "auto"),
        ("m.onnx", "onnx", "winograd"),
        ("m.tflite", "tflite", "direct"),
    ):
        with pytest.raises(UsageError, match="expected"):
            export_model(trained_run, tmp_path / output, format, form)  # type: ignore[arg-type]
    other = Path(shutil.copytree(trained_run / "bundle", tmp_path / "other"))
    (other / "model.json").write_text((other / "model.json").read_text().replace('"CT"', '"MRI"'))
    with pytest.raises(UsageError, match="belongs to another model"):
        export_model(trained_run, other / "model.onnx")
    (tmp_path / "notes.json").write_text("{}")
    with pytest.raises(UsageError, match=r"notes\.json is in the way"):
        export_model(trained_run, tmp_path / "notes.onnx")
    save_ensemble(tmp_path / "two", dict.fromkeys("ab", trained_run / "bundle"))
    with pytest.raises(UsageError, match=r"ensemble of 2 models: export them one by one, such as .*two/a"):
        export_model(tmp_path / "two", tmp_path / "m.onnx")
    with pytest.raises(DataError, match="does not exist"):
        export_model(tmp_path / "nowhere", tmp_path / "m.onnx")


@traces
def test_without_onnx_runtime_the_way_to_it_is_said(
    exported: Path, trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for work in (lambda: open_onnx(exported), lambda: export_model(trained_run, tmp_path / "m.onnx")):
        with pytest.raises(UsageError, match=r"pip install 'fullscale\[export\]'"):
            work()
