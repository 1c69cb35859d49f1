"""The exchange with the PACS while the service runs: who receives, looks, takes, makes and sends, each in its turn."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fullscale.data.dicom.destination import OUR_TITLE, Destination
from fullscale.data.dicom.receive import Broken, ReceiveOptions, Receiver
from fullscale.errors import FullscaleError, UsageError
from fullscale.serve.pacs.delivery import Deliveries
from fullscale.serve.pacs.intake import Intake
from fullscale.serve.pacs.letters import FOLDER, Letters
from fullscale.serve.pacs.outcomes import Outcomes
from fullscale.serve.pacs.places import Places
from fullscale.serve.pacs.rules import PACS, Rules
from fullscale.serve.pacs.store import PacsStore
from fullscale.serve.pacs.watch import Watch
from fullscale.serve.security import is_loopback
from fullscale.serve.service import Service
from fullscale.text import counted

_log = logging.getLogger(__name__)

_LOOK_S = 1.0
_TIDY_S = 60.0
_STOP_S = 10.0


@dataclass(frozen=True)
class ExchangeOptions:
    """What the exchange was started with.

    Attributes:
        rules: the rule file.
        pacs: URL of the DICOMweb service of the PACS, or `AET@host:port`; None where it sends by itself.
        host: address of the receiver.
        port: of the receiver, 0 for any that is free; None where nothing is received.
        title: our AE title.
    """

    rules: Rules
    pacs: str | None = None
    host: str = "127.0.0.1"
    port: int | None = None
    title: str = OUR_TITLE

    def check(self) -> None:
        """Refuse what cannot work, before anything is started.

        Raises:
            UsageError: nothing would ever arrive, anybody could send from other machines, or a destination is none.
        """
        if self.port is None and (self.pacs is None or self.rules.look is None):
            raise UsageError("--rules needs a source: --pacs to look for studies, --dicom-port to receive them")
        if self.pacs is not None:
            Destination(self.pacs).check()
            if "@" in self.pacs and "://" not in self.pacs and self.port is None and self.rules.look is not None:
                raise UsageError(f"{self.pacs} brings studies by C-MOVE to our own receiver: give --dicom-port")
        if self.port is not None and not is_loopback(self.host) and not self.rules.receive.callers:
            raise UsageError(
                f"anybody could send to {self.host}: the rules must say who may, as receive: {{from: [AET]}}"
            )
        for rule in self.rules.rules:
            for place in rule.to:
                if place != PACS:
                    Destination(place).check()

    def of(self, service: Service) -> Exchange:
        """Make the exchange of a service."""
        return Exchange(service, self)


@dataclass
class Exchange:
    """The exchange of a service.

    Attributes:
        service: does the jobs.
        options: what it was started with.
        port: on which DICOM is received, while it runs; None where it is not.
    """

    service: Service
    options: ExchangeOptions
    port: int | None = None
    _stopping: threading.Event = field(default_factory=threading.Event)
    _arrived: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        settings, rules = self.service.settings, self.options.rules
        self.store = PacsStore(settings.database)
        self.service.metrics.watch_pacs(self.store.counts)
        self.places = Places(settings.state / FOLDER)
        self.letters = Letters(self.store, self.places)
        self._receiver = self._make_receiver()
        sending = set if self._receiver is None else self._receiver.studies
        self._intake = Intake(self.store, self.places, rules, self.service, self.options.pacs, sending)
        self._outcomes = Outcomes(self.store, self.places, self.service)
        self._deliveries = Deliveries(self.store, self.places, rules.retry, self.options.title)
        self.watch: Watch | None = None
        if self.options.pacs is not None and rules.look is not None:
            self.watch = Watch(self.store, self.places, rules, rules.look, self.options.pacs, self.options.title)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Exchange while the block lasts; what is on its way at its end goes on at the next start.

        Raises:
            UsageError: the port of the receiver is in use.
            OutputError: the folder cannot be written.
        """
        self.places.make()
        receiver = self._receiver
        self.port = receiver.start() if receiver is not None else None
        threads = [threading.Thread(target=self._repeat, args=words, daemon=True) for words in self._turns()]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            self._arrived.set()
            if receiver is not None:
                receiver.stop()
            deadline = time.monotonic() + _STOP_S
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))
            self.store.close()

    def describe(self) -> str:
        """Say in a line where studies come from, while it runs."""
        port, pacs = self.port, self.options.pacs
        ways = [f"DICOM is received at {self.options.host}:{port} as {self.options.title}"] if port is not None else []
        ways += [f"{pacs} is looked through"] if self.watch is not None else []
        return f"{counted(len(self.options.rules.rules), 'rule')} for a PACS: {'; '.join(ways)}"

    def summary(self) -> dict[str, Any]:
        """Say how it stands: counts by state, and why the PACS cannot be looked through, if it cannot."""
        problem = self.watch.problem if self.watch is not None else ""
        return self.store.counts() | {"dicom_port": self.port, "problem": problem or None}

    def _make_receiver(self) -> Receiver | None:
        options, largest = self.options, self.service.settings.largest_upload
        if options.port is None:
            return None
        callers = tuple(options.rules.receive.callers)
        may = ReceiveOptions(options.host, options.port, options.title, callers, min(1 << 30, largest), largest)
        return Receiver(may, self.places.incoming, self.places.arrived, self._broken, self._arrived.set)

    def _broken(self, broken: Broken) -> None:
        try:
            self._intake.note_broken(broken)
        except sqlite3.Error as error:
            _log.warning("PACS: a letter could not be written: %s", error)

    def _turns(self) -> list[tuple[Callable[[], None], float]]:
        turns: list[tuple[Callable[[], None], float]] = [
            (self._take, _LOOK_S),
            (self._deliveries.step, _LOOK_S),
            (self._outcomes.tidy, _TIDY_S),
        ]
        if self.watch is not None:
            turns.append((self.watch.step, self.watch.look.every_s))
        return turns

    def _take(self) -> None:
        self._arrived.clear()
        self._intake.step()
        self._outcomes.step()

    def _repeat(self, step: Callable[[], None], every_s: float) -> None:
        """Take a step again and again; what fails, such as on a full disk, may pass."""
        failed = False
        while not self._stopping.is_set():
            try:
                step()
                failed = False
            except (FullscaleError, OSError, sqlite3.Error) as error:
                if not failed:
                    _log.warning("PACS: a step failed and is tried again: %s", type(error).__name__)
                failed = True
            except Exception as error:
                _log.error("PACS: unexpected %s", type(error).__name__)
            waiting = self._arrived if step == self._take else self._stopping
            waiting.wait(every_s)
