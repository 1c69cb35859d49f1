"""Prepared cases on disk: voxels that training reads a few at a time, keyed by content.

A prepared case is a folder named by a digest of the scan's content, the mask's content, the recipe and the labels. A
file or a recipe that changes has another digest and is prepared again. The folder is filled beside its place and
renamed into it, so a half-written one is never found. It holds the digests of its own files: where one is not what was
written, the case is prepared again.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullscale.data.case import Case
from fullscale.data.identity import CaseDigest, DigestIndex, case_digest
from fullscale.data.labels import IGNORED, LabelScheme
from fullscale.data.read import read_channels
from fullscale.data.recipe import Recipe, image_slices, label_slices, require_contrast, slice_geometry
from fullscale.data.structure_files import structures_of
from fullscale.data.truth import truth_of
from fullscale.documents import digest_of
from fullscale.errors import DataError, GeometryError, OutputError
from fullscale.files import require_no_file_in_the_way
from fullscale.geometry.volume import require_same_grid
from fullscale.progress import Progress, ignore
from fullscale.temporary import WRITING, beside, sweep, sync
from fullscale.work.cluster import Workers
from fullscale.work.executor import choose_workers, make_executor, map_cases
from fullscale.work.processes import Shared

FORMAT = 4
"""Raised whenever the same bytes would be prepared into other files."""

NAMED = 5
"""Cases that a warning lists by name."""

_IMAGE, _LABEL, _META = "image.npy", "label.npy", "case.json"
_log = logging.getLogger(__name__)


def default_cache() -> Path:
    """`$FULLSCALE_CACHE`, else `fullscale` in `$XDG_CACHE_HOME` or `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("FULLSCALE_CACHE") or Path(base) / "fullscale")


@dataclass(frozen=True)
class PreparedCase:
    """One case ready for training; the arrays are memory-mapped when asked for, so that it pickles as a path.

    Attributes:
        id: the case.
        folder: where its arrays are.
        spacing_mm: of the arrays' axes: across slices, rows, columns.
        voxels: `[S][classes]`, how many voxels of each class each slice holds.
        vanished: structures that the mask holds, and none of these voxels: they are too small for the spacing.
        unknown: indices of the structures that were not drawn in this case.
    """

    id: str
    folder: Path
    spacing_mm: tuple[float, float, float]
    voxels: npt.NDArray[np.int64]
    vanished: tuple[str, ...] = ()
    unknown: tuple[int, ...] = ()

    @property
    def image(self) -> npt.NDArray[np.float16]:
        """Normalised voxels `[C, S, H, W]`."""
        return np.load(self.folder / _IMAGE, mmap_mode="r")  # type: ignore[no-any-return]

    @property
    def label(self) -> npt.NDArray[np.uint8]:
        """Class indices `[S, H, W]`, `IGNORED` where nothing is known."""
        return np.load(self.folder / _LABEL, mmap_mode="r")  # type: ignore[no-any-return]


def prepare_cases(
    cases: Sequence[Case],
    recipe: Recipe,
    labels: LabelScheme | Mapping[int, str],
    cache: Path,
    progress: Progress = ignore,
    verify: bool = False,
    jobs: Workers = 1,
) -> list[PreparedCase]:
    """Prepare labelled cases, or find them prepared.

    Args:
        cases: labelled cases.
        recipe: what is done to each scan.
        labels: name of each label value, background included, values that share a name being merged; or the scheme.
        cache: folder of prepared cases, shared between runs.
        progress: told of each case that is ready.
        verify: read every file again, those of the cache too, even where size and times say that none has changed.
        jobs: processes that share the cases; None as the machine allows.

    Raises:
        DataError: a case cannot be read, or its mask does not fit; the case is named.
        UsageError: the cache is a file, or would lie below one.
    """
    require_no_file_in_the_way(cache)
    index = Shared(DigestIndex(cache, verify))
    prepare = partial(_prepare_case, recipe=recipe, scheme=LabelScheme.of(labels), cache=cache, index=index)
    with make_executor(choose_workers(jobs, len(cases)), index) as executor:
        outcomes = map_cases(executor, prepare, cases, progress, attrgetter("id"))
        prepared = [outcome.result() for outcome in outcomes]
    lost = [f"{case.id} ({', '.join(case.vanished)})" for case in prepared if case.vanished]
    if lost:
        more = f" and {len(lost) - NAMED} more" if len(lost) > NAMED else ""
        _log.warning(
            "%d of %d cases lose a structure that is too small for the spacing of the plan: %s%s; a smaller spacing_mm "
            "keeps it",
            *(len(lost), len(prepared), ", ".join(lost[:NAMED]), more),
        )
    return prepared


def _prepare_case(
    case: Case, recipe: Recipe, scheme: LabelScheme, cache: Path, index: Shared[DigestIndex]
) -> PreparedCase:
    try:
        folder = cache / _key(case, case_digest(case, index.value), recipe, scheme)
        if folder.is_dir():
            prepared = _open(case, folder, index.value, scheme)
            if prepared is not None:
                return prepared
            _log.warning("case %s: its files in the cache %s are damaged, it is prepared again", case.id, cache)
            _remove(folder)
        with _new_folder(folder) as temporary:
            _fill(temporary, case, recipe, scheme)
        prepared = _open(case, folder, index.value, scheme)
    except OSError as error:
        reason = error.strerror or f"the disk took less than it was given ({error}); is it full?"  # NumPy's own error
        raise OutputError(f"case {case.id}: cannot prepare it in {cache}: {reason}") from error
    if prepared is None:
        raise OutputError(f"case {case.id}: what was written to {folder} reads back otherwise; is the disk sound?")
    return prepared


def _open(case: Case, folder: Path, index: DigestIndex, scheme: LabelScheme) -> PreparedCase | None:
    """Open a prepared case whose files are what was written; None where they are not."""
    try:
        written = json.loads((folder / _META).read_text(encoding="utf-8"))
        meta = written["case"]
        if written["digest"] != digest_of(meta) or any(
            index.file_digest(folder / name) != meta["digests"][name] for name in (_IMAGE, _LABEL)
        ):
            return None
    except (DataError, OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    a, b, c = meta["spacing_mm"]
    voxels = np.asarray(meta["voxels"], dtype=np.int64)
    return PreparedCase(case.id, folder, (a, b, c), voxels, tuple(meta["vanished"]), scheme.unknown(case.labelled))


def _fill(folder: Path, case: Case, recipe: Recipe, scheme: LabelScheme) -> None:
    if case.label is None:
        raise DataError(f"case {case.id} has no mask, so it cannot be trained on")
    try:
        truth = truth_of(case, scheme)
        mask = truth.labels
        channels = read_channels(case.channels, resample=recipe.resample_channels)
        scan = next(iter(channels.values()))
        require_same_grid(scan, mask)
        geometry = slice_geometry(scan, recipe)
        image = image_slices(channels, geometry, recipe).astype(np.float16)
        require_contrast(image, channels, recipe)
    except GeometryError as error:
        raise GeometryError(f"case {case.id}: {error}") from error
    except DataError as error:
        raise DataError(f"case {case.id}: {error}") from error
    label = label_slices(mask, geometry, scheme, truth.ignored)
    np.save(folder / _IMAGE, image)
    np.save(folder / _LABEL, label)
    voxels = [np.bincount(s[s != IGNORED], minlength=scheme.classes).tolist() for s in label]
    resized = (geometry.spacing_mm[i] * geometry.shape[i] / geometry.network_shape[i] for i in range(3))
    digests = {name: DigestIndex().file_digest(folder / name) for name in (_IMAGE, _LABEL)}
    held = np.isin(np.arange(scheme.classes), scheme.targets(np.unique(mask.array)))
    vanished = [
        name
        for name, of in zip(scheme.structures.values(), scheme.membership, strict=True)
        if (held & of).any() and not (np.sum(voxels, axis=0) * of).any()
    ]
    meta = {"spacing_mm": list(resized), "voxels": voxels, "vanished": vanished, "digests": digests}
    (folder / _META).write_text(json.dumps({"case": meta, "digest": digest_of(meta)}), encoding="utf-8")


def _key(case: Case, content: CaseDigest, recipe: Recipe, scheme: LabelScheme) -> str:
    """Name the folder of a prepared case; names of patients and files are no part of it, but those of structures."""
    settings = [FORMAT, recipe.model_dump(mode="json"), list(scheme.merged.items()), content.whole]
    if case.by_name or structures_of(case):
        settings.append(sorted(scheme.labels.items()))
    # What vanished is told by the names of regions; a value to ignore is part of the name only where there is one.
    overlapping = [[name, *values] for name, values in scheme.regions.items()]
    settings += [overlapping] if overlapping else []
    settings += [] if scheme.ignore is None else [{"ignore": scheme.ignore}]
    return digest_of(settings)


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes `folder` when the block ends well, unless that is there by then."""
    temporary = beside(folder, WRITING)
    folder.parent.mkdir(parents=True, exist_ok=True)
    sweep(folder.parent)
    temporary.mkdir()
    try:
        yield temporary
        for path in (*temporary.iterdir(), temporary):
            sync(path)
        try:
            temporary.rename(folder)
        except OSError:
            # Another process has prepared the same case in the meantime; its bytes are the same.
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove(folder: Path) -> None:
    """Take a folder away in one step, so that no other process finds half of it."""
    aside = beside(folder, WRITING)
    with suppress(FileNotFoundError):  # another process was faster
        folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def cache_summary(prepared: Sequence[PreparedCase]) -> dict[str, Any]:
    """Count cases, slices and bytes of prepared cases."""
    return {
        "cases": len(prepared),
        "slices": int(sum(len(case.voxels) for case in prepared)),
        "bytes": sum(file.stat().st_size for case in prepared for file in case.folder.iterdir()),
    }
