"""Archives: each case once, whoever works on it and however often the command is given."""

import itertools
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fullscale.data.volume_files import read_volume
from fullscale.errors import OutputError, UsageError
from fullscale.inference import attempt
from fullscale.inference.archive import missing_cases, predict_archive
from fullscale.inference.attempt import ArchiveRequest, Entry, EntryResult, ModelRequest
from fullscale.inference.entries import find_entries
from fullscale.inference.naming import OutputOptions
from fullscale.inference.predictor import Predictor
from fullscale.work.ledger import TRIES, Ledger, Row, write_row
from fullscale.work.shard import Shard
from tests.conftest import Command
from tests.dicom_slices import slice_hu, slice_position, write_slice


@pytest.fixture
def archive(phantoms: Path, tmp_path: Path) -> Path:
    """Three studies: a folder, a file, a folder of two scans; and what is none."""
    folder = tmp_path / "archive"
    first, second = (phantoms / "imagesTr" / f"phantom_00{k}.nii.gz" for k in (0, 1))
    for place, scan in {"one/ct": first, "file": second, "two/a": first, "two/b": second}.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(scan, folder / f"{place}.nii.gz")
    (folder / "readme.txt").write_text("text")
    return folder


@pytest.fixture
def request_for(trained_run: Path, tmp_path: Path) -> ArchiveRequest:
    return ArchiveRequest(ModelRequest(trained_run, "cpu"), tmp_path / "out")


def segment(archive: Path, request: ArchiveRequest, shard: Shard | None = None) -> dict[str, EntryResult]:
    found = find_entries([archive], request, Ledger(request.output), shard)
    return {result.name: result for result in predict_archive(request, found, jobs=1)}


