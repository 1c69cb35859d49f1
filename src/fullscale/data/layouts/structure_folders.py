"""TotalSegmentator: `CASE/ct.nii.gz` with a mask for each structure in `CASE/segmentations`, called after it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fullscale.data.case import LEFT_OUT, ONE_CHANNEL, Case, Dataset, Problem
from fullscale.data.layouts.description import beside
from fullscale.data.layouts.folders import subfolders, visible, volumes
from fullscale.data.layouts.rows import add_channels
from fullscale.data.structure_files import structure_files
from fullscale.data.volume_files import volume_stem

_TRUTH = "segmentations"
_MODALITIES = {"ct": "CT", "mri": "MRI"}
"""What the name of the scan says of it."""


def recognise(root: Path) -> Dataset | None:
    """Take a folder of such cases, or one case; several volumes beside the masks are the channels of a scan."""
    folders = [folder for folder in (root, *visible(root)) if folder.is_dir() and _is_case(folder)]
    if not folders:
        return None
    images = {folder.resolve().name: {volume_stem(file): file for file in volumes(folder)} for folder in folders}
    names = tuple(next(iter(images.values())))
    channels = names if len(names) > 1 else (ONE_CHANNEL,)
    declared = beside(root).dataset(root, "TotalSegmentator")
    modality = declared.modality or (_MODALITIES.get(names[0].lower()) if len(names) == 1 else None)
    dataset = replace(declared, channels=channels, modality=modality)
    for folder, (name, files) in zip(folders, images.items(), strict=True):
        truth = subfolders(folder)[_TRUTH]
        scan = files if len(channels) > 1 or len(files) > 1 else {ONE_CHANNEL: next(iter(files.values()))}
        has_labels = bool(structure_files(truth))
        add_channels(dataset, Case(name, scan, truth if has_labels else None, group=name))
        if not has_labels:
            dataset.problems.append(Problem(name, f"{truth}: holds no masks, {LEFT_OUT}", "warning"))
    return dataset


def _is_case(folder: Path) -> bool:
    """Tell a case from a folder of scans whose label maps, of equal names, lie in a folder of their own."""
    truth = subfolders(folder).get(_TRUTH)
    scans = {volume_stem(file) for file in volumes(folder)}
    return truth is not None and bool(scans) and not scans & structure_files(truth).keys()
