"""Many scans, one after the other: a bad one is reported and does not stop the rest."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from fullscale.data.case import ONE_CHANNEL, WHOLE_SET
from fullscale.data.channels import join_channels, read_scan
from fullscale.data.dicom.identifiers import missing_identifiers, source_headers, write_with_identifiers
from fullscale.data.dicom.series import DicomHeader
from fullscale.data.dicom.stack import DicomReadOptions
from fullscale.data.discover import Scan, discover, is_slice, scans_of_slices, summarise
from fullscale.data.volume_files import volume_suffix, write_volume
from fullscale.errors import DataError, UsageError
from fullscale.files import require_inside, safe_name
from fullscale.geometry.units import LENGTH, SIZE, Unit
from fullscale.geometry.volume import Volume
from fullscale.inference.familiar import (
    strange_modality,
    strange_places,
    strange_scan,
    strange_volumes,
    trained_distribution,
)
from fullscale.inference.forecast import can_be_fitted, cost_of, describe_forecast, fitted
from fullscale.inference.naming import (
    ONE_FILE,
    OutputOptions,
    copy_of,
    mask_suffix,
    probability_name,
    soft_suffix,
    uncertainty_name,
)
from fullscale.inference.predictor import Predictor, first_of
from fullscale.inference.stages import Stages
from fullscale.inference.trust.asked import Asked
from fullscale.inference.trust.assess import describe_trust
from fullscale.progress import Progress, ignore
from fullscale.work.cluster import Cluster, Workers
from fullscale.work.executor import choose_workers, make_executor, map_cases
from fullscale.work.processes import Shared

DISTRUST = "do not trust the mask"
"""Words of a note that is a warning."""

_log = logging.getLogger(__name__)


@dataclass
class Result:
    """What became of one scan.

    Attributes:
        scan: the file or DICOM folder.
        mask: the file that was written; with both formats, the volume.
        segmentation: the DICOM SEG that was written.
        error: why there is none.
        notes: what is to be known about it: what was chosen, resampled, or looks wrong.
        structure_ml: volume of each structure, in ml; of images its area, in what `unit` says.
        elapsed_s: from reading the scan to writing the mask.
        seconds: of each stage of that, see `Stages`.
        unit: what the scan is counted in.
        uncertainty: the map of the entropy that was written, where it was asked for.
        trust: how far to trust each structure, the plain values of `StructureTrust`; empty where nothing is known.
    """

    scan: Path
    mask: Path | None = None
    segmentation: Path | None = None
    error: str | None = None
    notes: list[str] = field(default_factory=list)
    structure_ml: dict[str, float] = field(default_factory=dict)
    elapsed_s: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    unit: Unit = "mm"
    uncertainty: Path | None = None
    trust: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def written(self) -> list[Path]:
        """The masks that were written."""
        return [path for path in (self.segmentation, self.mask) if path is not None]

    @property
    def warnings(self) -> list[str]:
        """Those of the notes that say not to trust the mask."""
        return [note for note in self.notes if DISTRUST in note]

    @property
    def asks(self) -> list[str]:
        """Why a person should look at structures of the mask, by what is expected of them."""
        return [f"{name}: {told['review']}" for name, told in self.trust.items() if told["review"]]

    @property
    def review(self) -> list[str]:
        """Why a person should look at the mask: what is expected of its structures, and the warnings."""
        return self.asks + self.warnings

    def describe(self) -> str:
        """Say each structure's volume and the time."""
        form = ".0f" if self.unit == "px" else ".1f"
        structures = ", ".join(f"{name} {size:{form}} {SIZE[self.unit]}" for name, size in self.structure_ml.items())
        stages = "".join(f", {stage} {seconds:.1f}" for stage, seconds in self.seconds.items())
        trust = describe_trust(self.trust, LENGTH[self.unit], width=self.uncertainty is not None)
        return f"{structures}{trust} ({self.elapsed_s:.1f} s{stages})"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in vars(self).items()}


def find_scans(
    paths: Sequence[Path],
    dicom: DicomReadOptions | None = None,
    channels: Sequence[str] = (ONE_CHANNEL,),
    progress: Progress = ignore,
) -> tuple[list[Scan], list[str]]:
    """List the scans that are meant, and in a line each what was given besides.

    A data set stands for the scans of its cases, labelled or not; any other path for every scan that `discover` finds.
    DICOM files that are given one by one are put together by their series. Where a series is chosen and a study holds
    it, only such studies are meant. For a model of several channels, files are put together by their names; see
    `join_channels`.

    Raises:
        DataError: a path does not exist or holds no scan.
        UsageError: two scans would write the same mask.
    """
    slices = [path for path in paths if is_slice(path)]
    together = len(slices) > 1
    scans = scans_of_slices(slices, progress) if together else []
    notes: list[str] = []
    for path in (path for path in paths if not (together and path in slices)):
        found, beside = _scans_at(path, progress)
        scans += found
        notes += beside
    wanted = [] if dicom is None else [series for series in (dicom.series, *dicom.by_channel.values()) if series]
    for series in wanted:
        scans, others = _with_series(scans, series)
        notes += [f"{scan.path}: passed over, it holds no series {series!r}" for scan in others]
    scans = join_channels(scans, channels, by_series=dicom is not None and bool(dicom.by_channel))
    _require_names_apart(scans)
    return scans, notes


