"""The circle of one service: order by doubt, corrected cases, trainings and choices."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from fullscale.bundle.card import is_exported
from fullscale.runfolder import RunFolder
from fullscale.serve.annotations import FINAL, Annotations
from fullscale.serve.circle.choice import Choices
from fullscale.serve.circle.corrected import Corrected, CorrectedCases, write_dataset
from fullscale.serve.circle.training import AskedTraining
from fullscale.serve.circle.trainings import Training, Trainings
from fullscale.serve.service import JobRequest, Refused, Service
from fullscale.serve.settings import ServedModel

FOLDER = "circle"


class TrainingRequest(BaseModel):
    """What may be asked of a training.

    Attributes:
        minutes: of training and validation.
        learning_rate: default that of the run that it starts from.
    """

    model_config = ConfigDict(extra="forbid")

    minutes: float = Field(30.0, gt=0, le=7 * 24 * 60)
    learning_rate: float | None = Field(None, gt=0, le=1)


@dataclass(frozen=True)
class Doubted:
    """A case without labels, and how little the model is sure of it.

    Attributes:
        case: its name.
        doubt: from 0 to 1; None where the model has not segmented it yet.
        job: whose mask it is of.
    """

    case: str
    doubt: float | None = None
    job: str | None = None

    @property
    def rank(self) -> tuple[bool, float]:
        """Sorts what the model is least sure of first, and what it has not segmented last."""
        return self.doubt is None, -(self.doubt or 0.0)


@dataclass
class Circle:
    """The circle of a service.

    Attributes:
        service: the service.
        annotations: masks that were saved.
        trainings: its trainings.
        choices: which models people chose.
    """

    service: Service
    annotations: Annotations
    trainings: Trainings = field(init=False)
    choices: Choices = field(init=False)

    def __post_init__(self) -> None:
        settings = self.service.settings
        self.trainings = Trainings(self.root / "trainings")
        self.choices = Choices(self.root / "chosen.json", settings.models)

    @property
    def root(self) -> Path:
        """Its folder."""
        return self.service.settings.state / FOLDER

    def begin(self) -> None:
        """Take up what was left by an earlier start: choices, and a training that was interrupted."""
        self.choices.restore()
        self.trainings.recover()

    def unlabelled(self, model: ServedModel) -> list[str]:
        """List the cases of a model that have no truth, neither of the data set nor saved here."""
        return [
            name
            for name, scan in sorted(self.service.cases_of(model).items())
            if scan.label is None and self.annotations.newest(name, FINAL) is None
        ]

    def order(self, model: ServedModel) -> list[Doubted]:
        """Order the cases without labels: what this model is least sure of first, what it has not seen yet last."""
        known: dict[str, Doubted] = {}
        for job in self.service.store.done(model.name):
            doubt = job.result.get("doubt")
            if job.case is not None and doubt is not None and job.result.get("model_digest") == model.card.digest:
                known[job.case] = Doubted(job.case, doubt, job.id)
        found = [known.get(name, Doubted(name)) for name in self.unlabelled(model)]
        return sorted(found, key=lambda one: (one.rank, one.case))

    def next_case(self) -> str | None:
        """Choose the case that the first model which takes it is least sure of; one it has not seen comes last."""
        orders = [self.order(model) for model in self.service.settings.models.values()]
        first = min((one for order in orders for one in order), key=lambda one: one.rank, default=None)
        return None if first is None else first.case

    def measure(self, model: ServedModel) -> int:
        """Queue jobs for the cases without labels that the model has not seen; return their number.

        Raises:
            Full: too many jobs wait.
        """
        waiting = self.service.store.waiting(model.name)
        new = [one.case for one in self.order(model) if one.doubt is None and one.case not in waiting]
        for case in new:
            self.service.submit_case(JobRequest(model=model.name, case=case))
        return len(new)

    def corrected(self, model: ServedModel) -> list[Corrected]:
        """List the cases that people are done with."""
        order = self.data(model) / "order.json"
        return CorrectedCases(order, self.annotations).find(self.service.cases_of(model))

    def data(self, model: ServedModel) -> Path:
        """Return the folder of the corrected cases of a model."""
        return self.root / "data" / model.name

    def write_dataset(self, model: ServedModel) -> Path:
        """Write the corrected cases as a data set, and return its `dataset.json`.

        Raises:
            Refused: there are none.
        """
        cases = self.corrected(model)
        if not cases:
            raise Refused(f"no case of the model {model.name} was corrected yet; save a mask with the tag {FINAL!r}")
        return self._write(model, self.data(model), cases)

    def start(self, model: ServedModel, asked: TrainingRequest) -> Training:
        """Train on the corrected cases, from the weights of the model.

        Raises:
            Refused: a training runs, there are too few cases, or the settings of the model are not known.
        """
        id, cases = self.trainings.new(), self.corrected(model)
        training, held = ([case.name for case in cases if case.held_out == held] for held in (False, True))
        if not training or not held:
            raise Refused(
                f"{len(cases)} corrected cases: two are needed at least, one to train on and one that is held out; "
                "save masks with the tag 'final'"
            )
        told = AskedTraining(
            model=model.name,
            path=model.path,
            run=run_of(model),
            digest=model.card.digest,
            cases=tuple(training),
            held_out=tuple(held),
            minutes=asked.minutes,
            learning_rate=asked.learning_rate,
            device=_device(self.service.settings.device),
            created=time.time(),
        )
        self._write(model, self.trainings.data(id), cases)
        return self.trainings.start(id, told)

    def _write(self, model: ServedModel, folder: Path, cases: list[Corrected]) -> Path:
        made_by = {}
        for case in cases:
            job = self.service.store.get(str(case.annotation.about["said"].get("job", "")))
            if job is not None and job.case == case.name and "model_digest" in job.result:
                made_by[case.name] = job.result["model_digest"]
        return write_dataset(folder, model, cases, made_by)


def run_of(model: ServedModel) -> Path:
    """Return the run that a model is of: training goes on with its settings and its plan.

    Raises:
        Refused: it is an exported model, a bundle without its run, or an ensemble.
    """
    if model.members > 1:
        raise Refused(f"the model {model.name} has {model.members} members: training starts from one, such as fold_0")
    for folder in (model.path, *model.path.parents[:2]):
        run = RunFolder(folder)
        if run.is_run and run.plan.is_file() and not is_exported(model.path):
            return folder
    raise Refused(f"the model {model.name} lies in no run folder: its settings and plan are not known, serve its run")


def _device(name: str) -> str:
    """Return where to train, by where the service computes."""
    return name.partition(":")[0]
