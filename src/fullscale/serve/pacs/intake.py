"""From files that arrived to results that are wanted: files are put to their series, and whole series to the rules."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fullscale.data.dicom.facts import FileFacts, file_facts, series_facts, version_of
from fullscale.data.dicom.headers import header_tags
from fullscale.data.dicom.receive import Broken
from fullscale.errors import DataError
from fullscale.serve.jobs import new_id
from fullscale.serve.pacs.places import Places, name_of
from fullscale.serve.pacs.rules import PACS, Rule, Rules
from fullscale.serve.pacs.store import PacsStore, Series, listed
from fullscale.serve.service import Service
from fullscale.text import counted, without_folders

_log = logging.getLogger(__name__)

SEND_AGAIN = "send it again from there; the letter goes when the study has come as a whole"


@dataclass(frozen=True)
class Intake:
    """Takes in what arrived.

    Attributes:
        store: of series and results.
        places: the folders.
        rules: what becomes of a series.
        service: has the models.
        pacs: the address that the destination `pacs` stands for.
        sending: tells the studies of which an association is sending more.
    """

    store: PacsStore
    places: Places
    rules: Rules
    service: Service
    pacs: str | None = None
    sending: Callable[[], set[str]] = set

    def step(self) -> None:
        """Put what arrived to its series, and take the series of which nothing more comes."""
        for folder in sorted(self.places.arrived.iterdir()):
            self._distribute(folder)
        settled = time.time() - self.rules.settle_s
        sending = self.sending()
        for series in self.store.series("state = 'arriving' AND arrived <= ?", settled):
            if series.study not in sending:
                self._take(series)

    def note_broken(self, broken: Broken) -> None:
        """Write a letter about an association of which nothing was kept."""
        why = f"{broken.why}: nothing of {counted(broken.files, 'file')} from {broken.caller or 'a sender'} was kept"
        for study in broken.studies or ("",):
            self.store.write_letter("association", name_of(broken.caller, study), study, why, 1, SEND_AGAIN)

    def _distribute(self, folder: Path) -> None:
        """Put the files of a folder to their series; those of a strange patient are held back."""
        by_study: dict[str, list[tuple[Path, FileFacts]]] = {}
        for file in sorted(folder.iterdir()):
            try:
                facts = file_facts(file)
            except DataError as error:
                self._refuse(file, error)
                continue
            by_study.setdefault(facts.study, []).append((file, facts))
        for study, files in by_study.items():
            self._put(study, files)
        folder.rmdir()

    def _refuse(self, file: Path, error: DataError) -> None:
        why = f"a file that came cannot be read ({without_folders(error)})"
        subject = name_of(file.parent.name, file.name)
        self.store.write_letter("file", subject, "", why, 1, "send it again, if it is needed")
        file.unlink()

    def _put(self, study: str, files: Sequence[tuple[Path, FileFacts]]) -> None:
        known = [series.patient for series in self.store.series("study = ? ORDER BY arrived LIMIT 1", study)]
        owner = known[0] if known else files[0][1].patient
        strange = [file for file, facts in files if facts.patient != owner]
        if strange:
            self._hold(study, strange)
        held = any(letter.kind == "patient" and letter.study == study for letter in self.store.letters())
        state = "held" if held else "arriving"
        for facts in {facts.series: facts for _, facts in files if facts.patient == owner}.values():
            id = name_of(study, facts.series)
            row = {"id": id, "study": study, "series": facts.series, "patient": owner}
            with self.store.change():
                self.store.add("pacs_series", **row, state=state, arrived=time.time())
                self.store.set("pacs_series", "id = ?", (id,), state=state, arrived=time.time())
            self.places.series(id).mkdir(parents=True, exist_ok=True, mode=0o700)
        for file, facts in files:
            if facts.patient == owner:
                file.replace(self.places.series(name_of(study, facts.series)) / f"{name_of(facts.uid)}.dcm")
        self.store.remove("pacs_letters", "kind = 'association' AND study = ?", study)

    def _hold(self, study: str, files: Sequence[Path]) -> None:
        """Keep files of another patient apart, and the whole study back, until a person has looked."""
        subject = name_of(study)
        place = self.places.held(subject)
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.store.change():
            self.store.set("pacs_series", "study = ? AND state = 'arriving'", (study,), state="held")
            why = f"{counted(len(files), 'file')} in this study name another patient than the first that came"
            remedy = "correct it where it came from; put back takes these in place of the first, drop keeps the first"
            self.store.write_letter("patient", subject, study, why, 1, remedy)
        for file in files:
            file.replace(place / f"{file.parent.name}-{file.name}")
        _log.warning("PACS: a study is held back: its files name two patients")

    def _take(self, series: Series) -> None:
        """Take a series for whole: find its rules, and write down what is to be made of it."""
        files = sorted(self.places.series(series.id).glob("*.dcm"))
        if not files:
            self.store.set("pacs_series", "id = ?", (series.id,), state="removed")
            return
        try:
            version = version_of(files)
            said = series_facts(files, self.rules.keywords())
            fitting = self.rules.fitting(said, _slices(files))
        except DataError as error:
            self._hold_series(series, "file", without_folders(error), "correct it, send it again, or drop it")
            return
        if not fitting:
            shutil.rmtree(self.places.series(series.id), ignore_errors=True)
            self.store.set("pacs_series", "id = ?", (series.id,), state="ignored", rules="[]")
            _log.info("PACS: a series of %s fits no rule", counted(len(files), "file"))
            return
        if series.version not in ("", version) and len(files) < series.files and not series.accepted:
            why = f"the series came again with {len(files)} files in place of {series.files}: a part may be missing"
            self._hold_series(series, "version", why, "send all of it again; put back takes it as it is")
            return
        with self.store.change():
            for rule in fitting:
                self._want(series, version, rule)
            self.store.remove("pacs_letters", "kind IN ('version', 'file') AND subject = ?", series.id)
            names = json.dumps([rule.name for rule in fitting])
            kept = {"state": "taken", "version": version, "files": len(files), "accepted": 0, "rules": names}
            self.store.set("pacs_series", "id = ?", (series.id,), **kept)

    def _hold_series(self, series: Series, kind: str, why: str, remedy: str) -> None:
        with self.store.change():
            self.store.set("pacs_series", "id = ?", (series.id,), state="held")
            self.store.write_letter(kind, series.id, series.study, why, 1, remedy)

    def _want(self, series: Series, version: str, rule: Rule) -> None:
        """Write down a result that is to be made, unless it is there; then only where else it goes."""
        digest = self.service.model(rule.model).card.digest
        reading = {"phase": rule.phase, "allow_gaps": rule.allow_gaps, "untilt": rule.untilt, "seg_type": rule.seg_type}
        request = json.dumps({"version": version, "digest": digest, **reading}, sort_keys=True)
        key = name_of(series.id, request)
        to = [self.pacs if place == PACS and self.pacs is not None else place for place in rule.to]
        there = self.store.outcomes("key = ?", key)
        if not there:
            names = {"id": new_id(), "key": key, "series": series.id, "study": series.study, "model": rule.model}
            self.store.add(
                "pacs_results",
                **names,
                request=request,
                destinations=json.dumps(to),
                state="waiting",
                job=new_id(),
                created=time.time(),
            )
            return
        [outcome] = there
        everywhere = list(dict.fromkeys([*listed(outcome.destinations), *to]))
        self.store.set("pacs_results", "id = ?", (outcome.id,), destinations=json.dumps(everywhere))
        if outcome.state == "done":
            for place in everywhere:
                row = {"result": outcome.id, "destination": place, "state": "waiting", "due": time.time()}
                self.store.add("pacs_deliveries", **row)


def _slices(files: Sequence[Path]) -> int:
    """Count the slices: files, or the frames of a single one."""
    if len(files) > 1:
        return len(files)
    return int(header_tags(files[0], ["NumberOfFrames"]).get("NumberOfFrames") or 1)
