"""Whether evidence still is what was written, and speaks of the model that is given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fullscale.bundle.card import CARD, MODEL_CARD
from fullscale.bundle.store import WEIGHTS, find_bundle
from fullscale.documents import read_text
from fullscale.errors import DataError, FullscaleError
from fullscale.evidence.folder import MANIFEST, RUN, WEIGHTS_MANIFEST, digests_of_model
from fullscale.evidence.manifest import digests_in, read_manifest
from fullscale.reporting.model_card.card import faults_of
from fullscale.reporting.model_card.facts import find_places, member_cards, read_facts
from fullscale.runfolder import RunFolder


def verify_evidence(folder: Path, model: Path | None = None) -> list[str]:
    """Say everything that is wrong with evidence, a line each; nothing is written.

    Args:
        folder: of the evidence.
        model: a run or a bundle, whose files must be those that the evidence names.

    Raises:
        DataError: the folder is no evidence, or there is no model.
    """
    if not (folder / MANIFEST).is_file():
        what = "holds no evidence" if folder.is_dir() else "no such folder"
        raise DataError(f"{folder}: {what}, expected what fullscale evidence RUN -o {folder} writes")
    bundle = None if model is None else find_bundle(model)
    checks = [_changed(folder), _figures(folder), _named_weights(folder)]
    checks += [] if bundle is None else [_of_model(folder, bundle)]
    return [fault for check in checks for fault in _told(check)]


def _told(faults: Iterator[str]) -> Iterator[str]:
    """Say what cannot even be read as one fault more."""
    try:
        yield from faults
    except FullscaleError as error:
        yield str(error)


def _changed(folder: Path) -> Iterator[str]:
    """Hold every file against the manifest."""
    expected = read_manifest(folder / MANIFEST)
    strange = [path for path in sorted(folder.rglob("*")) if path.is_symlink() or not (path.is_file() or path.is_dir())]
    yield from (f"{path.relative_to(folder)}: is no plain file" for path in strange)
    there = digests_in(folder, leave_out=MANIFEST)
    for name, digest in expected.items():
        if name not in there:
            yield f"{name}: is missing"
        elif there[name] != digest:
            yield f"{name}: was changed; its SHA-256 is {there[name]}, not {digest}"
    yield from (f"{name}: was added; {MANIFEST} does not name it" for name in there if name not in expected)


def _figures(folder: Path) -> Iterator[str]:
    """Hold the model card against the scores and records beside it."""
    facts = read_facts(find_places(folder / RUN))
    yield from (f"{MODEL_CARD}: {line}" for line in faults_of(read_text(folder / MODEL_CARD), facts))
    yield from (f"{MODEL_CARD}: {line}" for line in facts.reservations)


def _named_weights(folder: Path) -> Iterator[str]:
    """Hold the digests of the weights against the cards of the model."""
    named, bundle = read_manifest(folder / WEIGHTS_MANIFEST), RunFolder(folder / RUN).bundle
    for member, card in member_cards(bundle).items():
        name = (Path(member) / WEIGHTS).as_posix()
        if card.weights_sha256 is not None and named.get(name) != card.weights_sha256:
            yield f"{WEIGHTS_MANIFEST}: names other weights as {name} than {RUN}/bundle/{member}/{CARD} does"


def _of_model(folder: Path, bundle: Path) -> Iterator[str]:
    """Hold the files of a model against the digests in the evidence."""
    expected, here = read_manifest(folder / WEIGHTS_MANIFEST), digests_of_model(bundle)
    for name, digest in expected.items():
        if name not in here:
            yield f"{bundle / name}: is missing, but the evidence names it"
        elif here[name] != digest:
            yield f"{bundle / name}: is not what the evidence names; its SHA-256 is {here[name]}, not {digest}"
    yield from (f"{bundle / name}: is no part of what the evidence names" for name in here if name not in expected)
