"""The dead letters: what a person reads, puts back, or drops. Works on the folder of a service, running or not."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fullscale.errors import DataError, UsageError
from fullscale.serve.database import DATABASE
from fullscale.serve.jobs import new_id
from fullscale.serve.pacs.places import Places
from fullscale.serve.pacs.store import Letter, PacsStore

FOLDER = "pacs"
"""Where a service keeps what comes from the PACS, in its folder."""


@dataclass(frozen=True)
class Letters:
    """The list of a service.

    Attributes:
        store: of letters and what they are about.
        places: the folders.
    """

    store: PacsStore
    places: Places

    @classmethod
    def of(cls, state: Path) -> Letters:
        """Open the list in the folder of a service.

        Raises:
            DataError: no service has worked there.
        """
        if not (state / DATABASE).is_file():
            raise DataError(f"{state} is no folder of a service; give the one that --state names")
        return cls(PacsStore(state / DATABASE), Places(state / FOLDER))

    def all(self) -> list[Letter]:
        """List them, the oldest first."""
        return self.store.letters()

    def put_back(self, number: int) -> Letter:
        """Try again what a letter is about, and take the letter off the list.

        Raises:
            DataError: there is no such letter.
            UsageError: nothing is left here that could be tried again.
        """
        letter = self._get(number)
        actions = {
            "delivery": self._send_again,
            "job": self._make_again,
            "fetch": self._fetch_again,
            "version": self._accept,
            "patient": self._take_the_others,
            "file": self._look_again,
        }
        if letter.kind not in actions:
            raise UsageError(f"letter {number}: nothing of it was kept; {letter.remedy}")
        return self._after(letter, actions[letter.kind])

    def drop(self, number: int) -> Letter:
        """Take a letter off the list, and what it is about with it: it is not tried again.

        Raises:
            DataError: there is no such letter.
        """
        letter = self._get(number)
        actions = {"delivery": self._drop_delivery, "job": self._drop_result, "patient": self._go_on_with_the_first}
        return self._after(letter, actions.get(letter.kind, self._drop_series))

    def _get(self, number: int) -> Letter:
        letter = self.store.letter(number)
        if letter is None:
            raise DataError(f"there is no letter {number}; the list may have changed")
        return letter

    def _after(self, letter: Letter, action: Callable[[Letter], None]) -> Letter:
        with self.store.change():
            action(letter)
            self.store.remove("pacs_letters", "number = ?", letter.number)
        return letter

    def _send_again(self, letter: Letter) -> None:
        fresh = {"state": "waiting", "attempts": 0, "due": time.time()}
        self.store.set("pacs_deliveries", "result = ? AND destination = ?", letter.subject.split(" ", 1), **fresh)

    def _drop_delivery(self, letter: Letter) -> None:
        key = letter.subject.split(" ", 1)
        self.store.set("pacs_deliveries", "result = ? AND destination = ?", key, state="dropped")

    def _make_again(self, letter: Letter) -> None:
        self.store.set("pacs_results", "id = ? AND state = 'failed'", (letter.subject,), state="waiting", job=new_id())

    def _drop_result(self, letter: Letter) -> None:
        self.store.set("pacs_results", "id = ?", (letter.subject,), state="dropped")

    def _fetch_again(self, letter: Letter) -> None:
        self.store.set("pacs_seen", "id = ?", (letter.subject,), state="new", attempts=0, due=0.0)

    def _accept(self, letter: Letter) -> None:
        self.store.set("pacs_series", "id = ?", (letter.subject,), state="arriving", accepted=1)

    def _look_again(self, letter: Letter) -> None:
        if not self.store.set("pacs_series", "id = ?", (letter.subject,), state="arriving"):
            raise UsageError(f"letter {letter.number}: nothing of it was kept; {letter.remedy}")

    def _drop_series(self, letter: Letter) -> None:
        """Remove the files of a series; of what never became one there are none."""
        if self.store.set("pacs_series", "id = ?", (letter.subject,), state="removed"):
            shutil.rmtree(self.places.series(letter.subject), ignore_errors=True)

    def _take_the_others(self, letter: Letter) -> None:
        """Forget what came first of a study, and let what was held back arrive in its place."""
        for series in self.store.series("study = ?", letter.study):
            shutil.rmtree(self.places.series(series.id), ignore_errors=True)
        self.store.remove("pacs_series", "study = ?", letter.study)
        held = self.places.held(letter.subject)
        if held.is_dir():
            self.places.arrived.mkdir(parents=True, exist_ok=True, mode=0o700)
            held.rename(self.places.arrived / f"{letter.subject}-{time.time_ns()}")

    def _go_on_with_the_first(self, letter: Letter) -> None:
        shutil.rmtree(self.places.held(letter.subject), ignore_errors=True)
        self.store.set("pacs_series", "study = ? AND state = 'held'", (letter.study,), state="arriving")
