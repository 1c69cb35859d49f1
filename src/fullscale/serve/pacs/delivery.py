"""Segmentations on their way: each is tried so many times with growing pauses, and then is a letter for a person."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fullscale.data.dicom.destination import OUR_TITLE, Destination
from fullscale.errors import DataError, FullscaleError, UsageError
from fullscale.serve.pacs.places import Places
from fullscale.serve.pacs.rules import Retry
from fullscale.serve.pacs.store import Delivery, PacsStore
from fullscale.text import without_folders

_log = logging.getLogger(__name__)

AT_A_TIME = 4
"""Destinations that are sent to at a time."""
_PUT_BACK = "look after the receiver; put back sends it again"


@dataclass(frozen=True)
class Deliveries:
    """Sends what is to be sent.

    Attributes:
        store: of results and deliveries.
        places: the folders.
        retry: how often is tried what fails for now.
        title: our AE title.
    """

    store: PacsStore
    places: Places
    retry: Retry
    title: str = OUR_TITLE

    def step(self) -> None:
        """Send all that is due, to several destinations at a time, and to each in turn."""
        due = self.store.deliveries("state = 'waiting' AND due <= ? ORDER BY due", time.time())
        by_place: dict[str, list[Delivery]] = {}
        for delivery in due:
            by_place.setdefault(delivery.destination, []).append(delivery)
        if by_place:
            with ThreadPoolExecutor(min(AT_A_TIME, len(by_place))) as pool:
                list(pool.map(self._send_all, by_place.values()))

    def _send_all(self, deliveries: Sequence[Delivery]) -> None:
        """Send to one destination; where it is away, what is left waits too, without having been tried."""
        for place, delivery in enumerate(deliveries):
            pause_s = self._send(delivery)
            if pause_s:
                for later in deliveries[place + 1 :]:
                    self._change(later, due=time.time() + pause_s)
                return

    def _send(self, delivery: Delivery) -> float:
        """Send one; return how long its destination is left alone."""
        file = self.places.result(delivery.result)
        attempts = delivery.attempts + 1
        try:
            if not file.is_file():
                raise DataError("the segmentation is no longer kept; send the series again")
            [sent_as] = Destination(delivery.destination, self.title).send([file])
        except (DataError, UsageError) as error:
            self._give_up(delivery, attempts, error)
            return 0.0
        except FullscaleError as error:
            return self._try_again(delivery, attempts, error)
        except Exception as error:  # of a library: one that cannot be sent must not keep the others
            return self._try_again(delivery, attempts, FullscaleError(f"unexpected {type(error).__name__}"))
        self._change(delivery, state="sent", attempts=attempts, sent_as=sent_as)
        _log.info("PACS: result %s sent (%s)", delivery.result, sent_as)
        return 0.0

    def _try_again(self, delivery: Delivery, attempts: int, error: FullscaleError) -> float:
        """Let a delivery wait, or give it up after so many attempts; return how long its destination is left alone."""
        if attempts >= self.retry.times:
            self._give_up(delivery, attempts, error)
        pause_s = self.retry.pause_s(attempts)
        self._change(delivery, attempts=attempts, due=time.time() + pause_s)
        _log.warning("PACS: result %s could not be sent; attempt %d", delivery.result, attempts)
        return pause_s

    def _change(self, delivery: Delivery, **changes: object) -> None:
        key = (delivery.result, delivery.destination)
        self.store.set("pacs_deliveries", "result = ? AND destination = ? AND state = 'waiting'", key, **changes)

    def _give_up(self, delivery: Delivery, attempts: int, error: FullscaleError) -> None:
        outcomes = self.store.outcomes("id = ?", delivery.result)
        study = outcomes[0].study if outcomes else ""
        why = without_folders(str(error).removesuffix("; send again later").removesuffix("; send again"))
        subject = f"{delivery.result} {delivery.destination}"
        with self.store.change():
            self._change(delivery, state="dead", attempts=attempts)
            self.store.write_letter("delivery", subject, study, why, attempts, _PUT_BACK)
        _log.warning("PACS: result %s is not sent any more; fullscale letters says why", delivery.result)
