"""From a scan to its mask, in every way that `predict` knows: what each costs in seconds, and in Dice.

The ways are the settings of `predict`, and on a CPU the runtimes that a model can be exported to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from fullscale.bench.measure import alternate, environment
from fullscale.bench.workload import Workload, freeze
from fullscale.bundle.card import ModelCard
from fullscale.bundle.store import find_bundle, load_bundle, member_folders, save_bundle, single_card
from fullscale.data.labels import LabelScheme
from fullscale.data.read import read_image, read_label
from fullscale.data.recipe import Intensity, Recipe
from fullscale.errors import UsageError
from fullscale.geometry.orientation import reorient
from fullscale.geometry.volume import Volume, require_same_grid
from fullscale.inference.export.model import FORMS, SUFFIXES, Format, export_model
from fullscale.inference.predictor import Predictor
from fullscale.inference.runtimes.kept import KeptGraph
from fullscale.inference.runtimes.load import RunningMember, load_members
from fullscale.inference.runtimes.openvino import require_openvino
from fullscale.inference.runtimes.torch import TorchRuntime
from fullscale.metrics.overlap import overlap_counts
from fullscale.networks.kernels.forms import Form

EAGER, COMPILED, OPENVINO = "PyTorch", "PyTorch compiled", "OpenVINO"
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
    truth: Path | None = None,
) -> dict[str, Any]:
    """Measure each model in each way, in turn.

    Args:
        scan: a file or a DICOM folder.
        widths: of UNet 3+ with random weights, whose guidance calls every slice present, on slices as they are.
        model: a run or bundle to measure instead.
        repeats: timed rounds.
        report: takes one line of print_status at a time.
        device: of PyTorch; on another than the CPU it is the only runtime.
        spatial_dims: 2 shows UNet 3+ slices, 3 overlapping patches.
        truth: the true mask of the scan, for a model.

    Returns:
        For JSON: for each model and way what computes and in which precision, seconds to make it ready, seconds from
        the scan on disk to the mask in memory, how many voxels of the mask differ from PyTorch's, its mean Dice with
        that, and with the truth.

    Raises:
        DataError: the scan, its truth or the model cannot be read.
        GeometryError: the truth lies on another grid.
        UsageError: ONNX Runtime or the exporter is not installed; a truth comes without a model.
    """
    if truth is not None and model is None:
        raise UsageError("--truth needs --model: random weights find nothing")
    volume = read_image(scan)
    given = model and {str(model): find_bundle(model)}
    rows = []
    with TemporaryDirectory() as folder:
        bundles = given or {f"width {w}": _untrained(Path(folder) / str(w), w, spatial_dims) for w in widths}
        for name, bundle in bundles.items():
            ways = _Ways(bundle, device, report)
            rows += [{"model": name} | row for row in _measured(scan, volume, ways, repeats, name, truth)]
    return {
        "benchmark": "scan",
        "scan": {"name": scan.name, "shape": list(volume.array.shape)},
        "repeats": repeats,
        "environment": environment(torch.device(device)),
        "models": rows,
    }


def _measured(
    scan: Path, volume: Volume, ways: _Ways, repeats: int, name: str, truth: Path | None
) -> Iterator[dict[str, Any]]:
    part = _every_batch(volume, ways.plain)
    predictors: dict[str, Predictor] = {}
    masks: dict[str, Volume] = {}

    def get_ready(way: str, make: Callable[[], Predictor]) -> None:
        ways.report(f"{name}: making {way} ready")
        predictors[way] = make()
        predictors[way].predict(part)

    def segment(way: str) -> None:
        ways.report(f"{name}: {way} segments {scan.name}")
        masks[way] = predictors[way].predict(scan)

    with TemporaryDirectory() as folder:
        makers = ways.makers(Path(folder))
        ready = alternate({k: partial(get_ready, k, make) for k, make in makers.items()}, 1, CPU, warmup=0)
        timings = alternate({k: partial(segment, k) for k in makers}, repeats, torch.device(ways.device), warmup=0)
        torch.compiler.reset()
    scheme = ways.plain.card.scheme
    true = None if truth is None else read_label(truth, scan, scheme)
    for way, timing in timings.items():
        yield {
            "runtime": way,
            "computed_by": predictors[way].members[0].runtime.describe(),
            "ready_s": ready[way].median_s,
            "scan_to_mask": timing.as_dict(),
            "voxels_different": int(np.count_nonzero(masks[way].array != masks[EAGER].array)),
            "dice_with_pytorch": _mean_dice(masks[way], masks[EAGER], scheme),
            "dice": None if true is None else _mean_dice(masks[way], true, scheme),
        }


def _mean_dice(found: Volume, true: Volume, scheme: LabelScheme) -> float | None:
    """Average over the structures that either of two masks on one grid holds; None where there is none."""
    require_same_grid(found, true, "the mask and its truth")
    counts = overlap_counts(found.array, true.array, scheme.structures, scheme.members)
    dice = [count.dice for count in counts if count.dice is not None]
    return float(np.mean(dice)) if dice else None


def _every_batch(volume: Volume, predictor: Predictor) -> Volume:
    """Cut off so many slices that batches of every size that the scan is segmented in occur: each is compiled anew.

    Of patches, batches depend on the whole scan.
    """
    if _shows_patches(predictor):
        return volume
    first, _ = next(predictor.slabs({predictor.channels[0]: volume}, lambda member: member.runtime.logits))
    upright = reorient(volume, "RAS")
    return Volume(upright.array[..., : first.stop + upright.shape[2] % first.stop], upright.affine)


def _shows_patches(predictor: Predictor) -> bool:
    return any(member.card.recipe.view == "patches" for member in predictor.members)


class _Ways:
    """The ways in which a model can segment a scan.

    Args:
        bundle: the model.
        device: of PyTorch.
        report: takes a line of print_status at a time.

    Attributes:
        plain: the model in PyTorch, to be asked what it is; what is timed is loaded anew.
    """

    def __init__(self, bundle: Path, device: str, report: Callable[[str], None]) -> None:
        self.bundle, self.device, self.report = bundle, device, report
        self.plain = self._eager()

    def makers(self, folder: Path) -> dict[str, Callable[[], Predictor]]:
        """Name each way, with what makes it ready; exported files go to a folder. The first is `EAGER`."""
        makers: dict[str, Callable[[], Predictor]] = {EAGER: self._eager} | self._settings(EAGER, self._eager)
        if self.device != "cpu":
            return makers
        makers[COMPILED] = self._compiled
        makers |= {f"ONNX Runtime, {form}": partial(self._exported, folder, "onnx", form) for form in FORMS}
        try:
            require_openvino()
        except UsageError as error:
            self.report(f"OpenVINO is left out: {error}")
            return makers
        openvino = cache(partial(self._kept, folder))
        return makers | {OPENVINO: openvino} | self._settings(OPENVINO, openvino)

    def _settings(self, way: str, make: Callable[[], Predictor]) -> dict[str, Callable[[], Predictor]]:
        """Of a runtime, its settings that change anything for this model."""
        plain = self.plain
        found: dict[str, Callable[[], Predictor]] = {}
        if not _shows_patches(plain):
            found[f"{way}, coarse"] = lambda: Predictor(plain.card, make().members, region="coarse")
        if len(plain.members) > 1 or plain.rules or any(member.card.mirrors for member in plain.members):
            found[f"{way}, quick"] = lambda: Predictor(plain.card, make().members, quick=True)
        return found

    def _eager(self) -> Predictor:
        return Predictor.from_run(self.bundle, device=self.device)

    def _compiled(self) -> Predictor:
        loaded = load_bundle(self.bundle)
        return Predictor(loaded.card, [RunningMember(m.card, TorchRuntime(freeze(m.network))) for m in loaded.members])

    def _exported(self, folder: Path, format: Format, form: Form) -> Predictor:
        members = []
        for member, path in member_folders(self.bundle).items():
            output = folder / f"{member}-{form}{SUFFIXES[format][0]}"
            members += load_members(export_model(path, output, format, form).model)[1]
        return Predictor(self.plain.card, members)

    def _kept(self, folder: Path) -> Predictor:
        """Make the graphs that `predict --runtime openvino` makes, and keep them in a folder."""
        members = []
        for member, path in member_folders(self.bundle).items():
            graph = KeptGraph(path, single_card(path), "openvino", folder / member)
            members.append(RunningMember(graph.card, graph.find_or_make()))
        return Predictor(self.plain.card, members)


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
