"""LiTS: `volume-N` with `segmentation-N`, in one folder or in folders of it, and `test-volume-N` without labels."""

from __future__ import annotations

import re
from pathlib import Path

from fullscale.data.case import Case, Dataset
from fullscale.data.layouts.folders import pair, subfolders, volumes
from fullscale.data.volume_files import volume_stem


def recognise(root: Path) -> Dataset | None:
    """Take a folder with at least one volume and one segmentation so named; the volume names the case."""
    found: dict[str, list[tuple[str, Path]]] = {"volume": [], "segmentation": [], "test-volume": []}
    for file in (file for folder in (root, *subfolders(root).values()) for file in volumes(folder)):
        match = re.fullmatch(r"(volume|segmentation|test-volume)-(\d+)", volume_stem(file))
        if match is not None:
            name = match[0] if match[1] == "test-volume" else f"volume-{match[2]}"
            found[match[1]].append((name, file))
    if not found["volume"] or not found["segmentation"]:
        return None
    dataset = Dataset(root, "LiTS", root.resolve().name, "CT", None)
    pair(dataset, found["volume"], dict(found["segmentation"]))
    for name, file in found["test-volume"]:
        dataset.add(Case.of_image(name, file))
    return dataset
