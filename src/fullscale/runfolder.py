"""Every path of a run folder, spelled once.

```
RUN/
  config.yaml       every setting, with every value filled in
  plan.json         what was chosen from the data, and why
  dataset.json      what was found in the data, and which cases are used
  splits.json       which cases train and which validate, fold by fold
  environment.json  versions, machine and seed
  bundle/           the model of the run, whose members are the finished folds, with its MODEL_CARD.md
  summary.json      scores of all finished folds together
  fold_0/           one folder a fold, and fold_all/ for a training on every case
    last.ckpt       where the fold goes on
    best.ckpt       the epoch that is handed over
    metrics.csv     one row an epoch
    progress.png    the same as curves
    bundle/         the model of this fold
    validation/     masks of the fold's validation cases, and their summary.json
    evidence/       what the voxels of each validation case say of probabilities, to learn trust from
    tracking.json   how MLflow and W&B call this fold, where they follow it
    tensorboard/    what TensorBoard shows, and wandb/ what W&B does
```

No fold touches the files of another.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ALL = "all"
"""Name of the fold that trains on every case."""

TOGETHER = "together"
"""Name of the folder that holds the ensemble of several views of the data."""

SUMMARY = "summary.json"
"""Name of a file of scores, in a run and elsewhere."""

_PREFIX = "fold_"


@dataclass(frozen=True)
class FoldFolder:
    """The paths of one fold.

    Attributes:
        path: the folder; it need not exist.
    """

    path: Path

    @property
    def name(self) -> str:
        """Number of the fold as text, or `all`."""
        return self.path.name.removeprefix(_PREFIX)

    @property
    def last_checkpoint(self) -> Path:
        """The newest state, from which training goes on: an epoch, or a place within one."""
        return self.path / "last.ckpt"

    @property
    def best_checkpoint(self) -> Path:
        """The epoch with the highest validation Dice."""
        return self.path / "best.ckpt"

    @property
    def metrics(self) -> Path:
        """Table of the epochs."""
        return self.path / "metrics.csv"

    @property
    def progress(self) -> Path:
        """Curves of the epochs."""
        return self.path / "progress.png"

    @property
    def bundle(self) -> Path:
        """The model of this fold."""
        return self.path / "bundle"

    @property
    def validation(self) -> Path:
        """Folder of the masks of the validation cases, and their scores."""
        return self.path / "validation"

    @property
    def evidence(self) -> Path:
        """Folder of what the voxels of the validation cases say of the probabilities of this fold's model."""
        return self.path / "evidence"

    @property
    def summary(self) -> Path:
        """Scores of the validation cases."""
        return self.validation / SUMMARY

    @property
    def tracking(self) -> Path:
        """How trackers of experiments call this fold, so that a training that goes on is one run there too."""
        return self.path / "tracking.json"

    @property
    def has_begun(self) -> bool:
        """Whether it has written a checkpoint."""
        return self.last_checkpoint.is_file()

    @property
    def has_scores(self) -> bool:
        """Whether its validation cases are scored, which is the last step of a fold."""
        return self.summary.is_file()


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run.

    Attributes:
        path: the folder; it need not exist.
    """

    path: Path

    @property
    def config(self) -> Path:
        """Every setting, with every value filled in. Written first: a folder that holds it is a run."""
        return self.path / "config.yaml"

    @property
    def plan(self) -> Path:
        """What was chosen from the data."""
        return self.path / "plan.json"

    def view(self, name: str) -> RunFolder:
        """The run of one view of the data, or of all `TOGETHER`, where several are trained."""
        return RunFolder(self.path / name)

    @property
    def views(self) -> Path:
        """What each view scored, and which was kept, where several were trained."""
        return self.path / "views.json"

    def plan_of(self, view: str) -> Path:
        """What was chosen for another view of the data than that of `plan`: a comparison may have several."""
        return self.path / f"plan-{view}.json"

    @property
    def dataset(self) -> Path:
        """What was found in the data."""
        return self.path / "dataset.json"

    @property
    def splits(self) -> Path:
        """Which cases train and which validate."""
        return self.path / "splits.json"

    @property
    def environment(self) -> Path:
        """Versions, machine and seed."""
        return self.path / "environment.json"

    @property
    def bundle(self) -> Path:
        """The model of the run."""
        return self.path / "bundle"

    @property
    def summary(self) -> Path:
        """Scores of all finished folds together."""
        return self.path / SUMMARY

    @property
    def report(self) -> Path:
        """The page that shows the run."""
        return self.path / "report.html"

    @property
    def is_run(self) -> bool:
        """Whether a run was begun in it."""
        return self.config.is_file()

    def fold(self, name: str | int) -> FoldFolder:
        """Return the paths of a fold: its number, or `all`."""
        return FoldFolder(self.path / f"{_PREFIX}{name}")

    def folds(self) -> list[FoldFolder]:
        """List the folds that have a folder, by number; the fold of all cases comes last."""
        found = [FoldFolder(path) for path in self.path.glob(f"{_PREFIX}*") if path.is_dir()]
        named = [fold for fold in found if re.fullmatch(rf"0|[1-9]\d*|{ALL}", fold.name)]
        return sorted(named, key=lambda fold: (fold.name == ALL, len(fold.name), fold.name))

    def begun(self) -> list[FoldFolder]:
        """List the folds that have written a checkpoint."""
        return [fold for fold in self.folds() if fold.has_begun]

    def scored(self) -> list[FoldFolder]:
        """List the folds whose validation cases are scored."""
        return [fold for fold in self.folds() if fold.has_scores]
