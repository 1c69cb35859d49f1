"""What the protocol of MONAI Label needs beside the service: cases by name, saved masks, sessions."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Query, Request

from fullscale.data.discover import Scan
from fullscale.documents import parse_json
from fullscale.serve.annotations import FINAL, Annotations
from fullscale.serve.service import NotServed, Service
from fullscale.serve.sessions import Sessions
from fullscale.serve.settings import ServedModel
from fullscale.serve.uploads import Upload, UploadLimits, receive, require_zips

STRATEGIES = {"random": "A random case without labels", "first": "The first case without labels"}
NO_SESSION = "no such session: it is over, or was another server's"


@dataclass
class MonaiLabel:
    """What the protocol needs beside the service.

    Attributes:
        service: the service.
        annotations: masks that were saved.
        sessions: scans that were sent for a while.
    """

    service: Service
    annotations: Annotations = field(init=False)
    sessions: Sessions = field(init=False)
    _random: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        state = self.service.settings.state
        self.annotations, self.sessions = Annotations(state / "annotations"), Sessions(state / "sessions")

    @cached_property
    def cases(self) -> dict[str, tuple[Scan, ServedModel]]:
        """Every case by its name, with the first model that takes it."""
        found: dict[str, tuple[Scan, ServedModel]] = {}
        for model in self.service.settings.models.values():
            for name, scan in self.service.cases_of(model).items():
                found.setdefault(name, (scan, model))
        return found

    def case(self, image: str) -> tuple[str, Scan, ServedModel]:
        """Return a case by its name, or by the UID of its DICOM series, as OHIF does.

        Raises:
            NotServed: there is none.
        """
        if image in self.cases:
            return image, *self.cases[image]
        for name, (scan, model) in self.cases.items():
            if image and image in scan.series:
                return name, scan, model
        raise NotServed(f"no image {image!r} here")

    def completed(self, name: str) -> bool:
        """Tell whether a case has labels: of the data set, or saved here."""
        return self.cases[name][0].label is not None or self.annotations.newest(name, FINAL) is not None

    def stats(self) -> dict[str, Any]:
        """Count the cases, and those with labels."""
        tags: dict[str, int] = {}
        for name in self.cases:
            for tag in self.annotations.of_case(name):
                tags[tag] = tags.get(tag, 0) + 1
        return {"total": len(self.cases), "completed": sum(map(self.completed, self.cases)), "label_tags": tags}

    def next_case(self, strategy: str) -> str | None:
        """Choose a case without labels."""
        left = sorted(name for name in self.cases if not self.completed(name))
        if not left:
            return None
        return self._random.choice(left) if strategy == "random" else left[0]


def monai_label(request: Request) -> MonaiLabel:
    """Return what answers a request."""
    found: MonaiLabel = request.app.state.monai_label
    return found


Monai = Annotated[MonaiLabel, Depends(monai_label)]
Tag = Annotated[str, Query(description="final, or another word of the client.", max_length=64)]


def parse_params(text: str) -> dict[str, Any]:
    """Read the field `params` of a request.

    Raises:
        HTTPException: 400 it is no JSON object.
    """
    try:
        params = parse_json(text or "{}")
    except ValueError as error:
        raise HTTPException(400, "params is no JSON") from error
    if not isinstance(params, dict):
        raise HTTPException(400, "params is no JSON object")
    return params


async def received(request: Request, folder: Path, limits: UploadLimits) -> Upload:
    """Take an upload, and look into its zips."""
    upload = await receive(request, folder, limits)
    await asyncio.to_thread(require_zips, upload)
    return upload


def attachment(name: str) -> dict[str, str]:
    """Return the header that gives a file its name."""
    return {"Content-Disposition": f'attachment; filename="{name}"'}
