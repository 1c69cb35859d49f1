"""Small studies, a service that exchanges with a PACS, and what it came to."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydicom.uid import generate_uid

from tests.dicom_slices import write_slice
from tests.serve.served import PATIENCE_S, Served, served

QUICK = {"settle_s": 0.3, "retry": {"times": 3, "first_s": 0.2}}
"""Rules that wait for nobody."""


def write_study(folder: Path, name: str, slices: int = 8, **tags: Any) -> Path:
    """Write a CT study of its own content and identifiers; the same name is the same study."""
    folder.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(len(name) + sum(name.encode())).integers(-200, 300, (slices, 32, 32))
    study = generate_uid(entropy_srcs=[name])
    who = {"PatientName": f"Doe^{name}", "PatientID": f"ID-{name}", "StudyDate": f"{time.strftime('%Y%m%d')}"}
    of = {"StudyInstanceUID": study, "SeriesInstanceUID": f"{study[:50]}.1", "FrameOfReferenceUID": f"{study[:50]}.2"}
    said = who | of | {"SeriesDescription": "venous", "BodyPartExamined": "ABDOMEN", "PixelSpacing": [2.0, 2.0]} | tags
    for k in range(slices):
        uid = {"SOPInstanceUID": f"{said['SeriesInstanceUID'][:54]}.{k + 1}", "InstanceNumber": k + 1}
        write_slice(folder / f"{k:03d}.dcm", voxels[k], (0, 0, 3.0 * k), **said | uid)
    return folder


def write_rules(path: Path, *to: object, **further: Any) -> Path:
    """Write a rule for CT of the abdomen."""
    when = {"modality": "CT", "description": "*VENOUS*", "body_part": ["abdomen", "liver"], "slices": {"min": 4}}
    rule = {"name": "ct", "model": "tiny", "when": when, "to": [str(place) for place in to]}
    path.write_text(yaml.safe_dump({"rules": [rule]} | QUICK | further))
    return path


@contextmanager
def exchanging(state: Path, run: Path, rules: Path, *words: object, nth: int = 1) -> Iterator[Served]:
    """Serve with a receiver within a block."""
    with served(state, f"tiny={run}", "--rules", rules, "--dicom-port", 0, *words, nth=nth) as service:
        yield service


def peer(service: Served, title: str = "FULLSCALE") -> str:
    """Where the service receives."""
    return f"{title}@127.0.0.1:{service.client.get('/pacs').json()['dicom_port']}"


def until(service: Served, holds: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """Wait until the exchange stands so."""
    for _ in range(10 * PATIENCE_S):
        found: dict[str, Any] = service.client.get("/pacs").json()
        if holds(found):
            return found
        time.sleep(0.1)
    raise AssertionError(f"{found}\n{service.log.read_text()}")


def sent(number: int) -> Callable[[dict[str, Any]], bool]:
    """Tell whether so many segmentations were delivered and nothing is under way."""
    return lambda found: (
        found["deliveries"] == {"sent": number} and not {"arriving"} & set(found["series"]) and idle(found)
    )


def idle(found: dict[str, Any]) -> bool:
    return "waiting" not in found["results"] and "waiting" not in found["deliveries"]


def letters(service: Served) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = service.client.get("/pacs/letters").json()
    return found
