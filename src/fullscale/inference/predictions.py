"""What became of each scan, beside the masks as `predictions.json`: whoever takes them knows their doubts."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fullscale.bundle.card import Card
from fullscale.documents import read_json
from fullscale.errors import DataError
from fullscale.files import locked, write_json
from fullscale.inference.batch import Result

PREDICTIONS = "predictions.json"

_log = logging.getLogger(__name__)


def write_predictions(output: Path, card: Card, results: Sequence[Result]) -> None:
    """Write what became of scans; of other scans, what the file says stays, as long as their masks are there.

    The same masks make the same bytes: scans stand relative to the folder, and nothing says how long they took. Where
    no scan has a mask, nothing is written.

    Args:
        output: folder of the masks.
        card: of the model that made them.
        results: of the scans.

    Raises:
        FullscaleError: it cannot be written.
    """
    if not any(result.written for result in results):
        return
    algorithm = card.algorithm
    model = {"name": algorithm.name, "version": algorithm.version}
    now = [_plain(result, output) | {"model": model} for result in results]
    mine = {entry["scan"] for entry in now}
    with locked(output):
        kept = [entry for entry in _earlier(output) if entry["scan"] not in mine and _is_there(entry, output)]
        entries = sorted(kept + now, key=lambda entry: str(entry["scan"]))
        write_json(output / PREDICTIONS, {"predictions": entries})


def _plain(result: Result, output: Path) -> dict[str, Any]:
    paths = {"mask": result.mask, "segmentation": result.segmentation, "uncertainty": result.uncertainty}
    files = {name: None if path is None else path.relative_to(output).as_posix() for name, path in paths.items()}
    told = {name: value for name, value in result.as_dict().items() if name not in ("elapsed_s", "seconds")}
    return told | files | {"scan": _relative(result.scan, output), "review": result.review}


def _relative(scan: Path, output: Path) -> str:
    try:
        return Path(os.path.relpath(scan, output)).as_posix()
    except ValueError:  # on another drive of Windows
        return scan.as_posix()


def _earlier(output: Path) -> list[dict[str, Any]]:
    path = output / PREDICTIONS
    if not path.exists():
        return []
    try:
        found = read_json(path)["predictions"]
        return [entry for entry in found if isinstance(entry["scan"], str)]
    except (DataError, KeyError, TypeError) as error:
        _log.warning("%s cannot be read and is written anew: %s", path, error)
        return []


def _is_there(entry: dict[str, Any], output: Path) -> bool:
    names = [entry.get("mask"), entry.get("segmentation")]
    return any(isinstance(name, str) and (output / name).exists() for name in names)
