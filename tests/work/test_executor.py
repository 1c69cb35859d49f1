"""Cases mapped over processes: the same outcomes as in one, whatever happens to a case or its process."""

import atexit
import logging
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path

import pytest

from fullscale.errors import DataError, FullscaleError
from fullscale.work.executor import KILLED, Outcome, make_executor, map_cases
from fullscale.work.processes import ProcessExecutor, Shared


def square(number: int) -> int:
    """Square, later for smaller numbers, so that items end in another order than they began."""
    time.sleep(0.02 * (5 - number) if number < 5 else 0)
    if number == 3:
        raise DataError(f"{number} is not squared")
    logging.getLogger("fullscale.work.test").info("squared %d", number)
    return number * number


def describe(outcome: Outcome[int, int]) -> object:
    return (outcome.item, outcome.value, type(outcome.error), str(outcome.error))


@pytest.mark.parametrize("jobs", [1, 2])
def test_outcomes_come_in_the_order_of_the_items_and_an_error_stays_its_own(
    jobs: int, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[int, int, str]] = []
    with caplog.at_level(logging.INFO, "fullscale"), make_executor(jobs) as executor:
        outcomes = list(map_cases(executor, square, range(6), lambda *done: told.append(done), lambda k: f"n{k}"))
    wanted = [(k, k * k, type(None), "None") for k in range(6)]
    wanted[3] = (3, None, DataError, "3 is not squared")
    assert [outcome.name for outcome in outcomes] == [f"n{k}" for k in range(6)]
    assert [describe(outcome) for outcome in outcomes] == wanted
    assert [done for done, _, _ in told] == [1, 2, 3, 4, 5, 6]
    assert {total for _, total, _ in told} == {6}
    assert sorted(name for _, _, name in told) == [f"n{k}" for k in range(6)]
    assert sorted(caplog.messages) == [f"squared {k}" for k in (0, 1, 2, 4, 5)]
    with pytest.raises(DataError, match="3 is not squared"):
        outcomes[3].result()
    assert outcomes[2].result() == 4


def test_one_process_hands_on_an_item_before_it_begins_the_next() -> None:
    begun: list[int] = []
    with make_executor(1) as executor:
        outcomes = map_cases(executor, begun.append, range(3))
        next(outcomes)
        assert begun == [0]
        next(outcomes)
        assert begun == [0, 1]


def where(_: int) -> tuple[int, str, bool, object]:
    warnings.warn("quiet", UserWarning, stacklevel=1)
    return os.getpid(), os.environ["OMP_NUM_THREADS"], signal.getsignal(signal.SIGINT) == signal.SIG_IGN, None


