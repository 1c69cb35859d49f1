"""How much of the fault suite is run, and where its counts go.

The short form is part of `make test`. `make faults` runs the long one and writes the counts that the documentation
shows; `make faults KILLS=5 FILES=10 SCANS=40 SEED=7` runs another.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
COUNTS = ROOT / "benchmarks" / "faults.json"

LONG = os.environ.get("FAULTS") == "long"
SEED = int(os.environ.get("FAULTS_SEED", "13"))
KILLS = int(os.environ.get("FAULTS_KILLS", "30" if LONG else "1"))
"""Kills of a training; prediction and preparation get half of it, other commands a fifth."""
FILES = int(os.environ.get("FAULTS_FILES", "60" if LONG else "1"))
"""Damaged versions of each file that a run and its surroundings hold."""
SCANS = int(os.environ.get("FAULTS_SCANS", "200" if LONG else "15"))
"""Damaged versions of each kind of scan."""


def record(part: str, counts: Mapping[str, Any]) -> None:
    """Keep the counts of a part of the long form in the file that the documentation shows."""
    if not LONG:
        return
    with FileLock(Path(tempfile.gettempdir()) / "fullscale-faults.lock"):
        content = json.loads(COUNTS.read_text()) if COUNTS.is_file() else {}
        content |= {"seed": SEED, part: dict(counts)}
        COUNTS.write_text(json.dumps(dict(sorted(content.items())), indent=2) + "\n")
