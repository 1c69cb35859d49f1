"""Files that nothing tears: what is there before and after, wherever an interruption comes."""

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import IO, Any

import pytest
import torch

from fullscale import files
from fullscale.errors import FullscaleError
from fullscale.files import atomic_folder, atomic_path, for_library
from fullscale.temporary import OLD, WRITING, beside, sweep


def write_file(target: Path) -> None:
    with atomic_path(target) as temporary:
        temporary.write_text("new")


def write_folder(target: Path) -> None:
    with atomic_folder(target) as temporary:
        (temporary / "inside").write_text("new")


def content(target: Path) -> str | None:
    inside = target / "inside" if target.is_dir() else target
    return inside.read_text() if inside.exists() else None


def interrupted_at_line(number: int, function: Callable[[], None]) -> bool:
    """Run with Ctrl-C before the n-th line that `fullscale.files` executes; tell whether it came to that."""
    seen = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal seen
        if frame.f_code.co_filename != files.__file__:
            return None
        if event == "line":
            seen += 1
            if seen == number:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("write", [write_file, write_folder])
@pytest.mark.parametrize("there", [False, True])
def test_an_interruption_leaves_the_old_or_the_new_and_nothing_beside(
    write: Callable[[Path], None], there: bool, tmp_path: Path
) -> None:
    lines = 0
    outcomes = set()
    while True:
        lines += 1
        folder = tmp_path / str(lines)
        folder.mkdir()
        target = folder / "model.nii.gz"
        if there and write is write_file:
            target.write_text("old")
        elif there:
            target.mkdir()
            (target / "inside").write_text("old")
        before = content(target)
        came = interrupted_at_line(lines, partial(write, target))
        assert content(target) in (before, "new")
        assert {path.name for path in folder.iterdir()} <= {target.name}
        outcomes.add(content(target))
        if not came:
            break
    assert lines > 8
    assert outcomes == {before, "new"}


@pytest.mark.parametrize("write", [write_file, write_folder])
def test_a_block_that_fails_leaves_everything_as_it_was(write: Callable[[Path], None], tmp_path: Path) -> None:
    target = tmp_path / "target"
    write(target)
    atomic = atomic_path if write is write_file else atomic_folder
    with pytest.raises(ZeroDivisionError), atomic(target):
        raise ZeroDivisionError
    assert content(target) == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("write", [write_file, write_folder])
def test_a_place_that_cannot_be_written_is_one_line(write: Callable[[Path], None], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "file" / "inside", tmp_path / ("n" * 300)):
        with pytest.raises(FullscaleError, match=r"cannot write .*: (File exists|File name too long)"):
            write(target)


def test_what_is_written_has_the_rights_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_file(tmp_path / "ours")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_a_folder_is_never_absent_while_it_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    write_folder(target)
    gone = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal gone
        while not done.is_set():
            gone += not (target / "inside").exists()

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(300):
        write_folder(target)
    done.set()
    watcher.join()
    assert gone == 0


def test_where_folders_cannot_be_swapped_the_old_one_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "swap", lambda *_: False)
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "inside").write_text("old")
    write_folder(target)
    assert content(target) == "new"
    dead = subprocess.Popen(["true"])
    dead.wait()
    target.rename(renamed(beside(target, OLD), dead.pid))
    sweep.cache_clear()
    sweep(tmp_path)
    assert content(target) == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def renamed(path: Path, pid: int) -> Path:
    """Name a temporary file as another process would."""
    return path.with_name(path.name.replace(f"-{os.getpid()}-", f"-{pid}-"))


KILLED = """
import os, sys
from pathlib import Path
from fullscale.files import atomic_folder, atomic_path, for_library
from fullscale.temporary import OLD, WRITING, beside, sweep
with atomic_path(Path(sys.argv[1]) / "x.nii.gz") as file, atomic_folder(Path(sys.argv[1]) / "bundle") as folder:
    (folder / "half").write_text("half")
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_process_left_is_swept_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=False)
    left = list(tmp_path.iterdir())
    assert len(left) == 2
    living = beside(tmp_path / "y", WRITING)
    living.touch()
    elsewhere = living.with_name(living.name.replace(living.name.split("-")[1], "0" * 8))
    abandoned = elsewhere.with_name(elsewhere.name.replace("-y", "-z"))
    for path in (elsewhere, abandoned):
        path.touch()
    os.utime(abandoned, (0, 0))
    sweep.cache_clear()
    write_file(tmp_path / "z")
    assert {path.name for path in tmp_path.iterdir()} == {"z", living.name, elsewhere.name}


def test_what_an_earlier_process_of_the_same_number_left_is_swept(tmp_path: Path) -> None:
    mine = beside(tmp_path / "y", WRITING)
    theirs = mine.with_name(mine.name.replace(mine.name.split("-")[3], "0" * 8))
    for path in (mine, theirs):
        path.touch()
    sweep.cache_clear()
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [mine]


def test_an_overlong_name_fails_before_the_work_and_a_long_one_does_not(tmp_path: Path) -> None:
    write_file(tmp_path / ("n" * 247 + ".nii.gz"))
    with pytest.raises(FullscaleError, match="File name too long"), atomic_path(tmp_path / ("n" * 300)):
        raise AssertionError("the work began")


def save_state(file: IO[bytes]) -> None:
    torch.save({"weight": torch.zeros(100_000), "bias": torch.zeros(3)}, file)


def export_program(file: IO[bytes]) -> None:
    torch.export.save(torch.export.export(torch.nn.Linear(300, 300), (torch.zeros(1, 300),)), file)


@pytest.mark.parametrize("save", [save_state, export_program])
def test_a_library_that_writes_onto_a_full_disk_ends_in_the_fault_of_the_disk(
    save: Callable[[IO[bytes]], None],
) -> None:
    with pytest.raises(OSError, match="No space left on device"), for_library(Path("/dev/full")) as file:
        save(file)


def test_what_a_library_writes_is_what_it_would_have_written_itself(tmp_path: Path) -> None:
    with for_library(tmp_path / "given.pt") as file:
        save_state(file)
    given = torch.load(tmp_path / "given.pt", weights_only=True)
    assert {name: value.shape for name, value in given.items()} == {"weight": (100_000,), "bias": (3,)}
