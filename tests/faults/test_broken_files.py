"""Every file that a run and its surroundings hold, damaged: the commands that read it do so, or refuse it in one line.

A line names the file, and none says "unexpected". What carries a checksum is never read as something else.
"""

import random
import re
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.conftest import QUICK, Command
from tests.faults.commands import filled
from tests.faults.conftest import COMPARE
from tests.faults.damage import held_to_rights, kinds_of, put_folder, remove
from tests.faults.scale import FILES, LONG, SEED, record

pytestmark = pytest.mark.faults

DONE, FAILED, USAGE, DATA = 0, 1, 2, 3
LONGEST_LINE = 1500
SETTING = re.compile(r"\b(network|loss|optimizer|augment|data|trainer)\.\w+=")

TRAIN = ("train", "{data}", "-o", "{w}/run", "--cache", "{cache}", *QUICK)
FROM_CONFIG = ("train", "{data}", "-o", "{w}/run", "--cache", "{cache}", "--config", "{f}")
FROM_WEIGHTS = ("train", "{data}", "-o", "{w}/x", "--cache", "{cache}", *QUICK, "network.init={f}")
REPORT = ("report", "{w}/run", "-o", "{w}/page.html")
PAGE = ("report", "{f}", "-o", "{w}/page.html")
EVALUATE = ("evaluate", "{f}", "{data}", "--against", "{f}", "--jobs", "1")
IMPORT = ("import-weights", "{f}", "-o", "{w}/out.safetensors")
BUNDLE = ("import-weights", "{f}", "--bundle", "{w}/made", "--labels", "1=a,2=b", "--window", "0,1")
PREPARE = ("prepare", "{data}", "--cache", "{w}/cache", "--jobs", "1")
PLANNED = ("prepare", "{data}", "--plan", "{f}", "--cache", "{cache}", "--jobs", "1")


def predict(model: str, output: str = "new") -> tuple[str, ...]:
    scan = "{data}/imagesTs/phantom_006.nii.gz"
    return ("predict", f"{{w}}/{model}", scan, "-o", f"{{w}}/{output}", "--device", "cpu", "--jobs", "1")


def inspect(path: str) -> tuple[str, ...]:
    return ("inspect", path, "--jobs", "1")


@dataclass(frozen=True)
class Victim:
    """A file that is damaged.

    Attributes:
        file: in a copy of the pristine folder.
        commands: that read it, in this order.
        heals: whether every command succeeds, whatever the damage.
        kept: what the commands write, and the pristine file that it must equal: a checksum guards what it is made of.
    """

    file: str
    commands: tuple[tuple[str, ...], ...]
    heals: bool = False
    kept: tuple[str, str] | None = None


WEIGHTS = "run/bundle/model.safetensors"
MASK = ("new/phantom_006.nii.gz", "masks/phantom_006.nii.gz")
VICTIMS = [
    Victim("run/config.yaml", (TRAIN, REPORT, FROM_CONFIG)),
    Victim("run/plan.json", (TRAIN, REPORT)),
    Victim("run/dataset.json", (TRAIN, REPORT)),
    Victim("run/splits.json", (TRAIN,)),
    Victim("run/environment.json", (REPORT, TRAIN)),
    Victim("run/summary.json", (PAGE, TRAIN)),
    Victim("run/fold_0/validation/summary.json", (REPORT, TRAIN)),
    Victim("run/fold_0/metrics.csv", (REPORT, TRAIN)),
    Victim("run/fold_0/last.ckpt", (TRAIN,), kept=(WEIGHTS, WEIGHTS)),
    Victim("run/fold_0/best.ckpt", (TRAIN,), kept=(WEIGHTS, WEIGHTS)),
    Victim("run/fold_0/bundle/model.json", (predict("run/fold_0"), REPORT)),
    Victim("run/fold_0/bundle/model.safetensors", (predict("run/fold_0"),), kept=MASK),
    Victim("run/bundle/model.json", (TRAIN, predict("run")), heals=True, kept=MASK),
    Victim(WEIGHTS, (TRAIN, predict("run")), heals=True, kept=MASK),
    Victim("ensemble/model.json", (predict("ensemble"),)),
    Victim("ensemble/b/model.json", (predict("ensemble"),)),
    Victim("ensemble/b/model.safetensors", (predict("ensemble"),)),
    Victim("lists/cases.csv", (inspect("{f}"),)),
    Victim("lists/cases.json", (inspect("{f}"),)),
    Victim("lists/dataset.json", (inspect("{w}/lists"),)),
    Victim("msd/dataset.json", (inspect("{w}/msd"),)),
    Victim("lists/plan.json", (PLANNED,)),
    Victim("masks/summary.json", (PAGE, EVALUATE)),
    Victim("masks/.fullscale.jsonl", (predict("run", "masks"),), kept=(MASK[1], MASK[1])),
    Victim("weights/own.pth", (IMPORT,)),
    Victim("weights/own.pt", (IMPORT,)),
    Victim("weights/own.h5", (IMPORT,)),
    Victim("weights/own.safetensors", (BUNDLE, *([FROM_WEIGHTS] if LONG else []))),
    Victim("cache/*/case.json", (PREPARE,), heals=True, kept=("cache/*/label.npy", "cache/*/label.npy")),
    Victim("cache/*/image.npy", (PREPARE,), heals=True, kept=("cache/*/image.npy", "cache/*/image.npy")),
    Victim("cache/*/label.npy", (PREPARE,), heals=True, kept=("cache/*/label.npy", "cache/*/label.npy")),
    Victim("cache/.digests", (PREPARE,), heals=True, kept=("cache/*/label.npy", "cache/*/label.npy")),
]
SLOW_TO_MAKE = [
    Victim("exported/model.onnx", (predict("exported/model.onnx"),), kept=MASK),
    Victim("exported/model.json", (predict("exported/model.onnx"),)),
    Victim("compared/comparison.json", (COMPARE,)),
    Victim("compared/plan.json", (COMPARE,)),
    Victim("compared/dataset.json", (COMPARE,)),
    Victim("compared/unet/fold_0/validation/summary.json", (COMPARE,)),
    Victim("compared/unet/fold_0/metrics.csv", (COMPARE,)),
]


