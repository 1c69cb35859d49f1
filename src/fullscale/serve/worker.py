"""The process that segments: `python -m fullscale.serve.worker`, a job a line on stdin, news of it on stdout.

It ends when its stdin does, so that it never outlives a service that was killed. One model is loaded at a time.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TextIO

from fullscale.data.dicom.stack import DicomReadOptions
from fullscale.data.discover import Scan
from fullscale.data.volume_files import volume_suffix
from fullscale.errors import DataError, FullscaleError, UsageError
from fullscale.inference.attempt import stamp_of
from fullscale.inference.batch import Result, find_scans, segment_scan
from fullscale.inference.naming import OutputOptions
from fullscale.inference.runtimes.load import RuntimeName
from fullscale.serve.circle.doubt import DoubtingPredictor
from fullscale.text import first_line, without_folders

MASK = "mask"
"""What every mask of the service is called: no name of a scan becomes that of a file."""


class Cancelled(Exception):
    """The job is no longer wanted."""


@dataclass
class LoadedModel:
    """The one model that is loaded.

    Attributes:
        predictor: the model.
        key: where it came from, what computes it and where, and what changes when it is written anew.
    """

    predictor: DoubtingPredictor | None = None
    key: Any = None

    def load(self, path: Path, device: str, runtime: RuntimeName | None = None) -> DoubtingPredictor:
        """Load a model, unless it is the one that is loaded."""
        key = (path, device, runtime, stamp_of(path))
        if self.predictor is None or self.key != key:
            self.predictor = None  # its memory is free before the next one takes some
            self.predictor, self.key = DoubtingPredictor.from_run(path, device, runtime=runtime), key
        return self.predictor


class Worker:
    """Works on one job after the other.

    Args:
        out: takes a line of JSON for each piece of news.
    """

    def __init__(self, out: TextIO) -> None:
        self.jobs: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._out, self._model = out, LoadedModel()
        self._at_work, self._unwanted = "", ""

    def listen(self, lines: TextIO) -> None:
        """Take jobs and cancellations until the service is gone; then end at once."""
        for line in lines:
            message = json.loads(line)
            if "cancel" in message:
                self._unwanted = message["cancel"]
            else:
                self.jobs.put(message)
        os._exit(0)

    def work(self, job: dict[str, Any]) -> None:
        """Do a job, and tell how it ended."""
        self._at_work = job["id"]
        try:
            self._tell(ended="done", result=self._segment(job))
        except Cancelled:
            self._tell(ended="cancelled")
        except FullscaleError as error:
            self._tell(ended="failed", failure=without_folders(error))
        except MemoryError as error:
            self._tell(ended="failed", failure=f"it needs more memory than there is ({error or 'none is left'})")
        except Exception as error:
            self._tell(ended="failed", failure=f"{type(error).__name__}: {without_folders(first_line(error))}")

    def _tell(self, **news: Any) -> None:
        self._out.write(json.dumps(news) + "\n")
        self._out.flush()

    def _progress(self, done: int, total: int, item: str) -> None:
        if self._unwanted == self._at_work:
            raise Cancelled
        self._tell(progress=[done, total, item])

    def _segment(self, job: dict[str, Any]) -> dict[str, Any]:
        self._progress(0, 0, "loading")
        predictor = self._model.load(Path(job["model"]), job["device"], job["runtime"])
        dicom = DicomReadOptions(**job["dicom"])
        scan = replace(scan_of(job, dicom, predictor.channels), name=MASK)
        self._progress(0, 0, "reading")
        output = Path(job["output"])
        options, notes = _output_options(scan, job["seg_type"])
        resample = predictor.resamples_channels
        result = segment_scan(predictor, scan, output, options, dicom, resample, self._progress)
        if result.error is not None:
            raise DataError(result.error)
        result.notes += notes
        return _plain(result, predictor)


def scan_of(job: dict[str, Any], dicom: DicomReadOptions, channels: tuple[str, ...]) -> Scan:
    """Find the scan of a job: a case as the service knows it, or what one upload holds.

    Raises:
        DataError: an upload holds no scan, or several.
    """
    if "case" in job:
        return unpacked_scan(job["case"])
    found, beside = find_scans([Path(path) for path in job["uploaded"]], dicom, channels)
    if len(found) != 1:
        rest = f" ({beside[0]})" if beside else ""
        raise DataError(f"the upload holds {len(found)} scans, expected one: upload each by itself{rest}")
    return found[0]


def _output_options(scan: Scan, seg_type: Any) -> tuple[OutputOptions, list[str]]:
    """Choose the formats: of DICOM a DICOM SEG too, where its library is installed."""
    if volume_suffix(scan.path) is not None:
        return OutputOptions(), []
    try:
        import fullscale.data.dicom.seg  # noqa: F401  # of an extra
    except UsageError as error:
        return OutputOptions(), [f"no DICOM SEG is written: {error}"]
    return OutputOptions("both", seg_type), []


def _plain(result: Result, predictor: DoubtingPredictor) -> dict[str, Any]:
    return {
        "mask": result.mask.name if result.mask else None,
        "doubt": predictor.doubt,
        "segmentation": result.segmentation.name if result.segmentation else None,
        "structures": result.structure_ml,
        "unit": result.unit,
        "labels": {str(value): name for value, name in predictor.card.structures.items()},
        "elapsed_s": result.elapsed_s,
        "seconds": result.seconds,
        "warnings": [without_folders(line) for line in result.warnings],
        "notes": [without_folders(line) for line in result.notes if line not in result.warnings],
        "model_digest": predictor.card.digest,
    }


def packed_scan(scan: Scan) -> dict[str, Any]:
    """Turn a scan into plain values."""
    return {
        "name": scan.name,
        "path": str(scan.path),
        "files": [str(file) for file in scan.files],
        "series": sorted(scan.series),
        "channels": {name: str(path) for name, path in scan.channels.items()},
    }


def unpacked_scan(plain: dict[str, Any]) -> Scan:
    """Make a scan of the values of `packed_scan`."""
    return Scan(
        plain["name"],
        Path(plain["path"]),
        tuple(Path(file) for file in plain["files"]),
        frozenset(plain["series"]),
        {name: Path(path) for name, path in plain["channels"].items()},
    )


def main() -> None:
    """Work until the service is gone."""
    # Whatever a library prints goes to standard error: standard output is for news alone.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    worker = Worker(out)
    threading.Thread(target=worker.listen, args=(sys.stdin,), daemon=True).start()
    while True:
        worker.work(worker.jobs.get())


if __name__ == "__main__":
    main()
