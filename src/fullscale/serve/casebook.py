"""The cases of a service by name: their scans, what was saved of them, and what a viewer is shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from fullscale.data.case import Dataset
from fullscale.data.discover import Scan
from fullscale.data.layouts.find import recognise
from fullscale.serve.annotations import FINAL, Annotations
from fullscale.serve.service import NotServed, Service
from fullscale.serve.settings import ServedModel
from fullscale.serve.shown import KeptScores, ShownFiles
from fullscale.text import nearest


@dataclass
class CaseBook:
    """The cases of a service, whichever of its models take them.

    Attributes:
        service: the service.
        annotations: masks that were saved.
        shown: scans and masks as NIfTI, for viewers.
        scores: of masks that were scored.
    """

    service: Service
    annotations: Annotations = field(init=False)
    shown: ShownFiles = field(init=False)
    scores: KeptScores = field(default_factory=KeptScores)

    def __post_init__(self) -> None:
        state = self.service.settings.state
        self.annotations, self.shown = Annotations(state / "annotations"), ShownFiles(state / "shown")

    @cached_property
    def cases(self) -> dict[str, tuple[Scan, str]]:
        """Every case by its name, with the name of the first model that takes it."""
        found: dict[str, tuple[Scan, str]] = {}
        for model in self.service.settings.models.values():
            for name, scan in self.service.cases_of(model).items():
                found.setdefault(name, (scan, model.name))
        return found

    @cached_property
    def dataset(self) -> Dataset | None:
        """What the data folder says of its masks; None where it is no data set."""
        data = self.service.settings.data
        return None if data is None else recognise(data)

    def case(self, name: str) -> tuple[Scan, ServedModel]:
        """Return a case by its name, with the model that takes it: another may be chosen while the service runs.

        Raises:
            NotServed: there is none.
        """
        if name not in self.cases:
            raise NotServed(f"no case {name!r} here{nearest(name, self.cases) if self.cases else ': no --data'}")
        scan, model = self.cases[name]
        return scan, self.service.model(model)

    def completed(self, name: str) -> bool:
        """Tell whether a case has labels: of the data set, or saved here."""
        return self.cases[name][0].label is not None or self.annotations.newest(name, FINAL) is not None
