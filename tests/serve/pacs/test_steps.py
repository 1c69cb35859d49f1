"""From files to letters, step by step and without processes: each thing once, by reference, and never in silence."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pydicom
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("pynetdicom")

from fullscale.data.dicom.binary_seg import as_binary
from fullscale.data.dicom.receive import Broken
from fullscale.data.dicom.seg import write_seg
from fullscale.data.dicom.series import read_series
from fullscale.errors import DataError, UsageError
from fullscale.serve.jobs import JobStore
from fullscale.serve.pacs import delivery
from fullscale.serve.pacs.exchange import Exchange, ExchangeOptions
from fullscale.serve.pacs.rules import read_rules
from fullscale.serve.pacs.store import Delivery
from fullscale.serve.service import Service
from fullscale.serve.settings import ServeSettings, named_models
from tests.data.dicom.test_seg import complaints
from tests.serve.pacs.studies import write_rules, write_study


@dataclass
class Room:
    """An exchange whose steps are taken by hand, and a folder that it sends to."""

    service: Service
    exchange: Exchange
    box: Path

    def arrive(self, *folders: Path) -> None:
        """Let files arrive, as an association would leave them."""
        place = self.exchange.places.arrived / uuid4().hex
        place.mkdir()
        for k, file in enumerate(file for folder in folders for file in sorted(folder.iterdir())):
            shutil.copyfile(file, place / f"{k:05d}.dcm")

    def step(self) -> None:
        self.exchange._intake.step()
        self.exchange._outcomes.step()

    def work(self) -> int:
        """Do the jobs that wait, as a worker would; return their number."""
        done = 0
        while job := self.service.store.claim():
            output = self.service.settings.outputs(job.id)
            output.mkdir(parents=True)
            scan = read_series([Path(file) for file in job.request["uploaded"]])
            card = self.service.model(job.model).card
            labels = scan.with_array((scan.array > 100).astype(np.uint8))
            write_seg(output / "mask.dcm", labels, card.scheme, card.algorithm, job.request["seg_type"])
            result = {"segmentation": "mask.dcm", "model_digest": card.digest, "notes": []}
            self.service.store.end(job, "done", result=result)
            done += 1
        return done

    def all(self) -> int:
        """Take every step until nothing is left; return how many jobs were done."""
        self.step()
        done = self.work()
        self.step()
        self.exchange._deliveries.step()
        return done

    def sent(self) -> list[pydicom.FileDataset]:
        return [pydicom.dcmread(path) for path in sorted(self.box.iterdir(), key=lambda p: p.stat().st_mtime_ns)]

    def kinds(self) -> list[str]:
        return [letter.kind for letter in self.exchange.letters.all()]

    def remodel(self, digit: str = "0") -> None:
        """Serve another model by the same name."""
        model = self.service.settings.models["tiny"]
        card = model.card.model_copy(update={"weights_sha256": digit * 64})
        assert card.digest != model.card.digest
        self.service.settings.models["tiny"] = replace(model, card=card)


Opened = Callable[..., Room]


@pytest.fixture
def opened(trained_run: Path, tmp_path: Path) -> Iterator[Opened]:
    """Opens the exchange of a service; further ones are of the same folder, as after a restart."""
    rooms: list[Room] = []
    box = tmp_path / "box"
    box.mkdir()

    def open_room(*to: object, **rules: Any) -> Room:
        settings = ServeSettings(named_models([f"tiny={trained_run}"]), tmp_path / "state")
        settings.make_folders()
        service = Service(settings, JobStore(settings.database))
        path = write_rules(tmp_path / "rules.yaml", *(to or (box,)), **{"settle_s": 0} | rules)
        exchange = Exchange(service, ExchangeOptions(read_rules(path, ["tiny"], None), port=0))
        exchange.places.make()
        rooms.append(Room(service, exchange, box))
        return rooms[-1]

    yield open_room
    for room in rooms:
        room.exchange.store.close()
        room.service.store.close()


def test_the_same_study_twice_makes_one_result_also_after_a_restart(opened: Opened, tmp_path: Path) -> None:
    room, scan = opened(), write_study(tmp_path / "scan", "a")
    room.arrive(scan)
    assert room.all() == 1
    room.arrive(scan)
    assert room.all() == 0
    again = opened()
    again.arrive(scan)
    assert again.all() == 0
    [seg] = again.sent()
    first = pydicom.dcmread(next(scan.iterdir()))
    assert (seg.StudyInstanceUID, seg.PatientID) == (first.StudyInstanceUID, "ID-a")
    assert again.exchange.summary()["deliveries"] == {"sent": 1}
    assert again.kinds() == []


def test_a_new_version_and_a_new_model_replace_by_reference(opened: Opened, tmp_path: Path) -> None:
    room = opened()
    room.arrive(write_study(tmp_path / "scan", "a", 8))
    assert room.all() == 1
    room.arrive(write_study(tmp_path / "more", "a", 9))
    assert room.all() == 1
    room.remodel()
    room.arrive(tmp_path / "more")
    assert room.all() == 1
    first, second, third = room.sent()
    assert "ReferencedInstanceSequence" not in first
    for newer, older in ((second, first), (third, second)):
        [reference] = newer.ReferencedInstanceSequence
        assert reference.ReferencedSOPInstanceUID == older.SOPInstanceUID
        assert reference.ReferencedSOPClassUID == older.SOPClassUID
        assert reference.PurposeOfReferenceCodeSequence[0].CodeValue == "REPLACED"
        assert (
            newer.ReferencedSeriesSequence[-1].SeriesInstanceUID == older.SeriesInstanceUID != newer.SeriesInstanceUID
        )
    assert complaints(room.box / f"{second.SOPInstanceUID}.dcm") == []
    binary = as_binary(second)  # for who got the first as a binary one
    [reference] = binary.ReferencedInstanceSequence
    assert reference.ReferencedSOPInstanceUID == as_binary(first).SOPInstanceUID
    assert binary.ReferencedSeriesSequence[-1].SeriesInstanceUID == as_binary(first).SeriesInstanceUID
    assert len(second.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 9


def test_a_version_with_fewer_files_waits_for_a_person(opened: Opened, tmp_path: Path) -> None:
    room, scan = opened(), write_study(tmp_path / "scan", "a")
    room.arrive(scan)
    room.all()
    [series] = room.exchange.store.series("1")
    shutil.rmtree(room.exchange.places.series(series.id))  # as when its time is over
    for file in sorted(scan.iterdir())[:3]:
        file.unlink()
    room.arrive(scan)
    assert room.all() == 0
    [letter] = room.exchange.letters.all()
    assert letter.why == "the series came again with 5 files in place of 8: a part may be missing"
    room.exchange.letters.put_back(letter.number)
    assert (room.all(), len(room.sent()), room.kinds()) == (1, 2, [])


@pytest.mark.parametrize("choice", ["put_back", "drop"])
def test_another_patient_in_a_study_holds_it_until_a_person_chooses(
    opened: Opened, tmp_path: Path, choice: str
) -> None:
    room = opened()
    first = write_study(tmp_path / "first", "a")
    other = write_study(tmp_path / "other", "a", PatientID="SOMEBODY", SeriesInstanceUID="1.2.3.99")
    room.arrive(first)
    room.exchange._intake.step()
    room.arrive(first, other)
    room.all()
    [letter] = room.exchange.letters.all()
    assert letter.why == "8 files in this study name another patient than the first that came"
    assert letter.study == pydicom.dcmread(first / "000.dcm").StudyInstanceUID
    assert not any(word in str(vars(letter)) for word in ("SOMEBODY", "ID-a", "Doe"))
    before = {seg.PatientID for seg in room.sent()}
    getattr(room.exchange.letters, choice)(letter.number)
    room.all()
    assert room.kinds() == []
    patients = [seg.PatientID for seg in room.sent()]
    assert patients[len(before) :] == (["SOMEBODY"] if choice == "put_back" else [])
    assert not list((room.exchange.places.root / "held").iterdir())


def test_two_patients_in_one_association_are_held_before_anything_is_made(opened: Opened, tmp_path: Path) -> None:
    room = opened()
    room.arrive(write_study(tmp_path / "a", "a"), write_study(tmp_path / "b", "a", PatientID="SOMEBODY"))
    assert (room.all(), room.kinds(), room.exchange.summary()["series"]) == (0, ["patient"], {"held": 1})
    room.exchange.letters.drop(1)
    assert (room.all(), [seg.PatientID for seg in room.sent()]) == (1, ["ID-a"])


def test_what_fits_no_rule_is_counted_and_not_kept(opened: Opened, tmp_path: Path) -> None:
    room = opened()
    room.arrive(write_study(tmp_path / "a", "a", Modality="MR"), write_study(tmp_path / "b", "b", slices=3))
    assert room.all() == 0
    assert room.exchange.summary()["series"] == {"ignored": 2}
    assert not list(room.exchange.places.all_series.iterdir())


def test_a_job_that_fails_is_a_letter_and_put_back_is_a_new_job(opened: Opened, tmp_path: Path) -> None:
    room = opened()
    room.arrive(write_study(tmp_path / "a", "a"))
    room.step()
    job = room.service.store.claim()
    assert job is not None
    room.service.store.end(job, "failed", failure="its voxels are missing")
    room.step()
    room.arrive(tmp_path / "a")  # the study alone, sent again, does not repeat what failed
    assert room.all() == 0
    [letter] = room.exchange.letters.all()
    assert (letter.kind, letter.why, letter.attempts) == ("job", "tiny: its voxels are missing", 1)
    room.exchange.letters.put_back(letter.number)
    assert (room.all(), len(room.sent())) == (1, 1)


def test_what_cannot_be_sent_is_tried_so_often_and_then_a_letter(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = opened("GONE@127.0.0.1:1", tmp_path / "box", retry={"times": 3, "first_s": 50})
    now = [1e9]
    monkeypatch.setattr(delivery.time, "time", lambda: now[0])
    room.arrive(write_study(tmp_path / "a", "a"))
    monkeypatch.setattr("fullscale.serve.pacs.outcomes.time.time", lambda: now[0])
    room.exchange.store.set("pacs_series", "1", (), arrived=0)
    room.all()

    def gone() -> Delivery:
        [found] = room.exchange.store.deliveries("destination LIKE 'GONE%'")
        return found

    seen = []
    for _ in range(1000):
        if gone().state != "waiting":
            break
        seen.append((gone().attempts, gone().due - now[0]))
        now[0] = gone().due
        room.exchange._deliveries.step()
    assert seen == [(1, 50), (2, 200)]
    [letter] = room.exchange.letters.all()
    assert (letter.kind, letter.attempts) == ("delivery", 3)
    assert letter.why == "GONE@127.0.0.1:1 cannot be reached (Connection refused): check host and port"
    assert len(room.sent()) == 1  # the other destination has it, once
    room.exchange.letters.put_back(letter.number)
    assert (gone().state, gone().attempts) == ("waiting", 0)
    room.exchange._deliveries.step()
    assert gone().attempts == 1


def test_one_that_cannot_be_made_or_sent_does_not_keep_the_others(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = opened(retry={"times": 2, "first_s": 0.05})
    for name in "ab":
        room.arrive(write_study(tmp_path / name, name))
    room.step()
    room.work()
    damaged, _ = room.service.store.all(2)
    (room.service.settings.outputs(damaged.id) / "mask.dcm").write_bytes(b"nothing")
    room.step()
    assert room.kinds() == ["job"]

    def broken(*_: object) -> None:
        raise RuntimeError("of a library")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(delivery.Destination, "send", broken)
        while room.kinds() != ["job", "delivery"]:
            room.exchange._deliveries.step()
    assert [letter.why for letter in room.exchange.letters.all()][1] == "unexpected RuntimeError"
    room.exchange.letters.put_back(2)
    room.all()
    assert len(room.sent()) == 1


def test_a_destination_that_is_added_gets_what_was_made_before(opened: Opened, tmp_path: Path) -> None:
    room = opened()
    room.arrive(write_study(tmp_path / "a", "a"))
    room.all()
    (tmp_path / "second").mkdir()
    wider = opened(room.box, tmp_path / "second")
    wider.arrive(tmp_path / "a")
    assert wider.all() == 0
    assert [p.name for p in (tmp_path / "second").iterdir()] == [p.name for p in room.box.iterdir()]


def test_a_series_waits_while_more_of_its_study_is_under_way_and_a_letter_goes_when_all_came(
    opened: Opened, tmp_path: Path
) -> None:
    room, scan = opened(), write_study(tmp_path / "a", "a")
    study = pydicom.dcmread(scan / "000.dcm").StudyInstanceUID
    room.arrive(scan)
    replace(room.exchange._intake, sending=lambda: {study}).step()
    assert room.exchange.summary()["series"] == {"arriving": 1}
    room.all()
    for file in room.exchange.places.all_series.rglob("*.dcm"):
        file.unlink()
    (tmp_path / "part").mkdir()
    shutil.copyfile(scan / "000.dcm", tmp_path / "part" / "000.dcm")
    room.arrive(tmp_path / "part")
    room.all()
    assert room.kinds() == []  # a single slice fits no rule
    room.arrive(scan)
    assert (room.all(), room.kinds(), len(room.sent())) == (0, [], 1)


def test_a_queue_that_is_full_loses_nothing(opened: Opened, tmp_path: Path) -> None:
    room = opened()
    room.service.settings = replace(room.service.settings, most_waiting=1)
    for name in "abc":
        room.arrive(write_study(tmp_path / name, name))
    assert sum(room.all() for _ in range(4)) == 3
    assert len(room.sent()) == 3


def test_a_model_that_changes_before_there_is_a_job_is_the_one_that_is_used(opened: Opened, tmp_path: Path) -> None:
    room = opened()
    room.service.settings = replace(room.service.settings, most_waiting=0)
    room.arrive(write_study(tmp_path / "a", "a"))
    room.step()
    room.service.settings = replace(room.service.settings, most_waiting=9)
    room.remodel()
    room.step()
    room.step()
    room.remodel("1")  # and once more, when the job is there
    assert sum(room.all() for _ in range(2)) == 2
    assert [room.exchange.summary()["results"], room.kinds(), len(room.sent())] == [{"done": 1}, [], 1]


def test_a_broken_association_is_a_letter_until_the_study_comes(opened: Opened, tmp_path: Path) -> None:
    room, scan = opened(), write_study(tmp_path / "a", "a")
    study = pydicom.dcmread(scan / "000.dcm").StudyInstanceUID
    for _ in range(2):
        room.exchange._intake.note_broken(Broken("CT1", (study,), 3, "the connection broke off"))
    [letter] = room.exchange.letters.all()
    assert letter.why == "the connection broke off: nothing of 3 files from CT1 was kept"
    with pytest.raises(UsageError, match="nothing of it was kept; send it again"):
        room.exchange.letters.put_back(letter.number)
    room.arrive(scan)
    room.all()
    assert (room.kinds(), len(room.sent())) == ([], 1)
    with pytest.raises(DataError, match="there is no letter 77"):
        room.exchange.letters.drop(77)


def test_files_are_kept_for_their_time_and_what_is_on_its_way_longer(opened: Opened, tmp_path: Path) -> None:
    room = opened("GONE@127.0.0.1:1", tmp_path / "box")
    room.arrive(write_study(tmp_path / "a", "a"))
    room.all()
    room.service.settings = replace(room.service.settings, keep_s=-1.0)
    room.exchange._outcomes.tidy()
    assert not list(room.exchange.places.all_series.iterdir())
    assert len(list(room.exchange.places.results.iterdir())) == 1
    room.exchange.store.remove("pacs_deliveries", "state = 'waiting'")
    room.exchange._outcomes.tidy()
    assert not list(room.exchange.places.results.iterdir())


def test_a_step_that_is_cut_short_is_taken_again(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each write to the database fails once, as on a full disk or at a kill; what is on disk then is what counts."""
    room, scan = opened(), write_study(tmp_path / "a", "a")
    room.arrive(scan)
    run, left = room.exchange.store._run, [0]

    def failing(statement: str, *values: Any) -> int:
        left[0] -= 1
        if left[0] == 0:
            raise sqlite3.OperationalError("disk is full")
        return run(statement, *values)

    monkeypatch.setattr(room.exchange.store, "_run", failing)
    failures = 0
    for nth in range(1, 40):
        left[0] = nth % 3 + 1
        try:
            room.all()
        except sqlite3.OperationalError:
            failures += 1
    left[0] = 0
    room.all()
    assert failures >= 3
    assert (len(room.sent()), room.kinds(), room.service.store.counts()["done"]) == (1, [], 1)
