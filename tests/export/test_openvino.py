"""A model as an OpenVINO graph: the same answers, and one line where a file is missing, damaged or another's."""

import json
import pickle
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from fullscale.bundle.card import ModelCard
from fullscale.bundle.store import load_bundle, save_bundle
from fullscale.data.recipe import Intensity, Recipe
from fullscale.errors import DataError, UsageError
from fullscale.inference.export.model import export_model
from fullscale.inference.runtimes.load import load_members
from fullscale.inference.runtimes.openvino import open_openvino
from tests.conftest import Command, Once

pytestmark = pytest.mark.slow

FILES = (".xml", ".bin", ".json")


@pytest.fixture(scope="session")
def small(once: Once) -> Path:
    """UNet 3+ of two levels and random weights: a graph with every kind of part, and few of each."""

    def make(folder: Path) -> None:
        card = ModelCard(
            network="unet3+",
            options={"levels": 2, "width": 4, "skip_channels": 4},
            labels={1: "structure"},
            recipe=Recipe(intensity=Intensity(per="dataset", low=-100, high=300, std=80), spacing_mm=None),
            modality="CT",
        )
        torch.manual_seed(0)
        save_bundle(folder, card, card.build().state_dict())

    return once("small", make)


@pytest.fixture(scope="session")
def exported(small: Path, once: Once) -> Path:
    def make(folder: Path) -> None:
        folder.mkdir()
        export_model(small, folder / "phantom.xml", "openvino")
        assert {path.suffix for path in folder.iterdir()} == set(FILES)

    return once("exported-openvino", make) / "phantom.xml"


def test_it_says_of_logits_and_guidance_what_pytorch_says(exported: Path, small: Path) -> None:
    [member] = load_bundle(small).members
    _, runtime = open_openvino(exported)
    here = pickle.loads(pickle.dumps(runtime))
    image = torch.randn(3, member.card.recipe.in_channels, 50, 41)
    with torch.inference_mode():
        logits, presence = member.network.segment(image)
    found, present = here.segment(image)
    torch.testing.assert_close(found, logits, rtol=1e-4, atol=1e-4)
    assert presence is not None
    assert present is not None
    torch.testing.assert_close(present, presence, rtol=1e-4, atol=1e-4)
    with pytest.raises(UsageError, match="expected"):
        here.logits(image[:, :1])


def test_the_files_predict_without_run_or_data(
    exported: Path, small: Path, phantoms: Path, fullscale: Command, tmp_path: Path
) -> None:
    scan = phantoms / "imagesTs" / "phantom_006.nii.gz"
    masks = []
    for model in (exported, small):
        done = fullscale("predict", model, scan, "-o", tmp_path / model.stem)
        assert done.returncode == 0, done.stderr
        masks.append(np.asarray(nib.load(tmp_path / model.stem / scan.name).dataobj))
    assert masks[1].any()
    assert (masks[0] != masks[1]).mean() < 1e-4


def test_a_file_that_is_missing_damaged_or_anothers_is_refused_in_a_line(exported: Path, tmp_path: Path) -> None:
    def copied(name: str) -> Path:
        for suffix in FILES:
            shutil.copy(exported.with_suffix(suffix), tmp_path / f"{name}{suffix}")
        return tmp_path / f"{name}.xml"

    for suffix in (".bin", ".json"):
        model = copied(f"lacks{suffix[1:]}")
        model.with_suffix(suffix).unlink()
        with pytest.raises(DataError, match=rf"lacks{suffix[1:]}\{suffix} is missing"):
            open_openvino(model)
    for suffix in (".xml", ".bin"):
        model = copied(f"bad{suffix[1:]}")
        content = bytearray(model.with_suffix(suffix).read_bytes())
        content[len(content) // 2] ^= 0x10
        model.with_suffix(suffix).write_bytes(content)
        with pytest.raises(DataError, match=rf"bad{suffix[1:]}\{suffix} has changed since it was exported"):
            open_openvino(model)
    model = copied("other")
    card = json.loads(model.with_suffix(".json").read_text())
    model.with_suffix(".json").write_text(json.dumps(card | {"modality": "MRI"}))
    with pytest.raises(DataError, match="is not the card that"):
        open_openvino(model)
    with pytest.raises(UsageError, match="computed on the CPU"):
        load_members(exported, "cuda")
    with pytest.raises(DataError, match="does not exist"):
        open_openvino(tmp_path / "absent.xml")


def test_without_openvino_the_way_to_it_is_said(
    exported: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    for work in (lambda: open_openvino(exported), lambda: export_model(small, tmp_path / "m.xml", "openvino")):
        with pytest.raises(UsageError, match=r"pip install 'fullscale\[openvino\]'"):
            work()
