"""From the fingerprint of a data set to the choices of a run, each with the reason beside it.

A plan is JSON that a person reads and edits: change a `value`, and train with `--plan`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from fullscale.data.checks import CaseFacts, Inspection, require_trainable
from fullscale.data.image_plan import ImageFacts, is_image, plan_images
from fullscale.data.intensity_plan import plan_intensities
from fullscale.data.label_choice import LabelChoice
from fullscale.data.label_plan import NO_ORDER, NO_REGIONS, Choice, changed_labels, plan_labels
from fullscale.data.labels import LabelScheme
from fullscale.data.patch_plan import patch_shape, why_slices
from fullscale.data.recipe import Intensity, Neighbours, Recipe, Spacing, View
from fullscale.data.sides import safe_mirrors
from fullscale.data.upright import extent_mm, in_plane, median_grid
from fullscale.documents import read_model
from fullscale.errors import UsageError
from fullscale.geometry.units import Unit

DEEPEST_STRIDE = 16
CPU_SIDE = 192
CPU_WIDTH = 16
CPU_VOXELS = 48 << 10
PAPER_SIDE = 320
PAPER_WIDTH = 64
PATCH_WIDTH = 32
THIN = {"fusion": "reduce", "skip_channels": 8}
"""Each map is reduced before it is brought up: a step of slices of width 16 takes a third of the processor time of one
of the paper's form, and the scores are no lower (docs/results.md)."""
LEAN = {"normalization": "instance", "downsampling": "stride"} | THIN
"""The form of UNet 3+ that learns most per minute of images on a CPU (docs/results.md)."""
OF_PATCHES = LEAN | {"fusion": "refine"}
"""The form that learns most in three dimensions: a little slower than `LEAN`, and better (docs/results.md)."""
MAX_BATCH = 32
BYTES_PER_VOXEL = 18_600
"""Of a width-64 UNet 3+ in training with bf16: its published 1,860 MB of float32 activations at 320x320, doubled for
the backward pass and halved for the type."""


class Plan(BaseModel):
    """What the data suggest.

    Attributes:
        dataset: its name.
        modality: `"CT"` (intensities are HU), `"MRI"` or `"unknown"`.
        labels: values in the masks and their names, background first; values that share a name are merged.
        regions: label values of each structure, where structures overlap; they alone are segmented then.
        region_order: value that each region is written as; empty is one of its own.
        ignore: label value of which nothing is known, or null.
        intensity: clipping and normalisation, of each channel by its name where there are several.
        view: whether the network is shown slices, or patches of three dimensions.
        spacing_mm: voxel size that scans are resized to, in plane or along three axes; null keeps each scan's own.
        neighbours: slices above and below that are shown with each; 0 for patches.
        patch_size: rows and columns of a training crop, or slices, rows and columns.
        width: channels of the network's first level.
        network: further options of the network, where it has them.
        batch_size: crops a step.
        augment: options of the augmentation, where it has them.
        resample_channels: whether channels on other grids are brought onto that of the first, or refused.
        unit: what `spacing_mm` is counted in.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str
    modality: Choice[str]
    labels: Choice[dict[int, str]]
    regions: Choice[dict[str, tuple[PositiveInt, ...]]] = NO_REGIONS
    region_order: Choice[tuple[PositiveInt, ...]] = NO_ORDER
    ignore: Choice[PositiveInt | None] = Choice(value=None, reason="no label value stands for the unknown")
    intensity: Choice[Intensity | dict[str, Intensity]]
    view: Choice[View] = Choice(value="slices", reason="a plan of an earlier version")
    spacing_mm: Choice[Spacing | None]
    neighbours: Choice[Neighbours]
    patch_size: Choice[tuple[PositiveInt, PositiveInt] | tuple[PositiveInt, PositiveInt, PositiveInt]]
    width: Choice[PositiveInt]
    network: Choice[dict[str, Any]] = Choice(value={}, reason="slices: the network's own")
    batch_size: Choice[PositiveInt]
    augment: Choice[dict[str, Any]] = Choice(value={}, reason="slices: the augmentation's own")
    resample_channels: Choice[bool] = Choice(value=False, reason="channels lie on one grid")
    unit: Choice[Unit] = Choice(value="mm", reason="scans state the size of their voxels")

    @field_validator("labels")
    @classmethod
    def _labels_with_background(cls, labels: Choice[dict[int, str]]) -> Choice[dict[int, str]]:
        if 0 not in labels.value or min(labels.value) < 0 or not LabelScheme(labels.value).structures:
            raise ValueError("expected 0 for the background and at least one structure of a higher value")
        return labels

    @model_validator(mode="after")
    def _of_one_view(self) -> Plan:
        try:
            _ = self.scheme
        except UsageError as error:
            raise ValueError(str(error)) from error
        require_patch_size(self.patch_size.value, self.view.value)
        Recipe.model_validate(self._recipe_values())
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Plan.model_validate_json, (self.model_dump_json(),)  # pickle does not know `Choice[str]` by name

    @property
    def recipe(self) -> Recipe:
        """What is done to a scan before a network sees it."""
        return Recipe.model_validate(self._recipe_values())

    def _recipe_values(self) -> dict[str, Any]:
        return {name: getattr(self, name).value for name in Recipe.model_fields}

    @property
    def scheme(self) -> LabelScheme:
        """What the values of the masks mean, and how a network's channels stand for them."""
        return LabelScheme(self.labels.value, self.regions.value, self.region_order.value, self.ignore.value)

    @property
    def structures(self) -> dict[int, str]:
        """Value and name of each structure, in the order of the classes; values that share a name are merged."""
        return self.scheme.structures

    @property
    def classes(self) -> int:
        """Channels of the network's output."""
        return self.scheme.channels

    def with_labels(self, choice: LabelChoice) -> Plan:
        """Return the plan with what the settings say of labels; what they leave open stays.

        Raises:
            UsageError: it does not fit what stays.
        """
        changed = self.model_copy(update=changed_labels(choice))
        _ = changed.scheme
        return changed