class Damaged:
    """A copy of the pristine folder in which one file at a time is damaged and put back."""

    def __init__(self, victim: Victim, pristine: Path, folder: Path, command: Command, **places: Path) -> None:
        self.victim, self.pristine, self.folder, self.command = victim, pristine, folder, command
        self.places = places | {"w": folder}
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []

    def put_back(self) -> Path:
        """Copy afresh what the commands read; return the file."""
        for made in self.folder.iterdir():
            remove(made)
        named = " ".join(word for command in self.victim.commands for word in command) + f" {{w}}/{self.victim.file}"
        for root in self.pristine.iterdir():
            if f"{{w}}/{root.name}" in named:
                shutil.copytree(root, self.folder / root.name, symlinks=True)
        return self.at(self.victim.file)

    def at(self, pattern: str) -> Path:
        """Return the first file of a pattern, in the order of the pristine ones."""
        first = min(self.pristine.glob(pattern), default=self.pristine / pattern)
        return self.folder / first.relative_to(self.pristine)

    def run(self, file: Path, what: str) -> None:
        """Run the commands on the damaged file, and count how they end."""
        commands = self.victim.commands
        for command in commands if LONG or self.victim.heals else random.Random(what).choices(commands):
            words = filled(command, f=file, **self.places)
            result = self.command(*words)
            fault = self.fault_of(result, file)
            self.counts["faults" if fault else "read" if result.returncode == DONE else "refused"] += 1
            if fault:
                self.faults.append(f"{self.victim.file}, {what}, {words[0]}: {fault}")
        if self.victim.kept and self.at(self.victim.kept[0]).exists():
            reference = min(self.pristine.glob(self.victim.kept[1]))
            if self.at(self.victim.kept[0]).read_bytes() != reference.read_bytes():
                self.faults.append(f"{self.victim.file}, {what}: {self.victim.kept[0]} is another")

    def fault_of(self, result: CompletedProcess[str], file: Path) -> str | None:
        """Say what is wrong with how a command ended; None where nothing is."""
        said = result.stderr.strip().splitlines() or [""]
        if "Traceback" in result.stderr or said[-1].startswith("fullscale: unexpected"):
            return said[-1][:300]
        if result.returncode == DONE:
            return None
        cannot_write = result.returncode == FAILED and "cannot write" in said[-1]  # a folder is where a file belongs
        if self.victim.heals or not (result.returncode in (USAGE, DATA) or cannot_write):
            return f"exit code {result.returncode}: {said[-1][:300]}"
        if not said[-1].startswith("fullscale: ") or len(said[-1]) > LONGEST_LINE:
            return f"no line: {said[-1][:300]}"
        named = file.name if file.is_file() else str(self.folder)  # a folder is no such file: what lacks it is named
        setting = file.name == "config.yaml" and SETTING.search(said[-1])  # it is named by its key
        return None if named in said[-1] or setting else f"no name: {said[-1][:300]}"


def damage_all(damaged: Damaged, count: int) -> None:
    """Damage a file `count` times in as many ways, then put a folder in its place, then forbid reading it."""
    name = damaged.victim.file
    whole, kinds = damaged.put_back().read_bytes(), kinds_of(Path(name))
    for number in range(count):
        rng = random.Random(f"{SEED} {name} {number}")
        kind = rng.choice(kinds)
        file = damaged.put_back()
        file.write_bytes(kind(whole, rng))
        damaged.run(file, f"{number} {kind.__name__}")
    if LONG or len(name) % 2:
        put_folder(file := damaged.put_back())
        damaged.run(file, "folder")
    if LONG or not len(name) % 2:
        file = damaged.put_back()
        file.chmod(0)
        with held_to_rights():
            damaged.run(file, "no rights")


# The short form damages a third of them, those of every kind among them.
@pytest.mark.parametrize("victim", [*VICTIMS, *SLOW_TO_MAKE] if LONG else VICTIMS[::3], ids=lambda victim: victim.file)
def test_a_damaged_file_of_a_run_is_read_or_refused_in_a_line(
    victim: Victim, request: pytest.FixtureRequest, phantoms: Path, cache: Path, fullscale: Command, tmp_path: Path
) -> None:
    pristine = request.getfixturevalue("further" if victim in SLOW_TO_MAKE else "pristine")
    damaged = Damaged(victim, pristine, tmp_path / "w", fullscale, data=phantoms, cache=cache)
    damaged.folder.mkdir()
    damage_all(damaged, FILES)
    assert damaged.faults == []
    record(f"file {victim.file}", damaged.counts)
