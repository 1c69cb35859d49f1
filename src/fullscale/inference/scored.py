"""A model scored on labelled scans: predicted from the files as a user would; with guidance, without its gate too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from pathlib import Path

from fullscale.bundle.card import Card, ModelCard
from fullscale.data.anonymise import without_files
from fullscale.data.case import Case
from fullscale.data.identity import DigestIndex, case_digest
from fullscale.data.image_files import is_picture
from fullscale.data.labels import LabelScheme
from fullscale.data.truth import Truth, truth_of
from fullscale.data.volume_files import write_volume
from fullscale.errors import DataError
from fullscale.files import require_inside, safe_name
from fullscale.geometry.volume import Volume
from fullscale.inference.batch import jobs_of
from fullscale.inference.guided import predict_guided
from fullscale.inference.naming import mask_suffix
from fullscale.inference.predictor import Predictor, first_of
from fullscale.inference.scan import as_channels
from fullscale.inference.trust.counts import Counting
from fullscale.inference.trust.evidence import counting_against, evidence_of
from fullscale.metrics.presence import GuidedScores, Known, score_guided
from fullscale.metrics.surface import TOLERANCE_MM, Tolerance
from fullscale.progress import Progress, ignore
from fullscale.runfolder import SUMMARY
from fullscale.scoring.evaluate import Scoring, evaluate
from fullscale.scoring.summary import Failure, ScoredModel, Summary, write_summary
from fullscale.work.cluster import Workers
from fullscale.work.executor import Outcome, make_executor, map_cases
from fullscale.work.processes import Shared


@dataclass(frozen=True)
class ModelTest:
    """A model, and the labelled cases that it is scored on.

    Attributes:
        predictor: the model; with guidance, its gate is scored too.
        folder: for the masks and the scores.
        cases: scans with their truth.
        labels: name of each value in the truth, values that share a name being merged; or the scheme.
        tolerance_mm: of the surface Dice.
        index: digests of files, to find out which cases the model was trained on; default none are remembered.
        data: the data set that the cases are from.
        anonymous: the cases have numbers for names, so the scores name no file of the data either.
        evidence: folder for what the voxels of each case say of the model's probabilities; default none is kept.
    """

    predictor: Predictor
    folder: Path
    cases: Sequence[Case]
    labels: LabelScheme | Mapping[int, str]
    tolerance_mm: Tolerance = TOLERANCE_MM
    index: DigestIndex = field(default_factory=DigestIndex)
    data: Path | None = None
    anonymous: bool = False
    evidence: Path | None = None

    @property
    def scheme(self) -> LabelScheme:
        """What is scored."""
        return LabelScheme.of(self.labels)

    @property
    def summary(self) -> Path:
        """The file of the scores."""
        return self.folder / SUMMARY

    def scoring(self, cases: Mapping[str, Case]) -> Scoring:
        """Return how the masks of cases are scored."""
        return Scoring.of(self.folder, cases, self.scheme, self.tolerance_mm)

    def segment(self, predictor: Shared[Predictor]) -> Callable[[Case], list[GuidedScores]]:
        """Return what writes the mask of one case, and says what the gate does."""
        return partial(_segment, predictor=predictor, folder=self.folder, scheme=self.scheme, evidence=self.evidence)

    def joined(
        self,
        outcomes: Iterable[Outcome[Case, list[GuidedScores]]],
        score: Callable[[Mapping[str, Case]], Summary],
    ) -> Summary:
        """Put together what became of each case.

        Args:
            outcomes: of `segment`.
            score: scores the masks of the cases it is given.

        Raises:
            DataError: no case could be scored.
        """
        guidance, failures, done = list[GuidedScores](), list[Failure](), dict[str, Case]()
        for outcome in outcomes:
            failure = outcome.failure()
            if failure is not None:
                failures.append(Failure(outcome.name, failure))
            else:
                guidance += outcome.result()
                done[outcome.name] = outcome.item
        if not done:
            first = failures[0] if failures else Failure("-", "there are no labelled cases")
            raise DataError(
                f"none of {len(self.cases)} cases could be segmented, such as {first.case}: {first.message}"
            )
        summary = score(done)
        members = [member.card for member in self.predictor.members]
        model = scored_model(self.predictor.card, members, list(done.values()), self.index)
        told = {failure.case for failure in failures}
        failures += [failure for failure in summary.failures if failure.case not in told]
        if self.anonymous:
            by_id = {case.id: case for case in self.cases}
            failures = [Failure(f.case, without_files(f.message, by_id[f.case])) for f in failures]
        return replace(
            summary, guidance=guidance, failures=failures, model=model, data=self.data, anonymous=self.anonymous
        )


def predict_and_score(test: ModelTest, jobs: Workers = 1, progress: Progress = ignore) -> Summary:
    """Write the mask of each labelled case and `summary.json`.

    Args:
        test: the model and the cases.
        jobs: processes that share the cases; None as the machine allows, one on a GPU.
        progress: told of each case that is segmented.

    Returns:
        The scores. A case whose scan or truth cannot be used is among the failures.

    Raises:
        DataError: no case could be scored.
        FullscaleError: the folder cannot be written.
    """
    shared = Shared(test.predictor)
    with make_executor(jobs_of(test.predictor, jobs, len(test.cases)), shared) as executor:
        outcomes = list(map_cases(executor, test.segment(shared), test.cases, progress, attrgetter("id")))
    summary = test.joined(outcomes, lambda done: evaluate(test.folder, done, test.scheme, test.tolerance_mm, jobs=jobs))
    write_summary(summary, test.summary)
    return summary


def scored_model(card: Card, members: Iterable[ModelCard], cases: Sequence[Case], index: DigestIndex) -> ScoredModel:
    """Say which model it is, and which of the cases any member of it was trained on, by the content of their scans."""
    known = {digest for member in members for digest in member.trained_on.values()}
    trained_on = [case.id for case in cases if known and case_digest(case, index).image in known]
    return ScoredModel(card.algorithm.name, card.digest, trained_on)


def mask_of(case: Case, folder: Path) -> Path:
    """Name the mask of a case in a folder: an image of an image, else a NIfTI file."""
    suffix = mask_suffix(case.first) if is_picture(case.first) else ".nii.gz"
    return require_inside(folder, folder / f"{safe_name(case.id)}{suffix}")


def _segment(
    case: Case, predictor: Shared[Predictor], folder: Path, scheme: LabelScheme, evidence: Path | None
) -> list[GuidedScores]:
    """Write the mask of one case, and return what its gate does where there is one."""
    model = predictor.value
    channels = as_channels(dict(case.channels), model.channels, None, model.resamples_channels)
    truth = None if evidence is None else truth_of(case, scheme)
    counted = None if truth is None else _counted(model, channels, truth)
    mask, guided = predict_guided(model, channels, watchers=[] if counted is None else [counted])
    write_volume(mask_of(case, folder), mask)
    if counted is not None and truth is not None and evidence is not None:
        evidence_of(counted, truth).save(evidence, case.id)
    if guided is None:
        return []
    assert case.label is not None
    truth = truth or truth_of(case, scheme)
    known = Known(scheme.members if scheme.regions else None, truth.ignored, truth.unknown)
    return [score_guided(case.id, guided, truth.labels, list(model.card.structures), known)]


def _counted(model: Predictor, channels: Mapping[str, Volume], truth: Truth) -> Counting | None:
    """Return what counts the voxels of a case; None where its truth lies on another grid."""
    scan = first_of(channels)
    if truth.labels.shape != scan.shape:
        return None
    return counting_against(truth, model.geometry(scan), model.card.scheme)
