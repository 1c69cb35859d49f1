"""What the protocol of MONAI Label needs beside the service: cases by name, saved masks, sessions."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Query, Request

from fullscale.data.discover import Scan
from fullscale.documents import parse_json
from fullscale.serve.casebook import CaseBook
from fullscale.serve.service import NotServed, Service
from fullscale.serve.sessions import Sessions
from fullscale.serve.settings import ServedModel
from fullscale.serve.uploads import Upload, UploadLimits, receive, require_zips

DOUBT = "doubt"
STRATEGIES = {
    "random": "A random case without labels",
    "first": "The first case without labels",
    DOUBT: "The case without labels that its model is least sure of, of those that were segmented",
}
NO_SESSION = "no such session: it is over, or was another server's"


@dataclass
class MonaiLabel:
    """What the protocol needs beside the service.

    Attributes:
        service: the service.
        book: its cases, and masks that were saved.
        sessions: scans that were sent for a while.
    """

    service: Service
    book: CaseBook
    sessions: Sessions = field(init=False)
    _random: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        self.sessions = Sessions(self.service.settings.state / "sessions")

    def case(self, image: str) -> tuple[str, Scan, ServedModel]:
        """Return a case by its name, or by the UID of its DICOM series, as OHIF does.

        Raises:
            NotServed: there is none.
        """
        if image in self.book.cases:
            return image, *self.book.case(image)
        for name, (scan, _) in self.book.cases.items():
            if image and image in scan.series:
                return name, *self.book.case(name)
        raise NotServed(f"no image {image!r} here")

    def stats(self) -> dict[str, Any]:
        """Count the cases, and those with labels."""
        tags: dict[str, int] = {}
        for name in self.book.cases:
            for tag in self.book.annotations.of_case(name):
                tags[tag] = tags.get(tag, 0) + 1
        return {
            "total": len(self.book.cases),
            "completed": sum(map(self.book.completed, self.book.cases)),
            "label_tags": tags,
        }

    def next_case(self, strategy: str) -> str | None:
        """Choose a case without labels."""
        left = sorted(name for name in self.book.cases if not self.book.completed(name))
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
