"""A model as one file for other runtimes, checked against PyTorch before it takes its place.

What is exported is the network in evaluation mode: normalised slices `[B, 2n + 1, H, W]` or patches `[B, C, D, H, W]`
in, gated logits `[B, channels, ...]` out, float32, batch and size free. Beside the file lies the bundle's model card,
which says how a scan becomes slices or patches and what the channels stand for.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from fullscale.bundle.card import EnsembleCard, ModelCard, card_beside, read_card
from fullscale.bundle.store import WEIGHTS, file_sha256, find_bundle, load_bundle, member_folders
from fullscale.errors import DataError, UsageError
from fullscale.files import atomic_path
from fullscale.inference.export import onnx, openvino, program
from fullscale.inference.export.parity import (
    LOGIT_TOLERANCE,
    SIZES,
    VOXEL_TOLERANCE,
    Answer,
    ParityCase,
    Size,
    check_parity,
)
from fullscale.inference.runtimes.openvino import require_openvino
from fullscale.networks.kernels.forms import Form, set_form
from fullscale.networks.protocol import Network

Format = Literal["onnx", "openvino", "torch"]
SUFFIXES: dict[Format, tuple[str, ...]] = {"onnx": (".onnx",), "openvino": (".xml", ".bin"), "torch": (".pt2",)}
"""Of the files that each format consists of; the first is the one that is named."""
FORMS: tuple[Form, ...] = ("factored", "direct")
"""One graph serves every size, so that none can be chosen by size; and a runtime has its own Winograd."""

Writer = Callable[[nn.Module, int, int, tuple[Path, ...], str], Answer]
_WRITERS: dict[Format, tuple[Writer, dict[int, list[Size]]]] = {
    "onnx": (onnx.write_onnx, SIZES),
    "openvino": (openvino.write_openvino, SIZES),
    "torch": (program.write_program, program.SIZES),
}
"""What writes each format, and the sizes that it is compared on, of images and of volumes."""


@dataclass(frozen=True)
class Export:
    """What was written, and how it compares with PyTorch."""

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
        output: the file, `.onnx` for "onnx", `.xml` for "openvino" (its weights lie beside it as `.bin`), `.pt2` for
            "torch"; the card's name is the same with `.json`.
        format: "onnx"; "openvino", which is the quickest on a CPU; or "torch" for a program of `torch.export` (for your
            own code: `predict` does not read it).
        form: how the up-sampled skips are computed, see `ScaledConv`; one graph serves every size, so not "auto".
        report: called with each case of the comparison.

    Raises:
        DataError: `source` holds no model.
        UsageError: the suffix does not fit, the extra `export` or `openvino` is not installed, or the card would
            replace another's.
        FullscaleError: the network cannot be exported, or its outputs differ from PyTorch's. Nothing is left behind,
            and an older file stays.
    """
    check_request(output, format, form)
    folder = _single_model(source)
    [member] = load_bundle(folder).members
    card, network = member.card, member.network
    beside = card_beside(output)
    exported_before = _exported_before(beside, card)
    with ExitStack() as stack:
        files = tuple(stack.enter_context(atomic_path(path)) for path in files_of(output, format))
        model_card = stack.enter_context(atomic_path(beside))
        write, sizes = _WRITERS[format]
        dims, in_channels = card.recipe.spatial_dims, card.recipe.in_channels
        exported = write(_in_form(network, form), dims, in_channels, files, card.digest)
        cases = check_parity(network, exported, card, sizes[dims], report)
        written = {suffix: file_sha256(file) for suffix, file in zip(SUFFIXES[format], files, strict=True)}
        model_card.write_text(
            card.model_copy(update={"exported": exported_before | written}).model_dump_json(indent=2) + "\n"
        )
    return Export(output, beside, format, form, cases)


def files_of(output: Path, format: Format) -> list[Path]:
    """List the files that a model is written to, its card aside."""
    return [output.with_suffix(suffix) for suffix in SUFFIXES[format]]


def _single_model(source: Path) -> Path:
    folders = member_folders(find_bundle(source))
    if len(folders) > 1:
        example = next(iter(folders.values()))
        raise UsageError(f"{source} is an ensemble of {len(folders)} models: export them one by one, such as {example}")
    return next(iter(folders.values()))


def _exported_before(beside: Path, card: ModelCard) -> dict[str, str]:
    """Return the files that the same model was exported to under the same name; those of an older model are replaced.

    Raises:
        UsageError: a file that is no card, or the card of another bundle, is in the way.
    """
    if not beside.is_file():
        return {}
    try:
        other = read_card(beside)
    except DataError as error:
        raise UsageError(f"{beside} is in the way, and is no model card; choose another folder or name") from error
    if isinstance(other, ModelCard) and other.digest == card.digest:
        return other.exported
    if isinstance(other, EnsembleCard) or (beside.parent / WEIGHTS).is_file():
        raise UsageError(f"{beside} belongs to another model; choose another folder or name")
    return {}


def check_request(output: Path, format: Format, form: Form) -> None:
    """Refuse a format, a form or a name of the output that cannot be.

    Raises:
        UsageError: one of them is wrong, or the extra `export` is not installed.
    """
    if format not in SUFFIXES:
        raise UsageError(f"format '{format}' is unknown: expected {' or '.join(SUFFIXES)}")
    if form not in FORMS:
        raise UsageError(f"form '{form}' cannot be exported: expected {' or '.join(FORMS)}")
    if output.suffix != SUFFIXES[format][0]:
        raise UsageError(
            f"{output} is not a name for the format '{format}': expected one that ends in {SUFFIXES[format][0]}"
        )
    if format == "onnx":
        onnx.require_onnx()
    if format == "openvino":
        require_openvino()


def _in_form(network: Network, form: Form) -> nn.Module:
    """Copy a network for export, every `ScaledConv` in one form."""
    exported = copy.deepcopy(network).eval()
    set_form(exported, form)
    assert isinstance(exported, nn.Module)
    return exported
