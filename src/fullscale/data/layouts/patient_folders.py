"""A folder a patient, which holds a file for each channel and the label map, told apart by their names, as in BraTS."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fullscale.data.case import LEFT_OUT, ONE_CHANNEL, Case, Dataset, Problem
from fullscale.data.layouts.description import SEQUENCES, beside
from fullscale.data.layouts.folders import visible, volumes
from fullscale.data.layouts.rows import add_channels
from fullscale.data.volume_files import volume_stem

_LABELS = {
    *("seg", "segmentation", "label", "labels", "mask", "gt", "truth", "groundtruth", "ground_truth", "manual"),
    *("annotation", "ot", "otmulticlass"),
}
_NOT_SCANS = ("brainmask", "brain_mask", "bet_mask")


def recognise(root: Path) -> Dataset | None:
    """Take a folder of folders, at least one of which holds images and one file that is named as label maps are."""
    found = {folder.name: _parts(folder) for folder in visible(root) if folder.is_dir()}
    patients = {name: parts for name, parts in found.items() if len(parts) > 1}
    if not any(_label(parts) for parts in patients.values()):
        return None
    images = {name: _images(parts) for name, parts in patients.items()}
    declared = beside(root).dataset(root, "a folder a patient")
    first = next(images[name] for name, parts in patients.items() if _label(parts))
    channels = tuple(first) if len(first) > 1 else (ONE_CHANNEL,)
    modality = declared.modality or ("MRI" if {channel.lower() for channel in channels} <= SEQUENCES else None)
    dataset = replace(declared, channels=channels, modality=modality)
    for name, parts in patients.items():
        label = _label(parts)
        files = images[name] if len(channels) > 1 else dict(zip(channels, images[name].values(), strict=False))
        add_channels(dataset, Case(name, files, parts[label] if label else None, group=name))
        if label is None:
            dataset.problems.append(Problem(name, f"{root / name}: has no label, {LEFT_OUT}", "warning"))
        for other in (part for part in parts if part.lower() in _NOT_SCANS):
            dataset.problems.append(Problem(name, f"{parts[other].name} is no channel, and passed over", "warning"))
    return dataset


def _parts(folder: Path) -> dict[str, Path]:
    """Return the volumes of a folder by what is their own in their names: not the folder's name."""
    files = volumes(folder)
    own = f"{folder.name}_".lower()
    return {
        stem[len(own) :] if stem.lower().startswith(own) else stem: file
        for file in files
        for stem in [volume_stem(file)]
    }


def _label(parts: dict[str, Path]) -> str | None:
    """Return the one part that is named as label maps are; None where there is none, or several could be."""
    found = [part for part in parts if part.lower() in _LABELS]
    return found[0] if len(found) == 1 else None


def _images(parts: dict[str, Path]) -> dict[str, Path]:
    """Return the files of the channels by their names, in order; an ending that all of them have is no part of it."""
    names = [part for part in sorted(parts) if part.lower() not in _LABELS and part.lower() not in _NOT_SCANS]
    words = {name: name.split("_") for name in names}
    while len(names) > 1 and min(map(len, words.values())) > 1 and len({own[-1] for own in words.values()}) == 1:
        words = {name: own[:-1] for name, own in words.items()}
    return {"_".join(own): parts[name] for name, own in words.items()}
