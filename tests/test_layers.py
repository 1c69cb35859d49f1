"""The way through the house: data flows one way, and only lower floors are imported."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "fullscale"
FLOOR = {
    "errors": 0,
    "text": 0,
    "documents": 0,
    "registry": 0,
    "extras": 0,
    "progress": 0,
    "ending": 0,
    "temporary": 0,
    "config": 1,
    "files": 1,
    "geometry": 1,
    "inputs": 1,
    "losses": 1,
    "networks": 1,
    "runfolder": 1,
    "outputs": 2,
    "shares": 2,
    "work": 1,
    "data": 2,
    "metrics": 2,
    "views": 3,
    "scoring": 3,
    "bundle": 3,
    "inference": 4,
    "reporting": 4,
    "training": 5,
    "evidence": 5,
    "bench": 6,
    "compare": 6,
    "paper": 6,
    "search": 6,
    "serve": 6,
    "testing": 6,
    "cli": 7,
    "__main__": 8,
}
HOME = {
    "filelock": ["files.py"],
    "distributed": ["work/cluster.py"],
    "dask_jobqueue": ["work/cluster.py"],
    "yaml": ["documents.py", "config/load.py"],
    "nibabel": ["data/nifti.py"],
    "SimpleITK": ["data/itk_files.py"],
    "pydicom": ["data/dicom/"],
    "dicomweb_client": ["data/dicom/web.py"],
    "requests": ["data/dicom/web.py"],
    "pynetdicom": ["data/dicom/peers.py", "data/dicom/receive.py"],
    "imagecodecs": ["data/dicom/jpeg_lossless.py", "data/wide_png.py"],
    "PIL": ["data/image_files.py", "data/png_stack.py", "data/tiff.py"],
    "tifffile": ["data/tiff.py"],
    "highdicom": ["data/dicom/seg.py"],
    "matplotlib": ["reporting/", "bench/figure.py", "compare/figure.py", "paper/"],
    "jinja2": ["reporting/template.py"],
    "cyclonedx": ["evidence/sbom.py"],
    "packageurl": ["evidence/sbom.py"],
    "packaging": ["evidence/dependencies.py"],
    "lightning": ["training/"],
    "mlflow": ["training/mlflow_runs.py"],
    "sqlalchemy": ["training/mlflow_runs.py"],
    "wandb": ["training/wandb_runs.py"],
    "optuna": ["search/"],
    "monai": ["networks/attention_unet.py"],
    "segmentation_models_pytorch": ["networks/pspnet.py", "networks/deeplab.py"],
    "timm": ["networks/backbones.py"],
    "onnx": ["inference/export/"],
    "onnxscript": ["inference/export/"],
    "onnxruntime": ["inference/runtimes/onnx.py"],
    "openvino": ["inference/runtimes/openvino.py"],
    "fastapi": ["serve/"],
    "starlette": ["serve/"],
    "uvicorn": ["serve/server.py"],
    "python_multipart": ["serve/uploads.py"],
    "prometheus_client": ["serve/metrics.py", "serve/app.py"],
    "typer": ["cli/"],
    "rich": ["cli/"],
}
WITHOUT_TORCH = (
    "errors",
    "text",
    "ending",
    "documents",
    "registry",
    "inputs",
    "outputs",
    "shares",
    "temporary",
    "files",
    "runfolder",
    "config",
    "geometry",
    "data",
    "metrics",
    "work",
    "scoring",
    "reporting",
)
FILES = sorted(path for path in SOURCE.rglob("*.py") if path.relative_to(SOURCE) != Path("__init__.py"))


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found.append(node.module or "")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_a_file_imports_only_its_own_room_or_a_lower_floor(path: Path) -> None:
    here = room(path)
    for name in imports(path):
        if name.startswith("fullscale."):
            there = name.split(".")[1]
            # The ground floor is one room: its files lean on errors and text.
            assert there == here or FLOOR[there] < FLOOR[here] or FLOOR[here] == 0 == FLOOR[there], (
                f"{path.name} imports {name}"
            )


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_each_heavy_library_stays_at_home(path: Path) -> None:
    inside = str(path.relative_to(SOURCE))
    for name in imports(path):
        library = name.split(".")[0]
        assert library not in HOME or inside.startswith(tuple(HOME[library])), name
        assert library != "torch" or room(path) not in WITHOUT_TORCH, f"{inside} loads torch"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_stay_short_enough_to_read(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("home", ["fullscale.data.itk_files", "fullscale.data.dicom.seg"])
def test_what_needs_an_extra_is_imported_where_it_is_used(home: str) -> None:
    for path in FILES:
        for node in ast.parse(path.read_text()).body:
            assert not (isinstance(node, ast.ImportFrom) and node.module == home), f"{path} imports {home} at its top"


def test_networks_and_losses_can_be_lifted_out() -> None:
    for path in FILES:
        if room(path) in ("networks", "losses"):
            ours = {n.split(".")[1] for n in imports(path) if n.startswith("fullscale.")}
            assert ours <= {room(path), "errors", "text", "registry", "extras"}, path


def test_every_folder_of_tests_is_a_package() -> None:
    """Two test files of one name collect only where their folders are packages."""
    tests = Path(__file__).parent
    bare = {path.parent for path in tests.rglob("*.py") if not (path.parent / "__init__.py").exists()}
    assert not bare
