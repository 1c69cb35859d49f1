"""A study of a DICOMweb server whose series are the channels of one case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fullscale.data.dicom.web import Query, RemoteSeries
from fullscale.data.identity import digest_of
from fullscale.errors import DataError


@dataclass(frozen=True)
class RemoteStudy:
    """A study, and for each channel the series that are it by their UID or description: one, if all is well.

    Attributes:
        study: its UID.
        parts: the series of each channel.
    """

    study: str
    parts: Mapping[str, tuple[RemoteSeries, ...]]

    chosen = True
    """That its series are scans is no question: they were named."""

    @property
    def place(self) -> str:
        """Where it lies on its server."""
        return f"studies/{self.study}"

    def content(self, earlier: Mapping[str, Any]) -> dict[str, Any]:
        """Say what its channels hold; see `RemoteSeries.content`.

        Raises:
            DataError: a channel has no series, or several.
            FullscaleError: the server is away.
        """
        known = earlier.get("parts", {})
        parts = {name: one.content(known.get(name, {})) for name, one in self._series().items()}
        whole = digest_of(*(f"{name} {part['content']}" for name, part in sorted(parts.items())))
        return {"seen": "", "content": whole} | ({"parts": parts} if parts else {})

    def fetch(self, folder: Path) -> None:
        """Write the files of each channel into a folder of its own in an empty folder; see `RemoteSeries.fetch`."""
        for number, series in enumerate(self._series().values()):
            (folder / f"{number}").mkdir()
            series.fetch(folder / f"{number}")

    def _series(self) -> dict[str, RemoteSeries]:
        for name, found in self.parts.items():
            if len(found) != 1:
                uids = f" ({', '.join(series.series for series in found)}): name one by its UID" if found else ""
                raise DataError(f"{self.place}: has {len(found)} series for the channel {name}, expected one{uids}")
        return {name: found[0] for name, found in self.parts.items()}


def find_studies(query: Query, by_channel: Mapping[str, str]) -> Iterator[RemoteStudy]:
    """Find the studies that have a series of some channel, each once.

    Args:
        query: which series or studies are asked for; of each study that it finds, all series are looked at.
        by_channel: the UID or description of the series of each channel.

    Raises:
        DataError, UsageError, FullscaleError: as `Query.find`.
    """
    known: set[str] = set()
    for series in query.find():
        if series.study in known:
            continue
        known.add(series.study)
        beside = list(Query(query.server, series.study).find())
        parts = {
            name: tuple(one for one in beside if wanted in (one.series, one.description))
            for name, wanted in by_channel.items()
        }
        if any(parts.values()):
            yield RemoteStudy(series.study, parts)