def masks(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.nii.gz")}


def test_each_entry_is_a_case_and_what_is_done_is_not_done_again(
    archive: Path, request_for: ArchiveRequest, trained_run: Path
) -> None:
    first = segment(archive, request_for)
    assert {name: result.error for name, result in first.items()} == {"one": None, "file": None, "two": None}
    written = masks(request_for.output)
    assert set(written) == {"one.nii.gz", "file.nii.gz", "two/a.nii.gz", "two/b.nii.gz"}
    alone = Predictor.from_run(trained_run, "cpu").predict(archive / "one" / "ct.nii.gz")
    assert (read_volume(request_for.output / "one.nii.gz").array == alone.array).all()
    again = segment(archive, request_for)
    assert all(result.earlier for result in again.values())
    assert {n: r.results for n, r in again.items()} == {n: r.results for n, r in first.items()}
    assert masks(request_for.output) == written
    assert missing_cases(request_for.output, Ledger(request_for.output)) == []


def test_content_model_and_options_decide_what_is_done_not_names_nor_times(
    archive: Path, request_for: ArchiveRequest, phantoms: Path
) -> None:
    segment(archive, request_for)
    os.utime(archive / "file.nii.gz", (1, 1))
    assert segment(archive, request_for)["file"].earlier
    shutil.copy(phantoms / "imagesTr" / "phantom_002.nii.gz", archive / "one" / "ct.nii.gz")
    (request_for.output / "two" / "b.nii.gz").unlink()
    assert missing_cases(request_for.output, Ledger(request_for.output)) == ["two"]
    again = segment(archive, request_for)
    assert {name: result.earlier for name, result in again.items()} == {"one": False, "file": True, "two": False}
    soft = replace(request_for, options=OutputOptions(probabilities=True))
    assert not any(result.earlier for result in segment(archive, soft).values())
    quick = replace(soft, model=replace(soft.model, quick=True))
    assert not any(result.earlier for result in segment(archive, quick).values())
    coarse = replace(quick, model=replace(quick.model, region="coarse"))
    assert not any(result.earlier for result in segment(archive, coarse).values())


def test_a_mask_that_is_not_ours_is_left_alone(archive: Path, request_for: ArchiveRequest) -> None:
    request_for.output.mkdir()
    (request_for.output / "one.nii.gz").write_bytes(b"someone's")
    found = segment(archive, request_for)
    assert "is there and no mask of this ledger; move it away" in str(found["one"].error)
    (request_for.output / "file.nii.gz").write_bytes(b"corrected")
    found = segment(archive, request_for)
    assert "was changed since it was written" in str(found["file"].error)
    assert (request_for.output / "one.nii.gz").read_bytes() == b"someone's"
    found = segment(archive, replace(request_for, overwrite=True, retry=True))
    assert [result.error for result in found.values()] == [None] * 3


def test_shares_together_are_the_whole(archive: Path, request_for: ArchiveRequest) -> None:
    whole = replace(request_for, output=request_for.output.with_name("whole"))
    segment(archive, whole)
    shares = [set(segment(archive, request_for, Shard(k, 3))) for k in (1, 2, 3)]
    assert sorted(name for share in shares for name in share) == ["file", "one", "two"]
    assert masks(request_for.output) == masks(whole.output)


def test_the_first_mask_is_there_before_the_second_case_is_found(archive: Path, request_for: ArchiveRequest) -> None:
    taken: list[str] = []

    def watched() -> Iterator[Entry]:
        for entry in find_entries([archive], request_for, Ledger(request_for.output)):
            taken.append(entry.name)
            yield entry

    results = predict_archive(request_for, watched(), jobs=1)
    first = next(results)
    assert taken == [first.name]
    assert len(masks(request_for.output)) >= 1
    assert len(list(results)) == 2


def test_a_case_that_fails_or_kills_is_tried_three_times_and_then_reported(
    archive: Path, request_for: ArchiveRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    (archive / "bad.nii.gz").write_text("junk")
    for tries in range(1, TRIES + 1):
        found = segment(archive, request_for)["bad"]
        assert "is not a NIfTI file" in str(found.error)
        row = Ledger(request_for.output).get("bad")
        assert row is not None
        assert (row.state, row.tries, found.earlier) == ("failed", tries, False)
    assert segment(archive, request_for)["bad"].earlier
    assert not segment(archive, replace(request_for, retry=True))["bad"].earlier
    row = Ledger(request_for.output).get("one")
    assert row is not None
    for tries in range(1, TRIES + 1):  # killed: begun and never ended
        write_row(request_for.output, replace(row, state="begun", turn=row.turn + tries, tries=tries))
    assert segment(archive, request_for)["one"].error == f"its process was killed at each of {TRIES} tries"
    assert segment(archive, replace(request_for, retry=True))["one"].error is None

    def full(*_: object, **__: object) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr(attempt, "predict_scans", full)
    (archive / "bad.nii.gz").unlink()
    (archive / "three").mkdir()
    shutil.copy(archive / "file.nii.gz", archive / "three")
    with pytest.raises(OutputError, match="the disk is full"):
        segment(archive, request_for)
    stopped = Ledger(request_for.output).get("three")
    assert stopped is not None
    assert stopped.state == "stopped"


def test_names_and_places_that_cannot_be_kept_apart_are_refused(archive: Path, request_for: ArchiveRequest) -> None:
    shutil.copytree(archive / "one", archive / "file")
    found = segment(archive, request_for)
    assert sum("its mask would be called like that of" in str(result.error) for result in found.values()) == 1
    with pytest.raises(UsageError, match="lies in the archive"):
        segment(archive, replace(request_for, output=archive / "one" / "out"))


def test_loose_dicom_slices_are_put_together_by_their_study(
    archive: Path, tmp_path: Path, request_for: ArchiveRequest, fullscale: Command, trained_run: Path
) -> None:
    for study in ("1.2.7", "1.2.8"):
        of = {"StudyInstanceUID": study, "SeriesInstanceUID": f"{study}.1"}
        for k in range(5):
            write_slice(archive / f"{study}-{k}", slice_hu(k + len(study)), slice_position(k), **of)
    found = segment(archive, request_for)
    assert {name: result.error for name, result in found.items()} == dict.fromkeys(
        ("one", "file", "two", "1.2.7", "1.2.8")
    )
    assert {"1.2.7.nii.gz", "1.2.8.nii.gz"} < set(masks(request_for.output))
    assert all(result.earlier for result in segment(archive, request_for).values())
    assert missing_cases(request_for.output, Ledger(request_for.output)) == []
    (archive / "1.2.8-4").write_bytes((archive / "1.2.8-4").read_bytes()[:300])  # damaged: a case that says so
    damaged = segment(archive, request_for)
    assert "1.2.8-4" in str(damaged["1.2.8-4"].error)
    one_by_one = fullscale("predict", trained_run, *sorted(archive.glob("1.2.7-*")), "-o", tmp_path / "x", "--archive")
    assert (one_by_one.returncode, "5 DICOM files" in one_by_one.stderr) == (2, True)


def test_an_archive_without_a_case_is_refused(fullscale: Command, trained_run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = fullscale("predict", trained_run, tmp_path / "empty", "-o", tmp_path / "out", "--archive")
    assert (done.returncode, "holds no series or scan" in done.stderr) == (3, True)
    wrong = fullscale("predict", trained_run, tmp_path / "none", "-o", tmp_path / "out", "--archive")
    assert (wrong.returncode, "no such file or folder" in wrong.stderr) == (3, True)
    assert not (tmp_path / "out").exists()


def test_the_command_tells_status_forecast_and_what_is_missing(
    fullscale: Command, archive: Path, trained_run: Path, tmp_path: Path
) -> None:
    (archive / "bad.nii.gz").write_text("junk")
    out = tmp_path / "out"
    command = ("predict", trained_run, archive, "-o", out, "--device", "cpu")
    assert fullscale("gather", out).returncode == 3
    done = fullscale(*command, "--forecast", "1", "--shard", "1/1")
    assert "cases are left" in done.stderr
    gathered = fullscale("gather", out)
    assert gathered.returncode == 4
    assert gathered.stdout.count("missing: ") == 3
    assert fullscale(*command, "--archive", "--json").returncode == 4
    told = json.loads(fullscale("status", out, "--json").stdout)
    assert (told["listed"], told["counts"]["done"], list(told["failures"])) == (4, 3, ["bad"])
    assert "3 of 4 are done, 1 failed" in fullscale("status", out).stdout
    assert fullscale("gather", out).returncode == 0
    rows = (out / "results.csv").read_text().splitlines()
    assert str(tmp_path) not in "".join(rows)
    assert len(rows) == 1 + 4 * 2 + 1
    (out / "results.csv").write_text("mine")
    assert fullscale("gather", out).returncode == 2
    assert (out / "results.csv").read_text() == "mine"
    assert fullscale("gather", out, "--overwrite").returncode == 0
    assert fullscale(*command, "--shard", "2/1").returncode == 2
    [source] = (out / ".ledger").glob("source-*.json")
    for damaged in ("[1, 2]", "{}", '{"source": 1, "model": 2, "cases": -1}', '{"source": "nowhere'):
        source.write_text(damaged)
        for verb in ("status", "gather"):
            refused = fullscale(verb, out)
            assert refused.returncode == 3, refused.stderr
            assert source.name in refused.stderr


def test_a_hundred_thousand_entries_are_listed_in_seconds(tmp_path: Path, request_for: ArchiveRequest) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    for k in range(20_000):  # 100,000 took 2 s; a test makes fewer
        (folder / f"study {k}").mkdir()
    began = time.process_time()
    entries = find_entries([folder], request_for, Ledger(request_for.output), Shard(1, 100))
    first = next(entries)
    assert isinstance(first.earlier, Row | None)
    assert sum(1 for _ in itertools.chain([first], entries)) == pytest.approx(200, rel=0.3)
    assert time.process_time() - began < 10


def test_retry_without_a_ledger_is_refused(
    fullscale: Command, trained_run: Path, phantoms: Path, tmp_path: Path
) -> None:
    refused = fullscale("predict", trained_run, phantoms / "imagesTs", "-o", tmp_path / "out", "--retry")
    assert (refused.returncode, (tmp_path / "out").exists()) == (2, False)
    assert "--retry is of an archive" in refused.stderr