def _scans_at(path: Path, progress: Progress) -> tuple[list[Scan], list[str]]:
    contents = discover(path, progress)
    beside = summarise(contents.passed_over)
    if contents.dataset is not None:
        told = [p for p in contents.dataset.problems if p.severity == "error" or p.case == WHOLE_SET]
        beside = [f"{p.case}: {p.message}" for p in sorted(told, key=lambda p: p.severity)] + beside
    if not contents.scans:
        of = contents.dataset
        what = f"{path} holds no scan" if of is None else f"{path}: no case of {of.name} ({of.layout}) can be used"
        raise DataError(what + "".join(f"; {line}" for line in beside[:3]))
    return contents.scans, beside


def _require_names_apart(scans: Sequence[Scan]) -> None:
    names = Counter(safe_name(scan.name).casefold() for scan in scans)  # some file systems do not tell A from a
    for name, count in names.items():
        if count > 1:
            same = ", ".join(str(scan.path) for scan in scans if safe_name(scan.name).casefold() == name)
            raise UsageError(f"{same} would all be written as {name!r}; predict them into folders of their own")


def _with_series(scans: list[Scan], series: str) -> tuple[list[Scan], list[Scan]]:
    """Part the scans into those that may be meant by a series and the studies without it, if any study has it."""
    others = [scan for scan in scans if scan.series and series not in scan.series]
    if not any(series in scan.series for scan in scans):
        return scans, []  # reading them says what they hold instead
    return [scan for scan in scans if scan not in others], others


def predict_scans(
    predictor: Predictor,
    scans: Sequence[Scan],
    output: Path,
    options: OutputOptions | None = None,
    dicom: DicomReadOptions | None = None,
    progress: Progress = ignore,
    jobs: Workers = 1,
    resample_channels: bool = False,
    tell: bool = False,
) -> list[Result]:
    """Segment scans into `output`: `NAME` with the scan's own suffix (`.nii.gz` for DICOM), or `NAME.dcm`.

    Each structure's probability, where it is asked for, is written beside it as `NAME_STRUCTURE_probability`.

    Args:
        predictor: the model.
        scans: as `find_scans` gives them.
        output: folder for the masks.
        options: how masks are written.
        dicom: how DICOM is read.
        progress: told of each scan that is done.
        jobs: processes that share the scans, each with a model of its own; None as the machine allows, one on a GPU.
        resample_channels: bring channels on other grids onto that of the first, as models do that were trained so.
        tell: say of the first scan what it is expected to cost, where that is known and one process does all.

    Returns:
        What became of each scan; whatever is wrong with one does not stop the others.

    Raises:
        FullscaleError: `output` cannot be written.
    """
    options = options or OutputOptions()
    for scan in scans:
        if scan.path.is_file() and volume_suffix(scan.path) in ONE_FILE and options.format != "seg":
            _log.info("%s: its mask is written as one file, %s", scan.path, mask_suffix(scan.path))
    shared, workers = Shared(predictor), jobs_of(predictor, jobs, len(scans))
    segment = partial(
        _segment,
        predictor=shared,
        output=output,
        options=options,
        dicom=dicom or DicomReadOptions(),
        resample=resample_channels or predictor.resamples_channels,
        first=scans[0] if tell and workers == 1 and scans else None,
    )
    with make_executor(workers, shared) as executor:
        return [
            Result(outcome.item.path, error=failure) if failure is not None else outcome.result()
            for outcome in map_cases(executor, segment, scans, progress, attrgetter("name"))
            for failure in [outcome.failure()]
        ]


def jobs_of(predictor: Predictor, wanted: Workers, scans: int) -> int | Cluster:
    """Choose the number of processes for so many scans; a GPU is busy with one."""
    if wanted is None and any(member.runtime.device.type != "cpu" for member in predictor.members):
        return 1
    return choose_workers(wanted, scans)


def _segment(
    scan: Scan,
    predictor: Shared[Predictor],
    output: Path,
    options: OutputOptions,
    dicom: DicomReadOptions,
    resample: bool,
    first: Scan | None,
) -> Result:
    return segment_scan(predictor.value, scan, output, options, dicom, resample, tell=scan is first)


