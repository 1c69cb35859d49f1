"""File systems that keep no promise: a rename that is seen half done or reported as failed, and locks that hold nobody.

A library put before that of C does so to the commands. After the kill in the middle of a rename the command is repeated
on a file system that works: it ends with the result of an uninterrupted one, or says in a line what it cannot read.
"""

import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.commands import UNSTEADY, Ended, Zygote, content, litter
from tests.faults.scale import KILLS, SEED, record
from tests.faults.works import Places, Repeated, works

pytestmark = [pytest.mark.faults, pytest.mark.long]

SOURCE = Path(__file__).with_name("network_files.c")
RENAMES = max(1, KILLS // 10)
"""Renames of each command that are gone through, drawn at random."""
SHORT = ("prepare",)
AGAIN = 3
"""Times that a command is repeated, the file that it names removed each time."""


@pytest.fixture(scope="session")
def on_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """Starts commands on such a file system."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc to make the file system with")
    folder = tmp_path_factory.mktemp("network")
    library = folder / "network_files.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, SOURCE, "-ldl"], check=True)
    started = Zygote(folder, LD_PRELOAD=str(library))
    yield started
    started.close()


class Trial(Repeated):
    """One command on such a file system, again and again, in folders of its own."""

    def run(self, folder: Path, **environment: object) -> Ended:
        """Run the command in a folder; what is named holds there."""
        words = self.work.arguments(self.places, folder)
        named = {f"NETWORK_{name.upper()}": str(value) for name, value in environment.items()}
        return self.zygote.run(*words, NETWORK_UNDER=str(folder), **named)

    def whole(self) -> tuple[int, dict[str, str]]:
        """Run it without interruption; return how many renames that takes, and what it made."""
        folder, count = self.fresh("whole"), self.folder / "renames"
        ended = self.run(folder, count=count)
        assert ended.code == 0, ended.stderr
        return count.stat().st_size if count.exists() else 0, content(folder)

    def hold(self, folder: Path, expected: dict[str, str], what: str) -> None:
        """Repeat the command where the disk works: it ends with the same result, or a line names what is not whole."""
        begun = set(folder.rglob("*")) - set(litter(folder))
        ended = self.run(folder)
        if ended.code == 0:
            made = content(folder)
            self.counts["same result"] += made == expected
            self.faults += [f"{what}: {name} differs" for name, _ in sorted(made.items() ^ expected.items())]
        else:
            self.counts["refused"] += 1
            named = ended.last_line.startswith("fullscale: ") and str(folder) in ended.stderr
            if "Traceback" in ended.stderr or not named:
                self.faults.append(f"{what}: {ended.code} {ended.stderr[-400:]}")
            kept = (path for path in sorted(begun) if path.name not in UNSTEADY)  # not what says who is at work
            self.faults += [f"{what}: {path} is lost" for path in kept if not path.exists()]
        left = litter(folder) if ended.code == 0 else []  # the next command that writes there takes it along
        self.counts["litter"] += len(left)
        self.faults += [f"{what}: it left {path}" for path in left]


@pytest.fixture
def trial(
    request: pytest.FixtureRequest, on_network: Zygote, pristine: Path, phantoms: Path, cache: Path, tmp_path: Path
) -> Iterator[Trial]:
    return Trial(request.param, Places(phantoms, cache, pristine), on_network, tmp_path)


@pytest.mark.parametrize("trial", works(*SHORT), ids=lambda work: work.name, indirect=True)
def test_a_rename_that_is_half_done_is_never_taken_for_whole(trial: Trial) -> None:
    renames, expected = trial.whole()
    rng = random.Random(f"{SEED} {trial.work.name}")
    for how in ("copied", "gap", "lost"):
        for at in sorted(rng.sample(range(1, renames + 1), min(renames, RENAMES))):
            folder, what = trial.fresh(f"{how}_{at}"), f"rename {at} {how}"
            ended = trial.run(folder, rename=how, at=at)
            trial.counts[how] += 1
            if how == "lost" and ("Traceback" in ended.stderr or ended.code not in (0, 1, 4)):
                trial.faults.append(f"{what}: it ended with {ended.code}: {ended.stderr[-300:]}")
            trial.hold(folder, expected, what)
    assert trial.faults == []
    record(f"network {trial.work.name}", trial.counts)


@pytest.mark.parametrize("trial", works("prepare"), ids=lambda work: work.name, indirect=True)
def test_two_commands_whose_locks_lie_do_no_harm(trial: Trial) -> None:
    """Both write into one folder at once, and each is told that it is alone."""
    _, expected = trial.whole()
    for number in range(max(1, KILLS // 20)):
        folder = trial.fresh(f"twice_{number}")
        words = trial.work.arguments(trial.places, folder)
        lying = {"NETWORK_UNDER": str(folder), "NETWORK_LOCKS": "1"}
        both = [trial.zygote.start(*words, **lying) for _ in range(2)]
        for ended in (one.wait() for one in both):
            trial.counts["two at once"] += 1
            trial.counts["done"] += ended.code == 0
            if "Traceback" in ended.stderr or (ended.code and not ended.last_line.startswith("fullscale: ")):
                trial.faults.append(f"{folder.name}: it ended with {ended.code}: {ended.stderr[-400:]}")
        trial.hold(folder, expected, folder.name)
    assert trial.faults == []
    record(f"locks {trial.work.name}", trial.counts)
