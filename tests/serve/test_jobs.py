"""The store of jobs: every job ends once, in the order they were asked for, and survives its process."""

import threading
import time
from pathlib import Path

import pytest

from fullscale.errors import OutputError
from fullscale.serve.jobs import Job, JobStore, new_id


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore(tmp_path / "jobs.sqlite")


def added(store: JobStore, count: int = 1) -> list[str]:
    ids = [new_id() for _ in range(count)]
    assert all(store.add(id, "tiny", None, {}, 1000) for id in ids)
    return ids


def claimed(store: JobStore) -> Job:
    job = store.claim()
    assert job is not None
    return job


def test_the_oldest_is_claimed_first_and_one_that_waits_again_keeps_its_place(store: JobStore) -> None:
    ids = added(store, 3)
    first = claimed(store)
    assert store.requeue(first)
    assert [claimed(store).id for _ in ids] == ids
    assert store.claim() is None


def test_an_attempt_ends_once_and_an_older_one_says_nothing_more(store: JobStore) -> None:
    [id] = added(store)
    first = claimed(store)
    store.recover()
    second = claimed(store)
    assert second.attempts == 2
    assert not store.end(first, "failed", failure="late")
    assert store.end(second, "done", result={"mask": "mask.nii.gz"})
    assert not store.end(second, "failed", failure="twice")
    assert not store.requeue(second)
    assert store.history(id) == [("queued", 0), ("running", 1), ("queued", 1), ("running", 2), ("done", 2)]


def test_many_threads_claim_each_job_once(store: JobStore) -> None:
    ids, found = added(store, 60), []

    def work() -> None:
        while (job := store.claim()) is not None:
            found.append(job.id)
            assert store.end(job, "done", result={})

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(ids)
    assert store.counts() == {"queued": 0, "running": 0, "done": 60, "failed": 0, "cancelled": 0}


def test_a_job_that_waits_is_cancelled_at_once_and_one_that_runs_is_marked(store: JobStore) -> None:
    first, second = added(store, 2)
    running = claimed(store)
    assert running.id == first
    store.cancel(first)
    store.cancel(second)
    marked, cancelled = store.get(first), store.get(second)
    assert marked is not None
    assert (marked.state, marked.cancelling) == ("running", True)
    assert cancelled is not None
    assert cancelled.state == "cancelled"
    store.recover()  # killed before its process let go of it
    assert [job.state for job in store.all(10)] == ["cancelled", "cancelled"]


def test_no_more_wait_than_may(store: JobStore) -> None:
    assert store.add(new_id(), "tiny", None, {}, 1)
    assert not store.add(new_id(), "tiny", None, {}, 1)
    claimed(store)
    assert store.add(new_id(), "tiny", None, {}, 1)


def test_what_was_written_is_there_for_the_next_process(store: JobStore, tmp_path: Path) -> None:
    [id] = added(store)
    claimed(store)
    again = JobStore(tmp_path / "jobs.sqlite")  # the first never closed it
    assert again.recover() == 1
    job = again.get(id)
    assert job is not None
    assert (job.state, job.attempts, job.crashes) == ("queued", 1, 0)


def test_removed_jobs_are_known_for_a_while_and_then_forgotten(store: JobStore) -> None:
    [id] = added(store)
    assert store.end(claimed(store), "done", result={"mask": "mask.nii.gz"})
    assert store.expired(keep_s=1e6) == []
    [job] = store.expired(keep_s=-1)
    store.mark_removed(job.id)
    assert store.expired(keep_s=-1) == []
    store.forget(keep_s=1e6)
    assert store.ids() == {id}
    store.forget(keep_s=-1)
    assert store.ids() == set()
    assert store.history(id) == []


def test_a_clock_that_is_set_makes_no_result_older_or_younger(
    store: JobStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    [before] = added(store)
    assert store.end(claimed(store), "done")
    real, ages = time.time, list[float]()
    for hours in (30, -80):
        monkeypatch.setattr(time, "time", lambda hours=hours: real() + 3600 * hours)
        [after] = added(store)
        assert store.end(claimed(store), "done")
        assert store.expired(keep_s=60) == []
        jobs = [store.get(before), store.get(after)]
        ages += [real() + 3600 * hours - job.finished for job in jobs if job is not None and job.finished]
        assert store.counts()["done"] == len(store.expired(keep_s=-1))
    assert len(ages) == 4
    assert all(0 <= age < 60 for age in ages)
    said = [record.message for record in caplog.records]
    assert said == [
        f"the clock was set by {s} s; results are kept as long as stated all the same" for s in ("+108000", "-396000")
    ]


def test_a_file_that_is_no_database_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite").write_text("no database, but long enough to be taken for one" * 10)
    with pytest.raises(OutputError, match=r"^cannot keep jobs in [^\n]*jobs.sqlite: file is not a database$"):
        JobStore(tmp_path / "jobs.sqlite")