def require_patch_size(patch_size: tuple[int, ...], view: View) -> None:
    """Refuse a crop of other dimensions than the view has.

    Raises:
        ValueError: it has.
    """
    wanted = 3 if view == "patches" else 2
    if len(patch_size) != wanted:
        raise ValueError(f"patch_size {list(patch_size)} has {len(patch_size)} sides: expected {wanted} for {view}")


def read_plan(path: Path) -> Plan:
    """Read a plan, edited or not.

    Raises:
        DataError: it is not there, or a value is not what it must be.
    """
    return read_model(path, Plan, "the plan")


def make_plan(inspection: Inspection, gpu_gib: float | None = None, view: View | None = None) -> Plan:
    """Choose from the facts of the usable cases.

    Args:
        inspection: what the cases hold.
        gpu_gib: memory of the GPU that will train, or None for a CPU.
        view: slices or patches, where that is set already.

    Raises:
        DataError: no case can be used, no mask holds a structure, or the labels as a whole cannot be trained on.
    """
    require_trainable(inspection)
    facts = list(inspection.facts.values())
    modality = _modality(inspection, facts)
    chosen_view = _view(facts, gpu_gib, view)
    common: dict[str, Any] = {
        "dataset": inspection.dataset.name,
        "modality": modality,
        **plan_labels(inspection),
        "intensity": plan_intensities(modality.value, facts),
        "view": chosen_view,
        "resample_channels": _resampling(inspection),
        "width": _width(gpu_gib, chosen_view.value),
    }
    if all(is_image(f.shape) for f in facts) and chosen_view.value == "slices":
        return Plan(**common, **_for_images(facts, gpu_gib, inspection.scheme, common["width"].value))
    if chosen_view.value == "patches":
        return Plan(**common, **_for_patches(facts, gpu_gib, inspection.scheme))
    spacing = _spacing(facts, gpu_gib)
    patch = _patch_size(facts, spacing.value, gpu_gib)
    return Plan(
        **common,
        spacing_mm=spacing,
        neighbours=Choice(value=1, reason="the paper shows the slice above and the slice below as further channels"),
        patch_size=patch,
        batch_size=_batch_size(patch.value, common["width"].value, gpu_gib),
        network=_of_slices(gpu_gib),
    )


