"""A PACS that is looked through: series that are new there and may fit a rule are fetched, by WADO-RS or C-MOVE."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from fullscale.data.dicom.destination import OUR_TITLE
from fullscale.data.dicom.peers import ListedSeries, Peer, find_series, move_series
from fullscale.data.dicom.web import NO_IMAGES, Query, RemoteSeries, is_url
from fullscale.errors import DataError, FullscaleError, UsageError
from fullscale.serve.pacs.places import Places, name_of
from fullscale.serve.pacs.rules import Look, Rules
from fullscale.serve.pacs.store import PacsStore, Seen

_log = logging.getLogger(__name__)


@dataclass
class Watch:
    """Looks through a PACS.

    Attributes:
        store: of what was seen.
        places: the folders.
        rules: what may be wanted.
        look: how it is looked through.
        pacs: URL of its DICOMweb service, or `AET@host:port`.
        title: our AE title, to which it sends.
        problem: why the last look failed; empty where it did not.
    """

    store: PacsStore
    places: Places
    rules: Rules
    look: Look
    pacs: str
    title: str = OUR_TITLE
    problem: str = field(default="", init=False)

    def step(self) -> None:
        """Look once, and fetch what has the same files as at the last look."""
        try:
            for series in self._listed():
                self._consider(series)
        except FullscaleError as error:
            if not self.problem:
                _log.warning("PACS: it cannot be looked through; it is tried again: GET /pacs says why")
            self.problem = str(error)
        else:
            self.problem = ""

    def _listed(self) -> Iterator[tuple[ListedSeries, RemoteSeries | None]]:
        filters = dict(self.look.filters)
        if self.look.days is not None:
            today = datetime.now(UTC).astimezone()
            filters["StudyDate"] = f"{today - timedelta(days=self.look.days):%Y%m%d}-{today:%Y%m%d}"
        if not is_url(self.pacs):
            for listed in find_series(Peer.parse(self.pacs), filters, self.title):
                yield listed, None
            return
        for remote in Query(Query.parse(self.pacs).server, filters=filters).find():
            yield ListedSeries(remote.study, remote.series, remote.modality, remote.instances), remote

    def _consider(self, found: tuple[ListedSeries, RemoteSeries | None]) -> None:
        series, remote = found
        said = {"Modality": series.modality} if series.modality else {}
        said |= {"SeriesDescription": remote.description} if remote is not None and remote.description else {}
        if series.modality in NO_IMAGES or not any(rule.when.may_hold(said) for rule in self.rules.rules):
            return
        id = name_of(self.pacs, series.study, series.series)
        known = self.store.seen("id = ?", id)
        instances = series.instances or 0
        if not known or known[0].instances != instances:
            row = {"id": id, "study": series.study, "series": series.series, "instances": instances}
            self.store.put("pacs_seen", **row, state="new")
        elif known[0].state == "new" and known[0].due <= time.time():
            self._fetch(known[0], series, remote)

    def _fetch(self, seen: Seen, series: ListedSeries, remote: RemoteSeries | None) -> None:
        attempts = seen.attempts + 1
        try:
            if remote is None:
                move_series(Peer.parse(self.pacs), series, self.title, self.title)
            else:
                with self.places.arriving() as folder:
                    remote.fetch(folder)
        except FullscaleError as error:
            final = isinstance(error, DataError | UsageError) or attempts >= self.rules.retry.times
            due = time.time() + self.rules.retry.pause_s(attempts)
            with self.store.change():
                state = "dead" if final else "new"
                self.store.set("pacs_seen", "id = ?", (seen.id,), attempts=attempts, due=due, state=state)
                if final:
                    remedy = "look after the PACS; put back fetches it again"
                    self.store.write_letter("fetch", seen.id, seen.study, str(error), attempts, remedy)
            _log.warning("PACS: a series could not be fetched; attempt %d", attempts)
            return
        self.store.set("pacs_seen", "id = ?", (seen.id,), attempts=attempts, state="fetched")
