"""What a study of an archive costs here, and what grows with the archive: measured in processor seconds on one core.

    OMP_NUM_THREADS=1 python benchmarks/archive_cost.py MODEL SCAN... --server https://HOST/dicom-web

writes benchmarks/archive-cost.json. Processor seconds depend little on what else the machine does; waiting for a disk
or a network is not in them. `archive.py` beside this simulates larger archives from these figures.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fullscale.data.dicom.web import Query
from fullscale.data.identity import content_files, content_of
from fullscale.data.read import read_image
from fullscale.inference import stages
from fullscale.inference.archive import predict_archive
from fullscale.inference.attempt import ArchiveRequest, ModelRequest
from fullscale.inference.entries import find_entries
from fullscale.work.ledger import FOLDER, Ledger, Row, write_row

OUTPUT = Path(__file__).with_name("archive-cost.json")
ENTRIES, ROWS = 20_000, 100_000


def processor_s(work: Callable[[], Any]) -> float:
    """Return the processor seconds of this process that a call takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


def of_scan(model: ModelRequest, scan: Path, folder: Path) -> tuple[dict[str, Any], Row]:
    """Segment one scan as an archive does, and say where its processor seconds went."""
    request = ArchiveRequest(model, folder / scan.name)
    digest_s = processor_s(lambda: content_of(content_files(scan), {}))
    began = time.process_time()
    [found] = predict_archive(request, find_entries([scan.parent], request, Ledger(request.output)), jobs=1)
    whole_s = time.process_time() - began
    [result] = found.results
    assert result.error is None, result.error
    seconds = {"digest": round(digest_s, 2), **result.seconds, "whole": round(whole_s, 2)}
    [row] = Ledger(request.output)
    size = sum(file.stat().st_size for file in content_files(scan))
    said = {"scan": scan.name, "shape": list(read_image(scan).shape), "megabytes": round(size / 1e6, 1)}
    journal = sum(log.stat().st_size for log in (request.output / FOLDER).glob("*.log"))
    return said | {"processor_s": seconds, "journal_bytes": journal}, row


def of_start(model: Path) -> float:
    """Return the processor seconds of a fresh process until it has loaded torch and the model."""
    code = "import sys; from pathlib import Path; from fullscale.inference.attempt import ModelRequest as M; "
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code + "M(Path(sys.argv[1]), 'cpu').load()", str(model)], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def of_listing(model: ModelRequest, folder: Path) -> float:
    """Return the processor seconds of listing an entry."""
    archive = folder / "large"
    archive.mkdir()
    for k in range(ENTRIES):
        (archive / f"study {k}").mkdir()
    request = ArchiveRequest(model, folder / "listed")
    return processor_s(lambda: sum(1 for _ in find_entries([archive], request, Ledger(request.output)))) / ENTRIES


def of_ledger(row: Row, folder: Path) -> dict[str, float]:
    """Say what rows like this one cost: to write, to read, on the disk, in memory, and of each journal."""
    (folder / FOLDER).mkdir(parents=True)
    lines = [Row(f"case {k}", row.state, content=row.content, work=row.work).packed() for k in range(ROWS)]
    (folder / FOLDER / "a.log").write_bytes(b"\n".join(lines))
    size = sum(map(len, lines)) / ROWS
    del lines
    code = "import sys; from pathlib import Path; from fullscale.work.ledger import Ledger\n"
    code += "def held(): return int(Path('/proc/self/statm').read_text().split()[1])\n"
    code += "before = held(); ledger = Ledger(Path(sys.argv[1])); print(held() - before)"
    told = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    read_s = processor_s(lambda: Ledger(folder)) / ROWS
    write_s = processor_s(lambda: [write_row(folder, row) for _ in range(1000)]) / 1000
    (folder / "many" / FOLDER).mkdir(parents=True)
    for k in range(2000):
        (folder / "many" / FOLDER / f"{k}.log").touch()
    journal_s = processor_s(lambda: Ledger(folder / "many")) / 2000
    memory = int(told.stdout) * resource.getpagesize() / ROWS
    return {"row_bytes": size, "read_s": read_s, "write_s": write_s, "row_memory_bytes": memory, "journal_s": journal_s}


def of_server(url: str, folder: Path) -> dict[str, float]:
    """Say what finding a series on a server, and fetching it, costs this side."""
    found: list[Any] = []
    find_s = processor_s(lambda: found.extend(Query.parse(url).find()))
    (folder / "fetched").mkdir()
    series = max(found, key=lambda one: one.instances or 0)
    fetch_s = processor_s(lambda: series.fetch(folder / "fetched"))
    size = sum(file.stat().st_size for file in (folder / "fetched").iterdir())
    return {"find_s": find_s / len(found), "fetch_s": fetch_s, "fetched_megabytes": size / 1e6}


def main() -> None:
    """Measure, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("scans", type=Path, nargs="+", help="each in a folder of its own")
    parser.add_argument("--server", help="of DICOMweb, with at least one series")
    asked = parser.parse_args()
    logging.disable()
    stages.time = SimpleNamespace(perf_counter=time.process_time)  # type: ignore[assignment]
    model = ModelRequest(asked.model, "cpu")
    model.load()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        content: dict[str, Any] = {
            "machine": f"{platform.machine()}, {os.environ.get('OMP_NUM_THREADS', 'all')} thread(s)",
            "start_s": of_start(asked.model),
            "list_s": of_listing(model, folder),
            "model_megabytes": sum(f.stat().st_size for f in (asked.model / "bundle").rglob("*")) / 1e6,
            "server": None if asked.server is None else of_server(asked.server, folder),
            "scans": [],
        }
        for scan in asked.scans:
            said, row = of_scan(model, scan, folder)
            content["scans"].append(said)
            print(json.dumps(said), flush=True)  # noqa: T201
        content["ledger"] = of_ledger(row, folder / "ledger")
    OUTPUT.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
