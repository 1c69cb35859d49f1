"""A bundle as one file for other runtimes: ONNX, or a program of `torch.export`, proven to answer like PyTorch.

What is exported is the network in evaluation mode: normalised slices `[B, 2n + 1, H, W]` in, gated logits
`[B, classes, H, W]` out, float32, batch and size free. Beside the file lies the bundle's model card, which says how a
scan becomes slices and what the classes are.

Nothing takes its place before it has answered like PyTorch: on every case the logits within `LOGIT_TOLERANCE` of
their scale and the same structures gated, and of all voxels no more than `VOXEL_TOLERANCE` decided otherwise.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from fullscale.bundle.card import CARD, ModelCard, card_beside, card_digest
from fullscale.bundle.store import WEIGHTS, find_bundle, load_bundle
from fullscale.data.phantom import make_case
from fullscale.data.recipe import image_slices, slice_geometry
from fullscale.errors import FullscaleError, UsageError
from fullscale.files import atomic_path
from fullscale.networks.blocks import decide
from fullscale.networks.kernels.scaled_conv import Form, set_form
from fullscale.networks.onnx_network import CARD_DIGEST, IMAGE, LOGITS, OnnxNetwork, require_runtime
from fullscale.networks.protocol import Network
from fullscale.views.slices import with_neighbours

Format = Literal["onnx", "torch"]
SUFFIX: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}
FORMS: tuple[Form, ...] = ("factored", "direct")
"""One graph serves every size, so that none can be chosen by size; and a runtime has its own Winograd."""

LOGIT_TOLERANCE = 1e-4
"""Largest difference of two logits, as a share of the largest logit that is not gated."""

VOXEL_TOLERANCE = 1e-4
"""Largest share of the voxels of all cases that may be decided otherwise."""

_EXAMPLE = (2, 45, 37)
_NOISE = {
    "onnx": [(1, 96, 96), (3, 67, 45), (2, 40, 131), (1, 13, 9)],
    "torch": [(1, 96, 96), (3, 67, 45), (2, 40, 131)],
}
_KINDS_OF_NOISE = [(brightness, contrast) for contrast in (1.0, 0.3, 3.0) for brightness in (0.0, 1.0, -1.0)]
_PHANTOM_SIDE, _PHANTOM_SLICES = 96, 5


@dataclass(frozen=True)
class ParityCase:
    """One batch of images through both.

    Attributes:
        name: what the images are.
        shape: `[B, C, H, W]` of the images.
        with_structure: images in which guidance finds a structure; of the others only the gate is compared.
        difference: largest difference of two logits over the largest logit; infinite where the gates differ.
        voxels: of all images.
        decided_otherwise: how many of them got another class.
    """

    name: str
    shape: tuple[int, ...]
    with_structure: int
    difference: float
    voxels: int
    decided_otherwise: int

    def describe(self) -> str:
        """Say it in one line."""
        shape = "x".join(str(side) for side in self.shape)
        return (
            f"{self.name} {shape}, structures in {self.with_structure}: logits differ by {self.difference:.1e} of "
            f"their scale, {self.decided_otherwise} of {self.voxels} voxels decided otherwise"
        )


@dataclass(frozen=True)
class Export:
    """What was written, and how well it answers like PyTorch."""

    model: Path
    card: Path
    format: Format
    form: Form
    cases: list[ParityCase]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        tolerances = {"logit_tolerance": LOGIT_TOLERANCE, "voxel_tolerance": VOXEL_TOLERANCE}
        cases = [vars(case) | {"shape": list(case.shape)} for case in self.cases]
        return vars(self) | {"model": str(self.model), "card": str(self.card), "cases": cases} | tolerances


def export_model(
    source: Path,
    output: Path,
    format: Format = "onnx",
    form: Form = "factored",
    report: Callable[[ParityCase], None] | None = None,
) -> Export:
    """Write the model of a run or bundle as one file, with its card beside it.

    Args:
        source: a run folder or a bundle.
        output: the file, `.onnx` for "onnx", `.pt2` for "torch"; the card's name is the same with `.json`.
        format: "onnx", or "torch" for a program of `torch.export` (for your own code: `predict` reads ONNX).
        form: how the up-sampled skips are computed, see `ScaledConv`; one graph serves every size, so not "auto".
        report: called with each case of the comparison.

    Raises:
        DataError: `source` holds no model.
        UsageError: the suffix does not fit, the extra `export` is not installed, or the card would replace another's.
        FullscaleError: the network cannot be exported, or does not answer like PyTorch. Nothing is left behind, and
            an older file stays.
    """
    _check_request(output, format, form)
    folder = find_bundle(source)
    card, network = load_bundle(folder)
    card_text = (folder / CARD).read_bytes()
    beside = card_beside(output)
    if (beside.parent / WEIGHTS).is_file() and beside.is_file() and beside.read_bytes() != card_text:
        raise UsageError(f"{beside} belongs to another model; choose another folder or name for {output.name}")
    with atomic_path(output) as model, atomic_path(beside) as model_card:
        exported = _WRITERS[format](_in_form(network, form), card.recipe.in_channels, model, card_digest(card_text))
        cases = _check_parity(network, exported, parity_images(network, card, format), report)
        model_card.write_bytes(card_text)
    return Export(output, beside, format, form, cases)


def _check_request(output: Path, format: Format, form: Form) -> None:
    if format not in SUFFIX:
        raise UsageError(f"format '{format}' is unknown: expected {' or '.join(SUFFIX)}")
    if form not in FORMS:
        raise UsageError(f"form '{form}' cannot be exported: expected {' or '.join(FORMS)}")
    if output.suffix != SUFFIX[format]:
        raise UsageError(
            f"{output} is not a name for the format '{format}': expected one that ends in {SUFFIX[format]}"
        )
    if format == "onnx":
        require_runtime()
        _require_exporter()


def _require_exporter() -> Any:
    try:
        import onnx  # noqa: F401
        import onnxscript
    except ImportError as error:
        raise UsageError("exporting as ONNX needs onnx and onnxscript: pip install 'fullscale[export]'") from error
    return onnxscript


def _in_form(network: Network, form: Form) -> nn.Module:
    """Copy a network for export, every `ScaledConv` in one form."""
    exported = copy.deepcopy(network).eval()
    set_form(exported, form)
    assert isinstance(exported, nn.Module)
    return exported


def _write_onnx(network: nn.Module, in_channels: int, path: Path, digest: str) -> nn.Module:
    batch, height, width = _EXAMPLE
    try:
        program = torch.onnx.export(
            network,
            (torch.zeros(batch, in_channels, height, width),),
            input_names=[IMAGE],
            output_names=[LOGITS],
            dynamic_shapes=({0: "batch", 2: "height", 3: "width"},),
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        for node in program.model.graph:
            node.metadata_props.clear()  # lines and paths of the code that was traced
        program.model.metadata_props[CARD_DIGEST] = digest
        program.save(path, external_data=False)
    except Exception as error:
        raise _cannot_export("ONNX", error) from error
    return OnnxNetwork(path)


def _write_torch(network: nn.Module, in_channels: int, path: Path, digest: str) -> nn.Module:
    batch, height, width = _EXAMPLE
    free = torch.export.Dim.DYNAMIC
    try:
        example = (torch.zeros(batch, in_channels, height, width),)
        program = torch.export.export(network, example, dynamic_shapes=({0: free, 2: free, 3: free},))
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)
        torch.export.save(program, path, extra_files={CARD_DIGEST: digest})
        return torch.export.load(path).module()
    except Exception as error:
        raise _cannot_export("torch.export", error) from error


_WRITERS: dict[Format, Callable[[nn.Module, int, Path, str], nn.Module]] = {"onnx": _write_onnx, "torch": _write_torch}


def _cannot_export(how: str, error: Exception) -> FullscaleError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return FullscaleError(f"the network cannot be exported by {how}: {lines[0]}")


def parity_images(network: Network, card: ModelCard, format: Format) -> Iterator[tuple[str, Tensor]]:
    """Make the images to compare on: noise of several sizes, and slices of a synthetic CT through the card's recipe."""
    rng = torch.Generator().manual_seed(0)
    for batch, height, width in _NOISE[format]:
        yield "noise", _noise_with_structure(network, (batch, card.recipe.in_channels, height, width), rng)
    recipe = card.recipe.model_copy(update={"spacing_mm": None})
    scan, _ = make_case(seed=0, size=_PHANTOM_SIDE, slices=_PHANTOM_SLICES)
    slices = image_slices(scan, slice_geometry(scan, recipe), recipe)
    images = [with_neighbours(slices, index, recipe.neighbours) for index in range(len(slices))]
    yield "phantom", torch.from_numpy(np.stack(images))