def _of_slices(gpu_gib: float | None) -> Choice[dict[str, Any]]:
    if gpu_gib is not None:
        return Choice(value={}, reason="a GPU: the network's own")
    return Choice(value=THIN, reason="a CPU: a step takes a third of the time of the paper's form at no lower scores")


def _resampling(inspection: Inspection) -> Choice[bool]:
    if inspection.dataset.resample_channels:
        return Choice(value=True, reason="set by data.resample_channels")
    return Choice(value=False, reason="every channel of a case lies on the grid of the first")


def _view(facts: list[CaseFacts], gpu_gib: float | None, wanted: View | None) -> Choice[View]:
    if wanted is not None:
        return Choice(value=wanted, reason="set by data.view")
    why = why_slices(*median_grid(facts), on_cpu=gpu_gib is None)
    if why is not None:
        return Choice(value="slices", reason=why)
    return Choice(value="patches", reason="voxels are about as long as wide, and the scans have many slices")


def _for_images(
    facts: list[CaseFacts], gpu_gib: float | None, scheme: LabelScheme, width: int
) -> dict[str, Choice[Any]]:
    """Choose for single images."""
    images = [ImageFacts(*in_plane(f), f.unit, f.thickness) for f in facts]
    found = plan_images(images, scheme.structures.values(), on_cpu=gpu_gib is None)
    patch = _patch_size(facts, found.choices["spacing_mm"][0], gpu_gib, found.pixel)
    lean = Choice[dict[str, Any]](value=LEAN, reason="a step takes a tenth of the processor time of the paper's form")
    return {name: Choice(value=value, reason=reason) for name, (value, reason) in found.choices.items()} | {
        "network": lean if gpu_gib is None else _of_slices(gpu_gib),
        "patch_size": patch,
        "batch_size": _batch_size(patch.value, width, gpu_gib),
    }


def _for_patches(facts: list[CaseFacts], gpu_gib: float | None, scheme: LabelScheme) -> dict[str, Choice[Any]]:
    shape, spacing = median_grid(facts)
    target = tuple(round(step, 4) for step in spacing)
    mirrored, why = _mirrored(scheme, gpu_gib)
    patch = patch_shape(shape, spacing, gpu_gib)
    size = " x ".join(f"{side:.0f}" for side in shape)
    room = "that a CPU learns from fastest" if gpu_gib is None else f"for {gpu_gib:.0f} GiB of GPU memory"
    return {
        "spacing_mm": Choice(
            value=target,
            reason="median distances across slices, of rows and of columns",
        ),
        "neighbours": Choice(value=0, reason="a patch holds its neighbours"),
        "patch_size": Choice(
            value=patch.sides,
            reason=f"the proportions of the median scan, {size} voxels, in a size {room}; multiples of the strides",
        ),
        "network": Choice(
            value={"spatial_dims": 3, "levels": len(patch.strides) + 1, "strides": patch.strides} | OF_PATCHES,
            reason="an axis is halved until the levels are isotropic; a step of the refined form takes half the time "
            "of the paper's, at scores level with a plain UNet",
        ),
        "batch_size": Choice(value=2, reason="two patches a step"),
        "augment": Choice(
            value={"spacing_mm": target} | ({"flip": 0.5, "mirrors": ["left-right"]} if mirrored else {}),
            reason=f"patches are turned in mm, and {'half' if mirrored else 'none'} of them mirrored: {why}",
        ),
    }


def _mirrored(scheme: LabelScheme, gpu_gib: float | None) -> tuple[bool, str]:
    """Decide whether to mirror left and right, and say why."""
    if "left-right" not in safe_mirrors(scheme.structures.values(), "patches"):
        return False, "a structure is named after the left or the right"
    if gpu_gib is None:
        return False, "the short training of a CPU learns more without (docs/results.md)"
    return True, "no structure is named after the left or the right"


