"""The folder of evidence: what a model is, what it was made of and how, with the digest of every file."""

from __future__ import annotations

import csv
import io
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fullscale.bundle.card import CARD, MODEL_CARD
from fullscale.bundle.store import WEIGHTS, file_sha256, member_folders, require_weights, single_card
from fullscale.documents import read_text
from fullscale.errors import DataError, UsageError
from fullscale.evidence.commands import commands_of
from fullscale.evidence.dependencies import Dependency, installed_dependencies
from fullscale.evidence.manifest import digests_in, manifest_of
from fullscale.evidence.sbom import bill_of_materials
from fullscale.files import atomic_folder, safe_name
from fullscale.progress import Progress, ignore
from fullscale.reporting.html import draw_report
from fullscale.reporting.model_card.card import faults_of
from fullscale.reporting.model_card.facts import Facts, Places, find_places, read_facts
from fullscale.reporting.source import find_source
from fullscale.runfolder import FoldFolder, RunFolder
from fullscale.work.machine import cores, processor_name

MANIFEST = "SHA256SUMS"
WEIGHTS_MANIFEST = "weights.sha256"
RUN = "run"
"""Folder of the records of the run, each where it lies in the run."""

_README = f"""\
# Evidence of a model

| file | what it is |
| --- | --- |
| `{MODEL_CARD}` | what the model is for, what it was trained on, how good it is, and where it fails |
| `report.html` | the scores in full, with pictures; a browser opens it without a network |
| `{RUN}/bundle/{CARD}` | the model itself but for its weights |
| `{RUN}/` | the records of the training: settings, plan, cases with their digests, splits, scores |
| `sbom.cdx.json` | every package that the installation consists of, as CycloneDX 1.6 |
| `licences.csv`, `licences/` | the licence of each, and its text where the package carries it |
| `machine.json` | the machine that wrote this folder, with its torch; that of the training lies in `{RUN}/` |
| `commands.sh` | the commands that make the model again |
| `{WEIGHTS_MANIFEST}` | SHA-256 of each file of the model |
| `{MANIFEST}` | SHA-256 of each file here but itself |

Check that nothing here has changed:

    sha256sum -c {MANIFEST}

Check a model, in the folder of its {CARD}, where EVIDENCE is this folder:

    sha256sum -c EVIDENCE/{WEIGHTS_MANIFEST}

Check both, that nothing was added, and that each figure in {MODEL_CARD} follows from the scores, where RUN is the run
folder or the model:

    fullscale evidence RUN --verify EVIDENCE

Digests show that files belong together, and not who wrote them. Keep the SHA-256 of {MANIFEST} apart, or sign it.
"""


@dataclass(frozen=True)
class WrittenEvidence:
    """Evidence that was written.

    Attributes:
        folder: where it is.
        digest: SHA-256 of its manifest, which stands for all of it.
        notes: what the report could not show, a line each.
    """

    folder: Path
    digest: str
    notes: list[str]


def write_evidence(path: Path, output: Path, data: Path | None = None, progress: Progress = ignore) -> WrittenEvidence:
    """Write the evidence of the model of a run, whole or not at all.

    Args:
        path: the run folder.
        output: the folder to write, in place of an older one.
        data: the data set, for the pictures of the report, where this machine does not remember it.
        progress: told of each case that is drawn.

    Raises:
        UsageError: the path is one fold of a run, or the extra `evidence` is not installed.
        DataError: there is no run, no scores or no model, or its card is not what the run says.
        OutputError: the folder cannot be written.
    """
    places = find_places(path)
    if places.run.path != path and places.kept is None:
        raise UsageError(f"{path} is a fold of the run {places.run.path}: give the run")
    facts = read_facts(places)
    card = _checked_card(path, facts)
    for member in member_folders(places.bundle).values():
        require_weights(member, single_card(member))
    weights = digests_of_model(places.bundle)
    dependencies = installed_dependencies()
    bill = bill_of_materials(facts.card, [d for name, d in weights.items() if name.endswith(WEIGHTS)], dependencies)
    page = draw_report(find_source(path), progress=progress, data=data)
    with atomic_folder(output) as folder:
        texts = {
            "README.md": _README,
            MODEL_CARD: card,
            "report.html": page.text,
            "sbom.cdx.json": bill,
            "licences.csv": _licences(dependencies),
            "machine.json": json.dumps(environment(), indent=2) + "\n",
            "commands.sh": commands_of(facts),
            WEIGHTS_MANIFEST: manifest_of(weights),
        }
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        _write_licences(folder / "licences", dependencies)
        _copy_records(RunFolder(path), places, folder / RUN)
        (folder / MANIFEST).write_text(manifest_of(digests_in(folder)), encoding="utf-8")
    notes = [f"{name}: {picture.note}" for name, picture in page.pictures.items() if picture.note]
    return WrittenEvidence(output, file_sha256(output / MANIFEST), notes)


def digests_of_model(bundle: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a model, by its way from the bundle.

    Raises:
        DataError: a file is missing, or cannot be read.
    """
    files = [bundle / CARD]
    files += [folder / name for folder in member_folders(bundle).values() for name in (CARD, WEIGHTS)]
    return {file.relative_to(bundle).as_posix(): file_sha256(file) for file in dict.fromkeys(files)}


def environment() -> dict[str, Any]:
    """Say on what machine, and with which build of torch, evidence is written."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "processor": processor_name(),
        "cores": cores(),
        "torch": {
            "version": torch.__version__,
            "commit": torch.version.git_version,
            "cuda": torch.version.cuda,
            "debug": torch.version.debug,
            "build": torch.__config__.show().strip().splitlines(),
        },
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _checked_card(path: Path, facts: Facts) -> str:
    """Return the text of the model card, whose figures must be those of the run."""
    if not facts.places.card.is_file():
        raise DataError(f"{facts.places.card}: is not there; fullscale card {path} writes it")
    text = read_text(facts.places.card, "the model card")
    faults = faults_of(text, facts)
    if faults:
        raise DataError(f"{facts.places.card}: {faults[0]}; bring it up to date with fullscale card {path}")
    return text


def _records(run: RunFolder, places: Places) -> list[Path]:
    """List the files of a run that its model card is made of, and those that say how it was trained."""
    records = [places.run.config, places.run.plan, places.run.dataset, places.run.splits, places.run.environment]
    records += [run.summary, run.views, run.bundle / CARD]
    records += [member / CARD for member in member_folders(places.bundle).values()]
    for fold in places.trained:
        records += [fold.metrics, *_of_model(fold)]
    for fold in places.scored:
        records += [fold.summary, *_of_model(fold)]
    return [file for file in dict.fromkeys(records) if file.is_file()]


def _of_model(fold: FoldFolder) -> list[Path]:
    """List the card of a fold's model, and those of its members."""
    return sorted(fold.bundle.glob(f"**/{CARD}"))


def _copy_records(run: RunFolder, places: Places, folder: Path) -> None:
    for file in _records(run, places):
        target = folder / file.relative_to(run.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())


def _licences(dependencies: Sequence[Dependency]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "version", "licence", "texts"])
    writer.writerows([one.name, one.version, one.licence, len(one.texts)] for one in dependencies)
    return text.getvalue()


def _write_licences(folder: Path, dependencies: Sequence[Dependency]) -> None:
    for one in dependencies:
        for name, text in one.texts.items():
            file = folder / safe_name(one.name) / "/".join(map(safe_name, name.split("/")))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
