"""What only some users need may be absent: the rest works, and one line says what to install."""

import os
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import numpy as np
import pytest

from fullscale.data.phantom import write_dataset
from tests.dicom_slices import STEP_MM, write_slice

pytestmark = pytest.mark.whole

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {
    "backbones": ("timm", "torchvision", "segmentation_models_pytorch", "huggingface_hub"),
    "dicom": ("highdicom", "pylibjpeg", "openjpeg", "rle", "jpeg_ls", "_CharLS", "imagecodecs"),
    "tiff": ("tifffile", "imagecodecs"),
    "itk": ("SimpleITK",),
    "export": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("openvino",),
    "tensorboard": ("tensorboard",),
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),
    "wandb": ("wandb",),
    "search": ("optuna",),
    "dask": ("distributed", "dask", "dask_jobqueue"),
    "dicomweb": ("dicomweb_client", "requests", "urllib3", "retrying"),
    "pacs": ("pynetdicom",),
    "evidence": ("cyclonedx", "packageurl", "license_expression"),
    "serve": ("fastapi", "uvicorn", "python_multipart", "prometheus_client"),
}
"""Modules that come with each extra, and with none of the plain installation."""

HIDE = """
from importlib.machinery import PathFinder
from importlib.metadata import DistributionFinder, MetadataPathFinder

find, list_all = PathFinder.find_spec, MetadataPathFinder.find_distributions

def find_others(name, path=None, target=None):
    return None if name.split(".")[0] in {names!r} else find(name, path, target)

def list_others(context=DistributionFinder.Context()):
    return (found for found in list_all(context) if found.name not in {packages!r})

PathFinder.find_spec, MetadataPathFinder.find_distributions = find_others, list_others
"""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of `pip install .`: no module of any extra can be imported, in any process."""
    folder = tmp_path_factory.mktemp("plain")
    names = {name for extra in EXTRAS.values() for name in extra}
    packages = {package for name in names for package in packages_distributions().get(name, [])}
    (folder / "sitecustomize.py").write_text(HIDE.format(names=names, packages=packages))
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT / "src")])}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "phantoms"
    list(write_dataset(folder, 4, seed=3, test_cases=1, size=32, slices=8))
    return folder


def command(plain: dict[str, str], *arguments: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "fullscale", *map(str, arguments)]
    return subprocess.run(words, env=plain, capture_output=True, text=True, check=False, timeout=300)


def snippet(plain: dict[str, str], code: str) -> str:
    """The last line of what a piece of code ends with."""
    done = subprocess.run([sys.executable, "-c", code], env=plain, capture_output=True, text=True, check=False)
    return done.stderr.strip().splitlines()[-1] if done.returncode else done.stdout.strip()


def test_every_extra_is_hidden_here_and_all_holds_them() -> None:
    extras = PROJECT["optional-dependencies"]
    assert extras.keys() - {"all", "dev"} == EXTRAS.keys()
    [everything] = extras["all"]
    assert set(everything.removeprefix("fullscale[").removesuffix("]").split(",")) == EXTRAS.keys()
    assert "fullscale[all]" in extras["dev"]
    owners = packages_distributions()
    hard = {word.split(">")[0].split("!")[0].lower() for word in PROJECT["dependencies"]}
    for modules in EXTRAS.values():
        for module in modules:
            assert not {name.lower() for name in owners.get(module, [])} & hard, module


@pytest.mark.slow
def test_the_plain_installation_trains_predicts_and_reports(plain: dict[str, str], data: Path, tmp_path: Path) -> None:
    quick = ["network.width=4", "data.patch_size=[32,32]", "data.batch_size=2", "data.workers=0"]
    short = ["trainer.steps_per_epoch=2", "trainer.max_epochs=1", "trainer.device=cpu"]
    run, masks = tmp_path / "run", tmp_path / "masks"
    for words in (
        ("train", data, "-o", run, "--cache", tmp_path / "cache", *quick, *short),
        ("predict", run, data / "imagesTs", "-o", masks),
        ("evaluate", masks, data / "labelsTs"),
        ("report", run),
    ):
        done = command(plain, *words)
        assert done.returncode == 0, done.stderr
    assert (run / "environment.json").is_file()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ("settings", "network.name=pspnet"),
            "PSPNet and DeepLab need segmentation_models_pytorch: pip install 'fullscale[backbones]'",
        ),
        (("export", "{run}", "-o", "{out}/model.onnx"), "pip install 'fullscale[export]'"),
        (("serve", "{run}", "--state", "{out}/state"), "pip install 'fullscale[serve]'"),
        (
            ("evidence", "{run}", "-o", "{out}/evidence"),
            "folders of evidence need cyclonedx: pip install 'fullscale[evidence]'",
        ),
        (("send", "{scan}", "PACS@127.0.0.1:104"), "need pynetdicom: pip install 'fullscale[pacs]'"),
        (("predict", "{out}/model.onnx", "{scan}", "-o", "{out}/masks"), "pip install 'fullscale[export]'"),
        (
            ("predict", "{run}", "{scan}", "-o", "{out}/masks", "--runtime", "openvino"),
            "OpenVINO models need openvino: pip install 'fullscale[openvino]'",
        ),
    ],
    ids=["network", "export", "serve", "evidence", "send", "exported", "runtime"],
)
def test_a_command_that_needs_an_extra_says_so_in_one_line(
    plain: dict[str, str], trained_run: Path, phantoms: Path, tmp_path: Path, words: tuple[str, ...], line: str
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"onnx")
    card = next(iter(sorted(trained_run.rglob("model.json"))))
    (tmp_path / "model.json").write_bytes(card.read_bytes())
    [scan] = (phantoms / "imagesTs").glob("*.nii.gz")
    done = command(plain, *(word.format(run=trained_run, out=tmp_path, scan=scan) for word in words))
    assert done.returncode == 2, done.stderr
    assert line in done.stderr.splitlines()[-1]
    assert len(done.stderr.splitlines()) == 1


def test_an_encoder_by_name_names_the_extra(plain: dict[str, str]) -> None:
    code = "from fullscale.networks import create_network; create_network('unet', 1, 1, encoder='resnet18')"
    assert snippet(plain, code).endswith("need timm: pip install 'fullscale[backbones]'")


def test_nrrd_and_metaimage_name_the_extra_and_nifti_does_without(plain: dict[str, str], tmp_path: Path) -> None:
    write = (
        "import numpy as np; from fullscale import Volume, write_volume, read_volume; "
        "v = Volume(np.zeros((2, 3, 4), np.int16), np.eye(4)); write_volume('{path}', v); "
        "print(read_volume('{path}').shape)"
    )
    assert snippet(plain, write.format(path=tmp_path / "a.nii.gz")) == "(2, 3, 4)"
    line = snippet(plain, write.format(path=tmp_path / "a.nrrd"))
    assert line.endswith("NRRD and MetaImage files need SimpleITK: pip install 'fullscale[itk]'")
    assert list(tmp_path.iterdir()) == [tmp_path / "a.nii.gz"]


def test_plain_dicom_is_read_and_compressed_dicom_names_the_extra(plain: dict[str, str], tmp_path: Path) -> None:
    draw_series(tmp_path / "plain")
    read = "from fullscale import read_volume; print(read_volume('{path}').shape[2])"
    assert snippet(plain, read.format(path=tmp_path / "plain")) == "3"
    draw_series(tmp_path / "packed")
    for file in (tmp_path / "packed").iterdir():
        compress(file)
    assert snippet(plain, read.format(path=tmp_path / "packed")).endswith(
        "its pixels are JPEG-LS Lossless Image Compression, which need a decoder: pip install 'fullscale[dicom]'"
    )


def draw_series(folder: Path) -> None:
    folder.mkdir()
    for k in range(3):
        write_slice(folder / f"{k}.dcm", np.full((8, 8), 10 * k), (0, 0, STEP_MM * k))


def compress(file: Path) -> None:
    """Pack the pixels of a DICOM file as JPEG-LS."""
    import pydicom
    from pydicom.uid import JPEGLSLossless

    dataset = pydicom.dcmread(file)
    assert np.asarray(dataset.pixel_array).ndim == 2
    dataset.compress(JPEGLSLossless, generate_instance_uid=False)
    dataset.save_as(file)