def _modality(inspection: Inspection, facts: list[CaseFacts]) -> Choice[str]:
    declared = inspection.dataset.modality
    if declared:
        name = {"MR": "MRI"}.get(declared.upper(), declared.upper())
        return Choice(value=name, reason="declared by the data set")
    if all(f.unit != "mm" for f in facts):
        return Choice(value="unknown", reason="not declared, and images do not say it")
    lowest = float(np.median([next(iter(f.channels.values())).intensity_min for f in facts]))
    if lowest <= -500:
        return Choice(value="CT", reason=f"not declared; the scans reach {lowest:.0f}, as air does in HU")
    return Choice(value="unknown", reason=f"not declared, and the lowest voxels ({lowest:.0f}) are not air in HU")


def _spacing(facts: list[CaseFacts], gpu_gib: float | None) -> Choice[PositiveFloat | None]:
    median = float(np.median([s for f in facts for s in in_plane(f)[1]]))
    side = float(np.median([max(extent_mm(f)) for f in facts])) / median
    if gpu_gib is None and side > CPU_SIDE:
        coarse = round(median * side / CPU_SIDE, 4)
        return Choice(
            value=coarse,
            reason=f"median {median:.4g} mm, coarsened so that a slice of {side:.0f} voxels becomes {CPU_SIDE}: "
            "training on a CPU costs 1/x² of the time",
        )
    return Choice(value=round(median, 4), reason="median in-plane spacing of the scans")


def _patch_size(
    facts: list[CaseFacts], spacing_mm: float | None, gpu_gib: float | None, pixel: float | None = None
) -> Choice[tuple[int, int]]:
    """Choose a crop of the median slice; a pixel of images is as long as it is said to be, if at all."""
    sizes = [extent_mm(f) if pixel is None else tuple(pixel * n for n in in_plane(f)[0]) for f in facts]
    extents = np.median(sizes, axis=0)
    spacing = spacing_mm or float(np.median([s for f in facts for s in in_plane(f)[1]]))
    voxels = extents / spacing
    cap = CPU_SIDE if gpu_gib is None else PAPER_SIDE
    rows, columns = (min(cap, int(np.ceil((v - 0.5) / DEEPEST_STRIDE)) * DEEPEST_STRIDE) for v in voxels)
    return Choice(
        value=(max(rows, 2 * DEEPEST_STRIDE), max(columns, 2 * DEEPEST_STRIDE)),
        reason=f"the median slice is {voxels[0]:.0f}x{voxels[1]:.0f} at this spacing; a multiple of {DEEPEST_STRIDE}, "
        f"at most {cap}" + ("" if gpu_gib is None else " (the paper's crop)"),
    )


def _width(gpu_gib: float | None, view: View) -> Choice[PositiveInt]:
    if view == "patches":
        return Choice(
            value=CPU_WIDTH if gpu_gib is None else PATCH_WIDTH,
            reason="a third axis multiplies the cost of every channel" + (", here of a CPU" if gpu_gib is None else ""),
        )
    if gpu_gib is None:
        return Choice(value=CPU_WIDTH, reason="a CPU: a quarter of the paper's width is a sixteenth of its cost")
    if gpu_gib < 10:
        return Choice(value=PAPER_WIDTH // 2, reason=f"half the paper's width, for {gpu_gib:.0f} GiB of GPU memory")
    return Choice(value=PAPER_WIDTH, reason="the paper's")


def _batch_size(patch: tuple[int, int], width: int, gpu_gib: float | None) -> Choice[PositiveInt]:
    voxels = patch[0] * patch[1]
    if gpu_gib is None:
        size = int(np.clip(CPU_VOXELS // voxels, 2, MAX_BATCH))
        return Choice(value=size, reason=f"about {CPU_VOXELS} voxels a step: a CPU learns faster by many small steps")
    fitting = int(0.7 * gpu_gib * 2**30 / (voxels * BYTES_PER_VOXEL * width / PAPER_WIDTH))
    return Choice(
        value=int(np.clip(fitting, 2, MAX_BATCH)),
        reason=f"estimated to fill 70 % of {gpu_gib:.0f} GiB of GPU memory, at most {MAX_BATCH}",
    )
