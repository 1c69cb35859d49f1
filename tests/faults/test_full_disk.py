"""A disk that is full or read-only, few open files: one line, what was there stays, and repeating works.

The disk is a file system in memory of a few MiB, which only root can mount.
"""

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.commands import Ended, Zygote, content, litter
from tests.faults.scale import KILLS, LONG, SEED, record
from tests.faults.works import Places, Repeated, writers

pytestmark = pytest.mark.faults

DONE, FAILED = 0, 1
DISK_MIB = 64
BLOCK = 4096
FEW_FILES = 64


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a small file system at a folder."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("cannot mount a small disk here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path, free: int) -> Path:
    """Leave so many bytes free on a disk; return the file that takes the rest."""
    filler = disk / "filler"
    status = os.statvfs(disk)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(BLOCK, status.f_bavail * status.f_frsize - free))
    return filler


def used(folder: Path) -> int:
    """Count the bytes of everything in a folder."""
    return sum(-(-path.stat().st_size // BLOCK) * BLOCK for path in folder.rglob("*") if path.is_file())


class Filling(Repeated):
    """One work, run where there is too little room."""

    def run(self, folder: Path, files: int = 0) -> Ended:
        """Run the command in a folder."""
        home = {} if self.work.writes else {"FULLSCALE_CACHE": str(folder / "cache")}
        return self.zygote.run(*self.work.arguments(self.places, folder), files=files, **home)

    def made(self, folder: Path) -> dict[str, str]:
        """Describe what the command made: where it measures seconds, the files alone."""
        made = content(folder)
        return made if self.work.same else dict.fromkeys(made, "")

    def check_refusal(self, ended: Ended, words: tuple[str, ...], what: str) -> None:
        """Hold how it ended against one clear line and exit code 1."""
        self.counts["refused"] += ended.code == FAILED
        line = ended.last_line
        if ended.code == DONE:
            self.counts["done all the same"] += 1
        elif ended.code != FAILED or not line.startswith("fullscale: ") or "unexpected" in line:
            self.faults.append(f"{what}: it ended with {ended.code}: {ended.stderr[-400:]}")
        elif not any(word in line for word in words):
            self.faults.append(f"{what}: the line does not say why: {line[-400:]}")

    def repeat(self, folder: Path, expected: dict[str, str], what: str) -> None:
        """Repeat the command where there is room."""
        left = litter(folder)
        ended = self.run(folder)
        made = self.made(folder)
        self.counts["same result"] += ended.code == DONE and made == expected
        self.faults += [f"{what}: {name} differs" for name in sorted(made.items() ^ expected.items())]
        self.faults += [f"{what}: repeated, {ended.stderr[-300:]}"] if ended.code != DONE else []
        self.counts["litter"] += len(left)
        self.faults += [f"{what}: it left {path}" for path in left]


@pytest.fixture
def filling(
    request: pytest.FixtureRequest, zygote: Zygote, pristine: Path, phantoms: Path, cache: Path, tmp_path: Path
) -> Filling:
    return Filling(request.param, Places(phantoms, cache, pristine), zygote, tmp_path)


def with_works(*short: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("filling", writers(*short), ids=lambda work: work.name, indirect=True)


@with_works("predict", "prepare")
def test_a_full_disk_is_one_line_and_with_room_the_work_is_done(filling: Filling) -> None:
    whole = filling.fresh("whole")
    before = used(whole)
    assert filling.run(whole).code == DONE
    expected, needed = filling.made(whole), max(1, used(whole) - before)
    rng = random.Random(f"{SEED} {filling.work.name}")
    rooms = [*([0] if LONG else []), *(rng.randrange(needed) for _ in range(max(1, KILLS // 5)))]
    for number, room in enumerate(rooms):
        with small_disk(filling.folder / f"disk_{number}") as disk:
            folder = filling.fresh(disk / "w")
            filler = fill(disk, room)
            what = f"{room} of {needed} bytes"
            filling.check_refusal(filling.run(folder), ("No space left on device", "is it full?"), what)
            filler.unlink()
            filling.repeat(folder, expected, what)
    assert filling.faults == []
    assert filling.counts["refused"] or not filling.work.writes
    record(f"full disk {filling.work.name}", filling.counts)


@with_works("evaluate")
def test_a_disk_that_cannot_be_written_is_one_line(filling: Filling) -> None:
    whole = filling.fresh("whole")
    assert filling.run(whole).code == DONE
    expected = filling.made(whole)
    with small_disk(filling.folder / "disk") as disk:
        folder = filling.fresh(disk / "w")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        filling.check_refusal(filling.run(folder), ("Read-only file system",), "read-only")
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        filling.repeat(folder, expected, "read-only")
    assert filling.faults == []
    assert filling.counts["refused"] == filling.work.writes
    record(f"read-only {filling.work.name}", filling.counts)


@with_works("predict")
def test_few_open_files_are_enough_or_named_in_one_line(filling: Filling) -> None:
    whole, few = (filling.fresh(name) for name in ("whole", "few"))
    assert filling.run(whole).code == DONE
    filling.check_refusal(filling.run(few, FEW_FILES), ("Too many open files",), f"{FEW_FILES} files")
    filling.repeat(few, filling.made(whole), f"{FEW_FILES} files")
    assert filling.faults == []
    record(f"{FEW_FILES} files {filling.work.name}", filling.counts)