@torch.inference_mode()
def _noise_with_structure(network: Network, shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Draw noise in which the network finds a structure, where one can be found: a gated image shows little."""
    for brightness, contrast in _KINDS_OF_NOISE:
        image = brightness + contrast * torch.randn(shape, generator=rng)
        if _images_with_structure(network(image)):
            break
    return image


def _images_with_structure(logits: Tensor) -> int:
    structures = logits if logits.shape[1] == 1 else logits[:, 1:]
    return int((~_gated(structures)).flatten(1).any(dim=1).sum())


def _gated(logits: Tensor) -> Tensor:
    return logits <= torch.finfo(logits.dtype).min / 4


@torch.inference_mode()
def compare(name: str, image: Tensor, expected: Tensor, found: Tensor) -> ParityCase:
    """Compare the logits `[B, classes, H, W]` of PyTorch with those of the exported model."""
    gated = _gated(expected)
    difference = float("inf")
    if torch.equal(gated, _gated(found)):
        apart = (expected - found).abs().masked_fill(gated, 0).amax()
        scale = expected.abs().masked_fill(gated, 0).amax()
        difference = float(apart / scale) if apart > 0 else float(apart)
    otherwise = decide(expected) != decide(found)
    return ParityCase(
        name,
        tuple(image.shape),
        _images_with_structure(expected),
        difference,
        otherwise.numel(),
        int(otherwise.sum()),
    )


def _check_parity(
    network: Network,
    exported: nn.Module,
    images: Iterator[tuple[str, Tensor]],
    report: Callable[[ParityCase], None] | None,
) -> list[ParityCase]:
    cases = []
    for name, image in images:
        with torch.inference_mode():
            cases.append(compare(name, image, network(image), exported(image)))
        if report is not None:
            report(cases[-1])
    for case in cases:
        if not case.difference <= LOGIT_TOLERANCE:
            raise FullscaleError(f"the exported model differs from PyTorch, nothing was written; {case.describe()}")
    otherwise, voxels = sum(case.decided_otherwise for case in cases), sum(case.voxels for case in cases)
    if otherwise > VOXEL_TOLERANCE * voxels:
        raise FullscaleError(
            f"the exported model decides {otherwise} of {voxels} voxels otherwise; nothing was written"
        )
    return cases
