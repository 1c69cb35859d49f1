"""From a model and a scan to a mask on the scan's own grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from torch import Tensor

from fullscale.bundle.card import Card, ModelCard
from fullscale.data.recipe import Recipe, SliceGeometry, image_slices, slice_geometry
from fullscale.geometry.volume import Volume
from fullscale.inference.combine import Combination
from fullscale.inference.memory import require_memory
from fullscale.inference.mirrors import mirrored
from fullscale.inference.onto_scan import decide_onto, onto_plane, onto_slices
from fullscale.inference.postprocess import apply_rules
from fullscale.inference.region import SMALLEST, Box, BoxView, RegionMode, find_box, segment_box
from fullscale.inference.runtimes.load import RunningMember, RuntimeName, load_members
from fullscale.inference.runtimes.torch import TorchRuntime, choose_device
from fullscale.inference.scan import Scans, as_channels
from fullscale.inference.stages import Stages
from fullscale.inference.trust.watch import Probabilities, Slab, Watchers
from fullscale.networks.protocol import Network
from fullscale.progress import Progress, ignore
from fullscale.views.patches import PatchView
from fullscale.views.protocol import Compute, View
from fullscale.views.slices import SliceView


class Predictor:
    """A trained model on a device. Calls leave no trace: the same scan always gives the same mask.

    The members of an ensemble see the same scan one after the other, each in its own view of slices or patches; each is
    gated by its own guidance, and their mean probability decides. A single member decides by its logits.

    Args:
        card: what the model is.
        members: its models, at least one, on their devices.
        batch_size: slices or tiles at once; default by the device's memory.
        quick: take the first member alone, and leave out the mirrored images and the post-processing that its card
            asks for.
        postprocess: do what the card says to the mask, as validation chose it.
        region: "whole" shows the network every slice whole. "coarse" looks for the structures in every few slices at
            half the resolution first, and then only around them; see `inference/region.py`.
    """

    def __init__(
        self,
        card: Card,
        members: Sequence[RunningMember],
        batch_size: int | None = None,
        quick: bool = False,
        postprocess: bool = True,
        region: RegionMode = "whole",
    ) -> None:
        self.card = card
        self.members = list(members[:1] if quick else members)
        self.batch_size = batch_size
        self.quick = quick
        self.region = region
        self.rules = card.postprocess if postprocess and not quick else ()

    def describe(self) -> str:
        """Say in a line what each scan goes through."""
        cards = [member.card for member in self.members]
        views = " and ".join(dict.fromkeys(card.recipe.view for card in cards))
        mirrors = {mirror for card in cards for mirror in card.mirrors if not self.quick}
        turned = f", with mirror images ({', '.join(sorted(mirrors))})" if mirrors else ""
        models = "one model" if len(cards) == 1 else f"{len(cards)} models, whose probabilities are averaged"
        then = f"; post-processing: {', '.join(rule.what for rule in self.rules)}" if self.rules else ""
        where = "around the structures that a coarse pass finds" if self.region == "coarse" else "whole"
        by = " and ".join(dict.fromkeys(member.runtime.describe() for member in self.members))
        return f"each scan is segmented {where}, in {views}, by {models}{turned}, computed by {by}{then}"

    @classmethod
    def from_run(
        cls,
        folder: str | Path,
        device: str = "auto",
        batch_size: int | None = None,
        quick: bool = False,
        postprocess: bool = True,
        region: RegionMode = "whole",
        runtime: RuntimeName | None = None,
    ) -> Self:
        """Load a run folder (all its folds), a fold of it, a bundle, or an exported `.onnx` with its `.json` beside it.

        Args:
            folder: the model.
            device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`; an ONNX model takes `auto` and `cpu`.
            batch_size: slices or tiles at once; default by the device's memory.
            quick: take the first member alone, and leave out the mirrored images and the post-processing that its card
                asks for.
            postprocess: do what the card says to the mask, as validation chose it.
            region: "whole", or "coarse" to look only around what a coarse pass finds.
            runtime: what computes a run or a bundle: "torch", the default; "onnx" or "openvino", whose graph is made
                once and kept beside the bundle; or "auto", OpenVINO where its graph is kept and is quicker.

        Raises:
            DataError: there is no model, or it is damaged.
            UsageError: the device is not there, a runtime is not installed, or the two do not go together.
            FullscaleError: a graph cannot be made.
        """
        return cls(*load_members(Path(folder), device, runtime), batch_size, quick, postprocess, region)

    @classmethod
    def from_network(
        cls, card: ModelCard, network: Network, device: str = "auto", batch_size: int | None = None
    ) -> Predictor:
        """Predict with a network in memory.

        Args:
            card: what it is, and how scans are brought to it.
            network: with its weights; it is moved to the device and put into evaluation mode.
            device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
            batch_size: slices or tiles at once; default by the device's memory.

        Raises:
            UsageError: the device is not there.
        """
        runtime = TorchRuntime(network.eval().to(choose_device(device)))
        return cls(card, [RunningMember(card, runtime)], batch_size)

    def predict(
        self,
        scan: Scans,
        progress: Progress = ignore,
        *,
        spacing_mm: Sequence[float] | None = None,
        stages: Stages | None = None,
    ) -> Volume:
        """Segment a scan.

        Args:
            scan: a file, a DICOM folder, a volume (CT in HU), or an array `[X, Y, Z]` whose axes run to the patient's
                right, front and head. For a model of several channels each of them by its name, or one array
                `[C, X, Y, Z]`.
            progress: told of the slices that are done.
            spacing_mm: of an array, the distance between voxel centres along X, Y and Z; for an array only.
            stages: takes the seconds of each stage, and what is to be known about them.

        Returns:
            Labels (uint8, or uint16 where a label is above 255) on the scan's own grid, with its affine and header.

        Raises:
            DataError: the scan cannot be read, holds NaN, or is too large for the memory that is free.
            UsageError: an array comes without its spacing, or anything else with one.
        """
        channels = as_channels(scan, self.channels, spacing_mm, self.resamples_channels)
        return self.watched(channels, [], progress, stages)

    def predict_probabilities(
        self,
        scan: Scans,
        progress: Progress = ignore,
        *,
        spacing_mm: Sequence[float] | None = None,
        stages: Stages | None = None,
    ) -> tuple[Volume, dict[str, Volume]]:
        """Segment a scan, and tell for each structure its probability (float16) on the scan's own grid.

        Probabilities are calibrated by the temperature of each structure, where the card has one; each is that of the
        structure against all else, so that they need not add up to 1. The mask is decided before that. Post-processing
        changes the mask and leaves probabilities as they are. The scan is always seen whole.
        A structure that the guidance finds absent from a slice has probability exactly 0 there; in patches, where it is
        absent from all tiles around a voxel, at most 1e-13 before calibration. Arguments and errors are those of
        `predict`.
        """
        channels = as_channels(scan, self.channels, spacing_mm, self.resamples_channels)
        soft = Probabilities(self.card.scheme, self.card.trust)
        return self.watched(channels, [soft], progress, stages), self.by_structure(soft.found, first_of(channels))

    def by_structure(self, maps: npt.NDArray[np.float16], scan: Volume) -> dict[str, Volume]:
        """Name maps `[structures, S, H, W]` of the slices of a scan, and bring them to its grid."""
        geometry = self.geometry(scan)
        return {
            name: geometry.to_volume(structure, scan)
            for name, structure in zip(self.card.structures.values(), maps, strict=True)
        }

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels that a scan must have, in the model's order."""
        return self.members[0].card.recipe.channels

    @property
    def resamples_channels(self) -> bool:
        """Whether channels on other grids are brought onto that of the first, as they were in training."""
        return self.members[0].card.recipe.resample_channels

    def geometry(self, scan: Volume) -> SliceGeometry:
        """Work out how a scan is cut; its own grid is the same for all members, whatever they resize it to."""
        return slice_geometry(scan, self.members[0].card.recipe)

    def slabs(
        self, channels: Mapping[str, Volume], compute: Callable[[RunningMember], Compute]
    ) -> Iterator[tuple[slice, Iterator[Tensor]]]:
        """Compute maps of a scan, a few of its slices at a time.

        Args:
            channels: of the scan.
            compute: makes of a member what takes images to maps of K channels, such as logits.

        Yields:
            Which slices, and for each member, one after the other, their maps `[b, K, H, W]` on the scan's own grid.

        Raises:
            DataError: the scan holds NaN, or is too large for the memory that is free; at once, not at the first slab.
        """
        shape = self.geometry(first_of(channels)).shape
        slabs = self._slabs(self._prepared(channels), shape, compute)
        return ((where, (onto_plane(maps, shape[1:]) for maps in by_member)) for where, by_member in slabs)

    def _prepared(self, channels: Mapping[str, Volume], kept: int = 0) -> list[npt.NDArray[np.float32]]:
        """Bring a scan to what each member is shown, `[C, S, h, w]`; members of one recipe share it."""
        scan = first_of(channels)
        require_memory(scan, [member.card for member in self.members], kept, bool(self.rules))
        images: dict[Recipe, npt.NDArray[np.float32]] = {}
        for member in self.members:
            recipe = member.card.recipe
            if recipe not in images:
                images[recipe] = image_slices(channels, slice_geometry(scan, recipe), recipe)
        return [images[member.card.recipe] for member in self.members]

    def _slabs(
        self,
        prepared: Sequence[npt.NDArray[np.float32]],
        shape: tuple[int, int, int],
        compute: Callable[[RunningMember], Compute],
        box: Box | None = None,
    ) -> Iterator[tuple[slice, Iterator[Tensor]]]:
        """Compute maps of prepared images, of the whole scan or of the slices of a box, on each member's own plane.

        The slices are those of the scan; the rows and columns are those that the member sees.
        """
        views = [view_of(member.card, self.batch_size, box) for member in self.members]
        devices = [member.runtime.device for member in self.members]
        size = min(
            view.slab(image.shape[1:], device) for view, image, device in zip(views, prepared, devices, strict=True)
        )
        begin, end = box.slices if box else (0, shape[0])
        streams = [
            onto_slices(
                view.maps(self._mirrored(member, compute), image, device),
                end - begin if box else image.shape[1],
                end - begin,
                size,
            )
            for member, view, image, device in zip(self.members, views, prepared, devices, strict=True)
        ]
        return (
            (slice(start, min(start + size, end)), (next(stream) for stream in streams))
            for start in range(begin, end, size)
        )

    def _mirrored(self, member: RunningMember, compute: Callable[[RunningMember], Compute]) -> Compute:
        return compute(member) if self.quick else mirrored(compute(member), member.card.mirrors)

    def watched(
        self,
        channels: Mapping[str, Volume],
        watchers: Watchers,
        progress: Progress = ignore,
        stages: Stages | None = None,
    ) -> Volume:
        """Segment a scan, as `predict` does, while others look on.

        Args:
            channels: of the scan, as `as_channels` returns them.
            watchers: see every slab of slices when it is decided; one of them may need the whole scan.
            progress: told of the slices that are done.
            stages: takes the seconds of each stage, and what is to be known about them.
        """
        stages = stages or Stages()
        scan = first_of(channels)
        geometry = self.geometry(scan)
        with stages.timed("preparing"):
            prepared = self._prepared(channels, sum(watcher.kept for watcher in watchers))
        box = None
        if self.region == "coarse" and any(watcher.whole for watcher in watchers):
            stages.notes.append("segmented whole: probabilities are asked for, which are those of the whole scan")
        elif self.region == "coarse":
            with stages.timed("coarse"):
                box = self._box(prepared, geometry, scan, stages)

        def decide(box: Box | None) -> npt.NDArray[np.uint8]:
            first, end = box.slices if box else (0, geometry.shape[0])
            decided = np.empty((end - first, *geometry.shape[1:]), dtype=np.uint8)
            done = 0
            slabs = self._slabs(prepared, geometry.shape, _logits, box)
            for where, slab in self._decided(slabs, geometry.shape[1:], watchers):
                decided[done : done + len(slab)] = slab
                done += len(slab)
                progress(where.stop, geometry.shape[0], "slices")
            return decided

        with stages.timed("fine"):
            if box is None:
                classes = decide(None)
            else:
                classes = np.zeros(geometry.shape, dtype=np.uint8)
                segment_box(box, prepared[0].shape[1:], classes, decide)
            for watcher in watchers:
                watcher.done(classes, geometry)
        return self.postprocessed(self.label_volume(classes, geometry, scan))

    def _decided(
        self,
        slabs: Iterator[tuple[slice, Iterator[Tensor]]],
        plane: tuple[int, int],
        watchers: Watchers,
    ) -> Iterator[tuple[slice, npt.NDArray[np.uint8]]]:
        """Decide the classes `[s, H, W]` of one slab after the other."""
        for where, by_member in slabs:
            if not any(watcher.full_size for watcher in watchers):
                members = list(by_member)
                for (number, logits), watcher in product(enumerate(members), watchers):
                    watcher.member(where, number, logits)
                yield where, decide_onto(members, plane, self.card.scheme).cpu().numpy()
                continue
            combined = Combination(self.card.scheme)
            for number, logits in enumerate(by_member):
                at_full_size = onto_plane(logits, plane)
                combined.add(at_full_size)
                for watcher in watchers if len(self.members) > 1 else ():
                    watcher.member(where, number, at_full_size)
            decided = combined.decide()
            for watcher in watchers:
                watcher.slab(Slab(where, combined, decided))
            yield where, decided.cpu().numpy()

    def _box(
        self, prepared: Sequence[npt.NDArray[np.float32]], geometry: SliceGeometry, scan: Volume, stages: Stages
    ) -> Box | None:
        """Find where the structures are by the first member; None, and a note why, where the whole scan is needed."""
        lead, image = self.members[0], prepared[0]
        view = view_of(lead.card, self.batch_size)
        one_size = len({other.shape for other in prepared}) == 1 and min(image.shape[2:]) >= SMALLEST
        if not isinstance(view, SliceView) or scan.unit == "px" or not one_size:
            stages.notes.append(
                f"segmented whole: a coarse pass needs slices in mm, of {SMALLEST} voxels a side or more and the same "
                "for all members"
            )
            return None
        box = find_box(_logits(lead), image, geometry.spacing_mm[0], lead.card.scheme, view, lead.runtime.device)
        if box is None:
            stages.notes.append("segmented whole: the coarse pass found nothing")
        return box

    def label_volume(self, classes: npt.NDArray[np.uint8], geometry: SliceGeometry, scan: Volume) -> Volume:
        """Turn class indices `[S, H, W]` of `geometry.shape` into label values on the scan's own grid."""
        return geometry.to_volume(self.card.scheme.values(classes), scan)

    def postprocessed(self, labels: Volume) -> Volume:
        """Do to a mask what the card says, as validation chose it."""
        if not self.rules:
            return labels
        return labels.with_array(apply_rules(labels.array, labels.voxel_ml, self.card.scheme, self.rules))


def first_of(channels: Mapping[str, Volume]) -> Volume:
    """Return the channel on whose grid masks lie: all others share it."""
    return next(iter(channels.values()))


def _logits(member: RunningMember) -> Compute:
    return member.runtime.logits


def view_of(card: ModelCard, batch_size: int | None = None, box: Box | None = None) -> View:
    """Say how a model is shown a scan: slices with their neighbours, or tiles of the size it was trained on."""
    if box is not None:
        return BoxView(box, card.scheme, card.recipe.neighbours, batch_size)
    if card.recipe.view == "slices":
        return SliceView(card.recipe.neighbours, batch_size)
    assert card.tile_size is not None  # a card of patches without one is refused when it is read
    return PatchView(card.tile_size, card.tile_overlap, batch_size)
