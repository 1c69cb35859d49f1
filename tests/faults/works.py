"""The commands that write: what each is given, what it is to make, and what it may change."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import QUICK
from tests.faults.commands import filled
from tests.faults.conftest import COMPARE
from tests.faults.scale import LONG

TRAINING = [*QUICK, "trainer.max_epochs=3", "trainer.deterministic=true", "network.classification_guided=true"]
SCANS = 24 if LONG else 4


@dataclass(frozen=True)
class Places:
    """What the commands read.

    Attributes:
        data: labelled phantoms.
        cache: of prepared cases.
        pristine: a run and what is around it.
    """

    data: Path
    cache: Path
    pristine: Path


@dataclass(frozen=True)
class Work:
    """A command that writes into a folder.

    Attributes:
        name: of the command.
        words: its arguments; `{w}` is the folder, `{run}` a trained run, `{weights}` a folder of weights, `{data}` and
            `{cache}` what they say.
        setup: puts into the folder what the command reads there.
        share: of the kills of a training.
    """

    name: str
    words: tuple[str, ...]
    setup: Callable[[Places, Path], None] = field(default=lambda *_: None)
    share: float = 1 / 3

    def arguments(self, places: Places, folder: Path) -> list[str]:
        """Return the arguments with every place filled in."""
        run, weights = places.pristine / "run", places.pristine / "weights"
        return filled(self.words, w=folder, run=run, weights=weights, data=places.data, cache=places.cache)


def many_scans(places: Places, folder: Path) -> None:
    """Give the scans of the phantoms many names."""
    (folder / "scans").mkdir()
    for n in range(SCANS):
        shutil.copy(places.data / "imagesTr" / f"phantom_{n % 6:03d}.nii.gz", folder / "scans" / f"scan_{n:02d}.nii.gz")


def many_masks(places: Places, folder: Path) -> None:
    """Give the labels of the phantoms many names, as masks and as the truth."""
    for kind in ("masks", "truth"):
        (folder / kind).mkdir()
        for n in range(SCANS):
            source = places.data / "labelsTr" / f"phantom_{n % 6:03d}.nii.gz"
            shutil.copy(source, folder / kind / f"scan_{n:02d}.nii.gz")


def a_run(places: Places, folder: Path) -> None:
    """Copy the trained run."""
    shutil.copytree(places.pristine / "run", folder / "run")


BENCH = ("--width", "4", "--size", "32", "--repeats", "1", "--device", "cpu")
PREDICT = ("predict", "{run}", "{w}/scans", "-o", "{w}/masks", "--device", "cpu", "--probabilities")
WORKS = [
    Work("train", ("train", "{data}", "-o", "{w}/run", "--cache", "{cache}", *TRAINING), share=1),
    Work("predict", (*PREDICT, "--jobs", "1"), many_scans, share=1 / 2),
    Work("prepare", ("prepare", "{data}", "--cache", "{w}/cache", "--jobs", "1")),
    Work("evaluate", ("evaluate", "{w}/masks", "{w}/truth", "--jobs", "1"), many_masks),
    Work("report", ("report", "{w}/run"), a_run),
    Work("test", ("test", "{run}", "{data}", "-o", "{w}/tested", "--device", "cpu", "--jobs", "1")),
    Work("predict --jobs 2", (*PREDICT, "--jobs", "2"), many_scans),
    Work("export", ("export", "{run}", "-o", "{w}/model.onnx")),
    Work("compare", COMPARE),
    Work("phantom", ("phantom", "{w}/new", "--cases", str(SCANS), "--size", "48", "--slices", "12")),
]
SCAN, MASK = "{data}/imagesTr/phantom_000.nii.gz", "{data}/labelsTr/phantom_000.nii.gz"
FURTHER = [
    Work("demo", ("demo", "-o", "{w}/demo", "--minutes", "0.1")),
    Work("inspect", ("inspect", "{data}", "--jobs", "1")),
    Work("plan", ("plan", "{data}", "-o", "{w}/plan.json", "--device", "cpu", "--jobs", "1")),
    Work("settings", ("settings",)),
    Work("overlay", ("overlay", SCAN, MASK, "-o", "{w}/overlay.png")),
    Work("import-weights", ("import-weights", "{weights}/own.pth", "-o", "{w}/own.safetensors")),
    Work("params", ("params",)),
    Work("bench decoder", ("bench", "decoder", *BENCH, "--json", "{w}/times.json")),
    Work("bench networks", ("bench", "networks", *BENCH, "--json", "{w}/times.json")),
    Work("bench memory", ("bench", "memory", "--json", "{w}/memory.json")),
    Work("bench scan", ("bench", "scan", SCAN, "--widths", "4", "--repeats", "1", "--json", "{w}/times.json")),
    Work("train with workers", ("train", "{data}", "-o", "{w}/run", "--cache", "{cache}", *TRAINING, "data.workers=1")),
]
"""Commands that are interrupted besides: they write little or nothing, or never the same."""


def works(*short: str) -> list[Work]:
    """Return every command that writes, or in the short form those that are named."""
    return [work for work in WORKS if LONG or work.name in short]


def all_works(*short: str) -> list[Work]:
    """Return every command, or in the short form those that are named."""
    return [work for work in (*WORKS, *FURTHER) if LONG or work.name in short]