def test_workers_divide_the_threads_and_leave_ctrl_c_and_keep_quiet_where_this_process_does(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with make_executor(2) as executor:
            found = [outcome.result() for outcome in map_cases(executor, where, range(6))]
    assert os.getpid() not in {pid for pid, *_ in found}
    assert {threads for _, threads, _, _ in found} == {"4"}
    assert all(ignored for _, _, ignored, _ in found)
    assert capfd.readouterr().err == ""


class Heavy:
    """Counts in a file how often it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __setstate__(self, state: dict[str, Path]) -> None:
        self.__dict__ |= state
        with self.file.open("a") as log:
            log.write(f"{os.getpid()}\n")


class UsesHeavy:
    def __init__(self, heavy: Shared[Heavy]) -> None:
        self.heavy = heavy

    def __call__(self, _: int) -> int:
        assert isinstance(self.heavy.value, Heavy)
        return os.getpid()


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_shared_value_is_given_to_each_worker_once(jobs: int, tmp_path: Path) -> None:
    heavy = Shared(Heavy(tmp_path / "log"))
    with make_executor(jobs, heavy) as executor:
        workers = {outcome.result() for outcome in map_cases(executor, UsesHeavy(heavy), range(8))}
    loads = (tmp_path / "log").read_text().split() if jobs > 1 else []
    assert sorted(loads) == sorted(map(str, workers - {os.getpid()}))


def killed_at_two(number: int) -> int:
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def killed_or_deaf(number: int) -> None:
    """Be killed; or catch what a SIGTERM raises and go on, as the pool does where it sends a value back."""
    if number == 0:
        time.sleep(1)  # until the other is in its loop
        os.kill(os.getpid(), signal.SIGKILL)
    while True:
        with suppress(SystemExit):
            time.sleep(600)


@pytest.mark.slow
def test_a_pool_of_which_one_process_is_killed_ends_although_another_catches_its_signal() -> None:
    executor = ProcessExecutor(2)
    futures = [executor.submit(killed_or_deaf, number) for number in range(2)]
    executor.submit(time.sleep, 0)  # the pool looks at the processes that it has when it is given something
    with pytest.raises(BrokenProcessPool):
        futures[0].result()
    executor.shutdown()  # waits for the processes


def test_a_case_that_kills_its_process_is_named_and_the_others_are_done() -> None:
    with make_executor(2) as executor:
        outcomes = list(map_cases(executor, killed_at_two, range(6)))
    assert [outcome.value for outcome in outcomes] == [0, 1, None, 3, 4, 5]
    assert outcomes[2].failure() == KILLED
    with pytest.raises(DataError, match=r"^2: the process that worked on it was killed"):
        outcomes[2].result()


def too_large(number: int) -> int:
    if number == 0:
        raise MemoryError("Unable to allocate 4.00 GiB")
    if number == 1:
        raise ValueError("no such thing")
    if number == 2:
        raise FullscaleError("the disk is full")
    return number


def test_any_exception_of_one_item_is_a_line_but_what_concerns_all_is_raised() -> None:
    with make_executor() as executor:
        memory, value, disk, fine = map_cases(executor, too_large, range(4), name=lambda k: f"case {k}")
    assert memory.failure() == "it needs more memory than there is (Unable to allocate 4.00 GiB)"
    assert value.failure() == "ValueError: no such thing"
    assert fine.failure() is None
    assert fine.result() == 3
    with pytest.raises(FullscaleError, match="the disk is full"):
        disk.failure()
    with pytest.raises(DataError, match=r"^case 1: ValueError: no such thing$"):
        value.result()


def no_result(_: int) -> Iterator[int]:
    return iter(range(3) if os.getpid() else []) and (k for k in range(3))


def test_a_result_that_does_not_pickle_is_that_items_error() -> None:
    with make_executor(2) as executor:
        [outcome] = map_cases(executor, no_result, range(1))
    assert "pickle" in str(outcome.error)


SLOW = """
import sys, time
from pathlib import Path
from fullscale.files import atomic_path
from fullscale.work import processes
from fullscale.work.executor import make_executor, map_cases

def slow(target):
    with atomic_path(Path(target)) as temporary:
        Path(target + ".begun").touch()
        time.sleep(3600)

if __name__ == "__main__":
    processes._GRACE_S = 600.0  # a busy machine may take long to wake a worker
    with make_executor(2) as executor:
        list(map_cases(executor, slow, sys.argv[1:]))
"""


PATIENCE_S = 600.0
"""For a busy machine; what is interrupted would take an hour."""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interruption_ends_the_workers_at_once(how: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    targets = [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    process = subprocess.Popen(
        [sys.executable, script, *targets],
        start_new_session=True,
        stderr=subprocess.PIPE,
        # Tests that run behind a shell are deaf to Ctrl-C, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + PATIENCE_S
    while not all(Path(f"{target}.begun").exists() for target in targets[:2]):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, how)
    process.communicate(timeout=PATIENCE_S)
    while workers_of(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert workers_of(process.pid) == []
    left = {path.name for path in tmp_path.iterdir()} - {"slow.py", "a.begun", "b.begun"}
    assert how == signal.SIGKILL or left == set()


def workers_of(session: int) -> list[int]:
    """List the living processes of a session, that of its leader too."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, sid = stat.read_text().rsplit(")", 1)[1].split()[:4]
        except OSError:
            continue
        if int(sid) == session and state != "Z":
            found.append(int(stat.parent.name))
    return found


LOADING = """
import os, signal, sys, threading, time, warnings
sys.path.insert(0, {folder!r})
import slow
from fullscale.work.executor import make_executor

os.environ["IN_A_WORKER"] = "of those that follow"

if __name__ == "__main__":
    warnings.simplefilter("ignore", slow.Slow)
    try:
        with make_executor(2) as executor:
            waiting = executor.submit(abs, -1)
            threading.Timer(1.0, os.killpg, (0, signal.SIGINT)).start()
            waiting.result()
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.mark.whole
def test_a_worker_that_is_interrupted_while_it_loads_says_nothing(tmp_path: Path) -> None:
    script, module = tmp_path / "script.py", tmp_path / "slow.py"
    module.write_text(
        "import os, time\ntime.sleep(3 if 'IN_A_WORKER' in os.environ else 0)\nclass Slow(Warning): pass\n"
    )
    script.write_text(LOADING.format(folder=str(tmp_path)))
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=60, start_new_session=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", ""), done.stderr


def end_slowly(seconds: float) -> None:
    atexit.register(time.sleep, seconds)


@pytest.mark.slow
def test_a_worker_that_is_told_to_stop_while_it_ends_of_itself_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    executor = ProcessExecutor(1)
    executor.submit(end_slowly, 1.0).result()
    [worker] = executor._processes_started.processes
    executor.shutdown(wait=False)
    time.sleep(0.5)
    worker.terminate()
    assert wait([worker.sentinel], timeout=30)
    assert capfd.readouterr().err == ""