def segment_scan(
    predictor: Predictor,
    scan: Scan,
    output: Path,
    options: OutputOptions,
    dicom: DicomReadOptions,
    resample: bool = False,
    progress: Progress = ignore,
    tell: bool = False,
) -> Result:
    """Segment one scan, as `predict_scans` does each; what was noticed before it failed is kept.

    Args:
        predictor: the model.
        scan: as `find_scans` gives it.
        output: folder for the masks.
        options: how masks are written.
        dicom: how DICOM is read.
        resample: bring channels on other grids onto that of the first.
        progress: told of the slices that are done.
        tell: say before the work what it is expected to cost, where that is known.

    Raises:
        FullscaleError: `output` cannot be written.
    """
    result = Result(scan.path)
    cost = cost_of(predictor) if tell or can_be_fitted(predictor) else None  # before reading: memory must grow
    started, stages = time.perf_counter(), Stages()
    try:
        with stages.timed("reading"):
            channels = read_scan(scan, predictor.channels, dicom, resample)
        predictor = fitted(predictor, first_of(channels), cost)
        tell = tell and not (options.probabilities or options.uncertainty)
        if tell and (said := describe_forecast(predictor, first_of(channels), cost)):
            _log.info("%s: %s", scan.path, said)
        _predict(predictor, result, output, scan, channels, options, dicom, stages, progress)
    except DataError as error:
        result.error = str(error)
    result.seconds = {stage: round(seconds, 2) for stage, seconds in stages.seconds.items()}
    result.elapsed_s = round(time.perf_counter() - started, 2)
    return result


def _predict(
    predictor: Predictor,
    result: Result,
    output: Path,
    found: Scan,
    channels: dict[str, Volume],
    options: OutputOptions,
    dicom: DicomReadOptions,
    stages: Stages,
    progress: Progress,
) -> None:
    scan = first_of(channels)
    result.notes = [note for channel in channels.values() for note in channel.notes]
    if isinstance(scan.header, DicomHeader):
        strange = strange_modality(scan.header.modality, predictor.card.modality)
        result.notes += [f"{line}: {DISTRUST}" for line in strange]
    as_seg = options.format != "nifti" and _can_be_seg(predictor, scan, result, options, dicom)
    trained = trained_distribution([member.card for member in predictor.members])
    intensities = [pair for member in predictor.members for pair in member.card.recipe.intensities.items()]
    strange = strange_scan(channels, trained, {name for name, of in intensities if of.per == "dataset"})
    asked = Asked.of(predictor, options.probabilities, options.uncertainty)
    labels = predictor.watched(channels, asked.watchers, progress, stages)
    result.notes += stages.notes + asked.notes
    voxels = predictor.card.scheme.voxels(labels.array)
    result.structure_ml = {structure: float(count * labels.voxel_ml) for structure, count in voxels.items()}
    result.unit = labels.unit
    strange += strange_volumes(result.structure_ml, trained, labels.unit)
    strange += strange_places(labels, predictor.card.scheme, trained)
    if strange:
        result.notes += [f"unlike the scans that the model was trained on, so {DISTRUST}: {'; '.join(strange)}"]
    result.trust = {name: told.as_dict() for name, told in asked.trust().items()}
    with stages.timed("writing"):
        _write(result, output, found, labels, asked, options, as_seg)


def _write(
    result: Result,
    output: Path,
    found: Scan,
    labels: Volume,
    asked: Asked,
    options: OutputOptions,
    as_seg: bool,
) -> None:
    suffix = mask_suffix(result.scan)
    name = safe_name(found.name)
    if options.format != "seg":
        result.mask = _target(result, output, f"{name}{suffix}")
        write_volume(result.mask, labels)
    for structure, volume in asked.probabilities(labels).items():
        _write_map(_target(result, output, probability_name(name, structure, soft_suffix(suffix))), volume)
    doubt = asked.uncertainty(labels)
    if doubt is not None:
        result.uncertainty = _target(result, output, uncertainty_name(name, soft_suffix(suffix)))
        _write_map(result.uncertainty, doubt)
    if as_seg:
        result.segmentation = _target(result, output, f"{name}.dcm")
        labels = _with_identifiers(result, labels, copy_of(output, found.name))
        from fullscale.data.dicom.seg import write_seg

        card = asked.predictor.card
        write_seg(result.segmentation, labels, card.scheme, card.algorithm, options.seg_type)


def _write_map(path: Path, volume: Volume) -> None:
    write_volume(path, volume.with_array(volume.array.astype(np.float32)))


def _can_be_seg(
    predictor: Predictor, scan: Volume, result: Result, options: OutputOptions, dicom: DicomReadOptions
) -> bool:
    """Try a segmentation before the work; where it is not all that is wanted, a note says why there can be none."""
    card = predictor.card
    try:
        from fullscale.data.dicom.seg import require_sources  # of an extra, which other formats do without

        result.notes += require_sources(scan, card.scheme, card.algorithm, options.seg_type, dicom.fix_identifiers)
    except DataError as error:
        if options.format == "seg":
            raise
        result.notes += [f"no DICOM SEG is written: {error}"]
        return False
    return True


def _with_identifiers(result: Result, labels: Volume, folder: Path) -> Volume:
    """Let a label map belong to a copy of its series with identifiers, where its own are blank."""
    if not isinstance(labels.header, DicomHeader) or not missing_identifiers(source_headers(labels.header)):
        return labels
    header, note = write_with_identifiers(labels.header, folder)
    result.notes = [*result.notes, note]
    return Volume(labels.array, labels.affine, header)


def _target(result: Result, output: Path, name: str) -> Path:
    mask = require_inside(output, output / name)
    if mask.exists() and mask.resolve() == result.scan.resolve():
        raise UsageError(f"the mask of {result.scan} would replace the scan itself; choose another output folder")
    return mask
