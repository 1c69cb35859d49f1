"""What the fault tests share: a run with everything around it, to be damaged and put back."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.conftest import Command, Once
from tests.faults.commands import filled
from tests.official_reference import Reference

COMPARE = (
    *("compare", "{data}", "-o", "{w}/compared", "--cache", "{cache}", "--networks", "unet", "--folds", "1"),
    *("--steps-each", "4", "--validate-every", "2", "trainer.deterministic=true", "network.width=4"),
    *("data.patch_size=[32,32]", "data.batch_size=4", "data.workers=0", "trainer.device=cpu"),
)
"""The command that compares one small network with none."""


def link_cases(data: Path, folder: Path, suffix: str) -> list[str]:
    """Give the phantoms' scans and labels other names; return those of the cases."""
    names = [path.name.removesuffix(".nii.gz") for path in sorted((data / "labelsTr").iterdir())]
    for kind, ending in (("imagesTr", suffix), ("labelsTr", "")):
        (folder / kind).mkdir(parents=True)
        for name in names:
            (folder / kind / f"{name}{ending}.nii.gz").symlink_to(data / kind / f"{name}.nii.gz")
    return names


def write_lists(data: Path, folder: Path) -> None:
    """Write a list of cases as CSV and as JSON, and an nnU-Net folder."""
    names = link_cases(data, folder, "_0000")
    rows = [{"image": f"imagesTr/{n}_0000.nii.gz", "label": f"labelsTr/{n}.nii.gz", "case": n} for n in names]
    (folder / "cases.json").write_text(json.dumps(rows))
    lines = ["image,label,case", *(",".join(row.values()) for row in rows)]
    (folder / "cases.csv").write_text("\n".join(lines) + "\n")
    about = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "spleen": 2}}
    (folder / "dataset.json").write_text(json.dumps(about | {"numTraining": len(names), "file_ending": ".nii.gz"}))


def write_weights(folder: Path, fullscale: Command) -> None:
    """Write weights of the authors' form as they are saved, and converted."""
    folder.mkdir()
    torch.manual_seed(0)
    state = Reference("supervised", 3, 3, 4, 4).state_dict()
    for name in ("own.pth", "own.pt"):
        torch.save(state, folder / name)
    (folder / "own.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(2000))
    assert fullscale("import-weights", folder / "own.pth", "-o", folder / "own.safetensors").returncode == 0


@pytest.fixture(scope="session")
def pristine(once: Once, trained_run: Path, phantoms: Path, fullscale: Command) -> Path:
    """A run, an ensemble, masks with scores, lists, weights and a cache; tests read it, and damage copies."""
    from fullscale.bundle.store import save_ensemble

    def make(folder: Path) -> None:
        folder.mkdir()
        shutil.copytree(trained_run, folder / "run")
        save_ensemble(folder / "ensemble", {"a": trained_run / "bundle", "b": trained_run / "bundle"})
        write_lists(phantoms, folder / "lists")
        link_cases(phantoms, folder / "msd", "")
        shutil.copy(phantoms / "dataset.json", folder / "msd")
        write_weights(folder / "weights", fullscale)
        for command in (
            ("prepare", phantoms, "--cache", folder / "cache", "--jobs", 1),
            ("predict", trained_run, phantoms / "imagesTs", "-o", folder / "masks", "--device", "cpu", "--jobs", 1),
            ("evaluate", folder / "masks", phantoms / "labelsTs", "--jobs", 1),
            ("plan", phantoms, "-o", folder / "lists" / "plan.json", "--device", "cpu", "--jobs", 1),
        ):
            done = fullscale(*command)
            assert done.returncode == 0, done.stderr

    return once("pristine", make)


@pytest.fixture(scope="session")
def further(once: Once, pristine: Path, phantoms: Path, cache: Path, fullscale: Command) -> Path:
    """An exported model and a comparison, which take long to make, beside the rest."""

    def make(folder: Path) -> None:
        shutil.copytree(pristine, folder, symlinks=True)
        for command in (
            ("export", folder / "run", "-o", folder / "exported" / "model.onnx"),
            filled(COMPARE, data=phantoms, cache=cache, w=folder),
        ):
            done = fullscale(*command)
            assert done.returncode == 0, done.stderr

    return once("further", make)
