"""From a scan to its mask: the same model in PyTorch, and on the CPU compiled, in ONNX Runtime and in OpenVINO too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from fullscale.bench.measure import alternate, environment
from fullscale.bench.workload import Workload, freeze
from fullscale.bundle.card import ModelCard
from fullscale.bundle.store import find_bundle, load_bundle, member_folders, save_bundle
from fullscale.data.read import read_image
from fullscale.data.recipe import Intensity, Recipe
from fullscale.errors import UsageError
from fullscale.export.model import FORMS, SUFFIXES, Format, export_model
from fullscale.geometry.orientation import reorient
from fullscale.geometry.volume import Volume
from fullscale.inference.predictor import Predictor
from fullscale.inference.runtimes.load import RunningMember, load_members
from fullscale.inference.runtimes.openvino import require_openvino
from fullscale.inference.runtimes.torch import TorchRuntime
from fullscale.networks.kernels.forms import Form

EAGER, COMPILED = "PyTorch", "PyTorch compiled"
CPU = torch.device("cpu")
TILE = (48, 96, 96)
"""Of the patches that a model with random weights is shown."""


def bench_scan(
    scan: Path,
    widths: list[int],
    model: Path | None = None,
    repeats: int = 1,
    report: Callable[[str], None] = lambda _: None,
    device: str = "cpu",
    spatial_dims: int = 2,
) -> dict[str, Any]:
    """Measure each model in each runtime, in turn.

    Args:
        scan: a file or a DICOM folder.
        widths: of UNet 3+ with random weights, whose guidance calls every slice present, on slices as they are.
        model: a run or bundle to measure instead.
        repeats: timed rounds.
        report: takes one line of print_status at a time.
        device: of PyTorch; on another than the CPU it is the only runtime.
        spatial_dims: 2 shows UNet 3+ slices, 3 overlapping patches.

    Returns:
        For JSON: for each model and runtime seconds to make it ready, seconds from the scan on disk to the mask in
        memory, and how many voxels of the mask differ from PyTorch's.

    Raises:
        DataError: the scan or the model cannot be read.
        UsageError: ONNX Runtime or the exporter is not installed.
    """
    volume = read_image(scan)
    given = model and {str(model): find_bundle(model)}
    rows = []
    with TemporaryDirectory() as folder:
        bundles = given or {f"width {w}": _untrained(Path(folder) / str(w), w, spatial_dims) for w in widths}
        for name, bundle in bundles.items():
            rows += [{"model": name} | row for row in _runtimes(scan, volume, bundle, repeats, name, report, device)]
    return {
        "benchmark": "scan",
        "scan": {"name": scan.name, "shape": list(volume.array.shape)},
        "repeats": repeats,
        "environment": environment(torch.device(device)),
        "models": rows,
    }


def _runtimes(
    scan: Path, volume: Volume, bundle: Path, repeats: int, name: str, report: Callable[[str], None], device: str
) -> Iterator[dict[str, Any]]:
    part = _every_batch(volume, bundle, device)
    predictors: dict[str, Predictor] = {}
    masks: dict[str, Volume] = {}

    def get_ready(runtime: str, make: Callable[[], Predictor]) -> None:
        report(f"{name}: making {runtime} ready")
        predictors[runtime] = make()
        predictors[runtime].predict(part)

    def segment(runtime: str) -> None:
        report(f"{name}: {runtime} segments {scan.name}")
        masks[runtime] = predictors[runtime].predict(scan)

    with TemporaryDirectory() as folder:
        makers = _makers(bundle, Path(folder), device, report)
        ready = alternate({k: partial(get_ready, k, make) for k, make in makers.items()}, 1, CPU, warmup=0)
        timings = alternate({k: partial(segment, k) for k in makers}, repeats, torch.device(device), warmup=0)
        torch.compiler.reset()
    for runtime, timing in timings.items():
        different = int(np.count_nonzero(masks[runtime].array != masks[EAGER].array))
        yield {
            "runtime": runtime,
            "ready_s": ready[runtime].median_s,
            "scan_to_mask": timing.as_dict(),
            "voxels_different": different,
        }


def _every_batch(volume: Volume, bundle: Path, device: str) -> Volume:
    """Cut off so many slices that batches of every size that the scan is segmented in occur: each is compiled anew.

    Of patches, batches depend on the whole scan.
    """
    predictor = Predictor.from_run(bundle, device=device)
    if any(member.card.recipe.view == "patches" for member in predictor.members):
        return volume
    first, _ = next(predictor.slabs({predictor.channels[0]: volume}, lambda member: member.runtime.logits))
    upright = reorient(volume, "RAS")
    return Volume(upright.array[..., : first.stop + upright.shape[2] % first.stop], upright.affine)


def _makers(
    bundle: Path, folder: Path, device: str, report: Callable[[str], None]
) -> dict[str, Callable[[], Predictor]]:
    def eager() -> Predictor:
        return Predictor.from_run(bundle, device=device)

    def compiled() -> Predictor:
        loaded = load_bundle(bundle)
        return Predictor(loaded.card, [RunningMember(m.card, TorchRuntime(freeze(m.network))) for m in loaded.members])

    def exported(format: Format, form: Form) -> Predictor:
        members = []
        for member, path in member_folders(bundle).items():
            output = folder / f"{member}-{form}{SUFFIXES[format][0]}"
            members += load_members(export_model(path, output, format, form).model)[1]
        return Predictor(load_bundle(bundle).card, members)

    if device != "cpu":
        return {EAGER: eager}
    makers = {EAGER: eager, COMPILED: compiled}
    makers |= {f"ONNX Runtime, {form}": partial(exported, "onnx", form) for form in FORMS}
    try:
        require_openvino()
    except UsageError as error:
        report(f"OpenVINO is left out: {error}")
    else:
        makers["OpenVINO, factored"] = partial(exported, "openvino", "factored")
    return makers


def _untrained(folder: Path, width: int, spatial_dims: int) -> Path:
    intensity = Intensity(per="dataset", low=-100, high=300, mean=100, std=80)
    options: dict[str, Any] = {"width": width, "skip_channels": width}
    if spatial_dims == 2:
        recipe, tile = Recipe(intensity=intensity, spacing_mm=None), None
    else:
        recipe, tile = Recipe(intensity=intensity, spacing_mm=None, view="patches", neighbours=0), TILE
        options["spatial_dims"] = spatial_dims
    card = ModelCard(
        network="unet3+",
        options=options,
        labels={1: "structure"},
        recipe=recipe,
        modality="CT",
        tile_size=tile,
    )
    save_bundle(folder, card, Workload(width=width, spatial_dims=spatial_dims).network().state_dict())
    return folder
