"""What the service says of its models, cases and jobs: the JSON of its answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel

from fullscale.data.image_files import is_picture
from fullscale.metrics.overlap import Scores
from fullscale.serve.annotations import Annotation
from fullscale.serve.casebook import CaseBook
from fullscale.serve.jobs import Job, State
from fullscale.serve.service import Service
from fullscale.serve.settings import ServedModel


class ModelView(BaseModel):
    """A model.

    Attributes:
        name: by which it is asked for.
        structures: name of each structure, by its value in the masks.
        channels: that a scan must have.
        modality: what it was trained on.
        members: models whose probabilities are averaged.
        digest: SHA-256 of its card, which names its weights.
    """

    name: str
    structures: dict[int, str]
    channels: list[str]
    modality: str
    members: int
    digest: str


class CaseView(BaseModel):
    """A case of the data folder.

    Attributes:
        name: by which it is asked for.
        models: that take it.
        labelled: whether the data set has a mask of it.
        saved: masks of it that people saved here.
    """

    name: str
    models: list[str]
    labelled: bool
    saved: int


class AnnotationView(BaseModel):
    """A mask that a person saved.

    Attributes:
        case: its case.
        tag: `final`, or another word.
        version: 1 for the first of its case and tag.
        saved: when.
        who: saved it, as the person said.
        note: what the person said of it.
        labels: structure of each value.
    """

    case: str
    tag: str
    version: int
    saved: datetime
    who: str
    note: str
    labels: dict[int, str]


class CaseDetailsView(CaseView):
    """A case, and what there is to look at.

    Attributes:
        channels: of its scan.
        modality: what the models that take it were trained on.
        picture: whether it is an image, which has no place in a patient.
        structures: by value, of the masks of each model that takes it.
        annotations: masks that people saved, the newest first.
    """

    channels: list[str]
    modality: str
    picture: bool
    structures: dict[str, dict[int, str]]
    annotations: list[AnnotationView]


class ScoresView(BaseModel):
    """A mask against the truth.

    Attributes:
        truth: where the truth is from: the data set, or a saved mask.
        structures: the scores of each structure by name, as in `summary.json`; null where there is nothing to score.
    """

    truth: str
    structures: dict[str, dict[str, float | None]]


class ProgressView(BaseModel):
    """How far a job is.

    Attributes:
        done: of `total`.
        total: 0 where that is not known yet.
        item: what is counted, or what is being done.
    """

    done: int
    total: int
    item: str


class JobView(BaseModel):
    """A job.

    Attributes:
        id: its name.
        model: name of its model.
        case: name of its case; null of an upload.
        state: how it stands.
        attempts: times that it was started.
        failure: why it failed.
        created: when it was asked for.
        started: when its last attempt began.
        finished: when it ended.
        kept_until: when its files will be removed.
        removed: when they were.
        progress: how far it is, while it runs.
        dicom_seg: whether its mask can be had as DICOM SEG.
    """

    id: str
    model: str
    case: str | None
    state: State
    attempts: int
    failure: str | None
    created: datetime
    started: datetime | None
    finished: datetime | None
    kept_until: datetime | None
    removed: datetime | None
    progress: ProgressView | None
    dicom_seg: bool


class ResultView(BaseModel):
    """What came of a job.

    Attributes:
        structures: volume of each structure in ml; of images its area, in what `unit` says.
        unit: mm, mm2 or px: what the scan is counted in.
        labels: structure of each value of the mask.
        elapsed_s: from reading the scan to writing the mask.
        seconds: of each stage of that.
        warnings: why the mask may not be trusted.
        notes: what else is to be known.
        model_digest: of the model that made the mask.
    """

    structures: dict[str, float]
    unit: Literal["mm", "mm2", "px"]
    labels: dict[int, str]
    elapsed_s: float
    seconds: dict[str, float]
    warnings: list[str]
    notes: list[str]
    model_digest: str


def view_model(model: ServedModel) -> ModelView:
    """Say what a model is."""
    return ModelView(
        name=model.name,
        structures=model.card.structures,
        channels=list(model.channels),
        modality=model.card.modality,
        members=model.members,
        digest=model.card.digest,
    )


def view_cases(book: CaseBook) -> list[CaseView]:
    """List the cases of the data folder, each with the models that take it."""
    return [view_case(book, name) for name in sorted(book.cases)]


def view_case(book: CaseBook, name: str) -> CaseView:
    """Say what a case is.

    Raises:
        NotServed: there is none.
    """
    scan, _ = book.case(name)
    models = [model.name for model in book.service.settings.models.values() if name in book.service.cases_of(model)]
    saved = len(book.annotations.all_of(name))
    return CaseView(name=name, models=models, labelled=scan.label is not None, saved=saved)


def view_annotation(one: Annotation) -> AnnotationView:
    """Say what a saved mask is; those of other clients may not say who saved them."""
    return AnnotationView(
        case=one.case,
        tag=one.tag,
        version=one.version,
        saved=datetime.fromtimestamp(one.about["saved"], UTC),
        who=one.who,
        note=one.note,
        labels={value: name for name, value in one.about["label_names"].items()},
    )


def view_details(book: CaseBook, name: str) -> CaseDetailsView:
    """Say what is known of a case.

    Raises:
        NotServed: there is none.
    """
    scan, model = book.case(name)
    about = view_case(book, name)
    return CaseDetailsView(
        **about.model_dump(),
        channels=list(model.channels),
        modality=model.card.modality,
        picture=is_picture(scan.path),
        structures={one: book.service.model(one).card.structures for one in about.models},
        annotations=[view_annotation(one) for one in book.annotations.all_of(name)],
    )


def view_scores(truth: str, scores: dict[str, Scores]) -> ScoresView:
    """Say what a mask scores."""
    return ScoresView(truth=truth, structures=scores)


def view_job(service: Service, job: Job) -> JobView:
    """Say how a job stands."""
    done, total, item = service.runner.progress.get(job.id, (0, 0, ""))
    running = job.state == "running"
    kept = job.finished + service.settings.keep_s if job.finished is not None and job.removed is None else None
    return JobView(
        id=job.id,
        model=job.model,
        case=job.case,
        state=job.state,
        attempts=job.attempts,
        failure=job.failure,
        created=datetime.fromtimestamp(job.created, UTC),
        started=_time(job.started),
        finished=_time(job.finished),
        kept_until=_time(kept),
        removed=_time(job.removed),
        progress=ProgressView(done=done, total=total, item=item) if running else None,
        dicom_seg=bool(job.result.get("segmentation")),
    )


def view_result(job: Job) -> ResultView:
    """Say what came of a job."""
    return ResultView(**{name: value for name, value in job.result.items() if name in ResultView.model_fields})


def _time(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)
