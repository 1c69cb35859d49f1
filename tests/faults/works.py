"""The commands that write: what each is given, what it is to make, and what it may change."""

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import QUICK
from tests.faults.commands import Zygote, filled
from tests.faults.conftest import COMPARE
from tests.faults.scale import LONG

TRAINING = [
    *QUICK,
    f"trainer.max_epochs={3 if LONG else 2}",
    "trainer.deterministic=true",
    "network.classification_guided=true",
]
SCANS = 24 if LONG else 3


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
        same: whether it writes the same each time: no measured seconds.
        writes: whether it writes anything but the cache of the account, which lies in the folder then.
    """

    name: str
    words: tuple[str, ...]
    setup: Callable[[Places, Path], None] = field(default=lambda *_: None)
    share: float = 1 / 5
    same: bool = True
    writes: bool = True

    def arguments(self, places: Places, folder: Path) -> list[str]:
        """Return the arguments with every place filled in."""
        run, weights = places.pristine / "run", places.pristine / "weights"
        return filled(self.words, w=folder, run=run, weights=weights, data=places.data, cache=places.cache)


@dataclass
class Repeated:
    """One work, done again and again in folders of its own.

    Attributes:
        work: what is done.
        places: what it reads.
        zygote: starts it.
        folder: that holds the folders.
        counts: of what happened.
        faults: what must not have happened.
    """

    work: Work
    places: Places
    zygote: Zygote
    folder: Path
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def fresh(self, name: str | Path) -> Path:
        """Make a folder with what the command reads; by its whole path elsewhere."""
        made = self.folder / name
        made.mkdir()
        self.work.setup(self.places, made)
        return made


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


def a_run_without_its_card(places: Places, folder: Path) -> None:
    """Copy the trained run, and take its model card away."""
    a_run(places, folder)
    (folder / "run" / "bundle" / "MODEL_CARD.md").unlink()


def an_archive(places: Places, folder: Path) -> None:
    """Put scans into folders of their own, two of them into one."""
    many_scans(places, folder)
    for n, scan in enumerate(sorted((folder / "scans").iterdir())):
        (folder / "archive" / f"patient_{max(1, n):02d}").mkdir(parents=True, exist_ok=True)
        scan.rename(folder / "archive" / f"patient_{max(1, n):02d}" / scan.name)


BENCH = ("--width", "4", "--size", "32", "--repeats", "1", "--device", "cpu")
PREDICT = ("predict", "{run}", "{w}/scans", "-o", "{w}/masks", "--device", "cpu", "--probabilities")
ARCHIVE = ("-o", "{w}/out", "--archive", "--device", "cpu", "--jobs", "1")
WORKS = [
    Work("train", ("train", "{data}", "-o", "{w}/run", "--cache", "{cache}", *TRAINING), share=1),
    Work("predict", (*PREDICT, "--jobs", "1"), many_scans, share=1 / 2),
    Work("prepare", ("prepare", "{data}", "--cache", "{w}/cache", "--jobs", "1"), share=1 / 2),
    Work("evaluate", ("evaluate", "{w}/masks", "{w}/truth", "--jobs", "1"), many_masks),
    Work("report", ("report", "{w}/run"), a_run),
    Work("test", ("test", "{run}", "{data}", "-o", "{w}/tested", "--device", "cpu", "--jobs", "1")),
    Work("predict --jobs 2", (*PREDICT, "--jobs", "2"), many_scans),
    Work("predict --archive", ("predict", "{run}", "{w}/archive", *ARCHIVE), an_archive),
    Work("export", ("export", "{run}", "-o", "{w}/model.onnx")),
    Work("compare", COMPARE),
    Work("phantom", ("phantom", "{w}/new", "--cases", str(SCANS), "--size", "48", "--slices", "12")),
]
SEARCH = ("--trials", "2", "--steps-each", "4", "network.width=2,4", *QUICK[1:4], "trainer.device=cpu")
SCAN, MASK = "{data}/imagesTr/phantom_000.nii.gz", "{data}/labelsTr/phantom_000.nii.gz"
FURTHER = [
    Work("demo", ("demo", "-o", "{w}/demo", "--steps", "4")),
    Work("inspect", ("inspect", "{data}", "--jobs", "1"), writes=False),
    Work("plan", ("plan", "{data}", "-o", "{w}/plan.json", "--device", "cpu", "--jobs", "1")),
    Work("overlay", ("overlay", SCAN, MASK, "-o", "{w}/overlay.png")),
    Work("card", ("card", "{w}/run"), a_run_without_its_card),
    Work("evidence", ("evidence", "{run}", "-o", "{w}/evidence")),
    Work("paper", ("paper", "-o", "{w}/paper", "network.width=4")),
    Work("search", ("search", "{data}", "-o", "{w}/search", "--cache", "{cache}", *SEARCH), same=False),
    Work("import-weights", ("import-weights", "{weights}/own.pth", "-o", "{w}/own.safetensors")),
    Work("bench decoder", ("bench", "decoder", *BENCH, "--json", "{w}/times.json"), same=False),
    Work("bench networks", ("bench", "networks", *BENCH, "--json", "{w}/times.json"), same=False),
    Work("bench memory", ("bench", "memory", "--json", "{w}/memory.json")),
    Work("bench scan", ("bench", "scan", SCAN, "--widths", "4", "--repeats", "1", "--json", "{w}/t.json"), same=False),
]
"""Commands that write little, or never the same."""
READERS = [Work("settings", ("settings",)), Work("params", ("params",))]
WITH_WORKERS = [Work("train with workers", (*WORKS[0].words, "data.workers=1", "trainer.max_epochs=1"))]


def works(*short: str) -> list[Work]:
    """Return every command that is killed, or in the short form those that are named."""
    return _chosen(WORKS, short)


def writers(*short: str) -> list[Work]:
    """Return every command that writes, or in the short form those that are named."""
    return _chosen([*WORKS, *FURTHER], short)


def all_works(*short: str) -> list[Work]:
    """Return every command, or in the short form those that are named."""
    return _chosen([*WORKS, *FURTHER, *READERS, *WITH_WORKERS], short)


def _chosen(known: list[Work], short: tuple[str, ...]) -> list[Work]:
    return [work for work in known if LONG or work.name in short]
