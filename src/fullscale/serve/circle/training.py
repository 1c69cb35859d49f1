"""One training on corrected cases: what it is told, and the comparison with the model that it started from.

It runs in a process of its own, `python -m fullscale.serve.circle.training FOLDER`, which outlives the service, may be
killed at any time, and ends with the same result when it is started again.
"""

from __future__ import annotations

import sys
import time
from glob import escape
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fullscale.bundle.store import read_cards
from fullscale.config.load import dump_yaml, load_config
from fullscale.config.schema import Config
from fullscale.data.cache import default_cache
from fullscale.data.layouts.find import find_dataset
from fullscale.documents import read_model
from fullscale.errors import DataError, FullscaleError
from fullscale.files import write_json, write_text
from fullscale.inference.predictor import Predictor
from fullscale.inference.scored import ModelTest, predict_and_score
from fullscale.runfolder import RunFolder
from fullscale.scoring.paired import compare_summaries
from fullscale.scoring.summary import Summary
from fullscale.text import first_line, without_folders
from fullscale.training.request import TrainRequest
from fullscale.training.run import train

ASKED, PROGRESS, ENDED = "asked.json", "progress.json", "ended.json"
DATA, RUN, CONFIG = "data", "run", "settings.yaml"
_TELL_S = 1.0


class AskedTraining(BaseModel):
    """What a training is told.

    Attributes:
        model: name of the model that it starts from.
        path: of that model.
        run: the run that it is of, whose settings and plan are taken over.
        digest: of its card.
        cases: that it trains on.
        held_out: cases that it is compared on.
        minutes: of training and validation.
        clock: what they are counted in.
        learning_rate: None as the run had it.
        device: of the training.
        created: seconds since 1970.
        attempts: times that its process was started.
    """

    model_config = ConfigDict(extra="forbid")

    model: str
    path: Path
    run: Path
    digest: str
    cases: tuple[str, ...]
    held_out: tuple[str, ...]
    minutes: float = Field(gt=0)
    clock: Literal["wall", "processor"] = "wall"
    learning_rate: float | None = None
    device: str = "auto"
    created: float = 0.0
    attempts: int = 0

    def config(self) -> Config:
        """Return the settings of the run that it starts from, but for what is asked here."""
        values = load_config(RunFolder(self.run).config).model_dump(mode="json")
        values["network"]["init"] = str(self.path)
        values["data"].update(validation=[escape(name) for name in self.held_out])
        values["trainer"] |= {"max_minutes": self.minutes, "max_epochs": None, "clock": self.clock}
        values["trainer"]["device"] = self.device
        if self.learning_rate is not None:
            values["optimizer"]["learning_rate"] = self.learning_rate
        return Config.model_validate(values)


def work(folder: Path) -> None:
    """Train, score the new model and the old one on the cases that were held out, and compare them, case by case.

    Raises:
        FullscaleError: it cannot be done.
    """
    asked = read_model(folder / ASKED, AskedTraining)
    data = folder / DATA / "dataset.json"
    config = asked.config()
    write_text(folder / CONFIG, dump_yaml(config))
    run, told = RunFolder(folder / RUN), _Told(folder)
    train(
        TrainRequest(
            data,
            run.path,
            config=config,
            plan=RunFolder(asked.run).plan,
            cache=default_cache(),
            progress=told.progress,
        )
    )
    told.say("comparing")
    new, old = (_scored(path, folder / name, data, asked) for path, name in ((run.path, "new"), (asked.path, "old")))
    compared = compare_summaries(new, old)
    card, _ = read_cards(run.path)
    write_json(
        folder / ENDED,
        {
            "state": "done",
            "digest": card.digest,
            "comparison": compared.as_dict() | {"structures": {str(k): name for k, name in new.labels.items()}},
            "cases": _by_case(new, old),
            "finished": time.time(),
        },
    )


def _scored(model: Path, folder: Path, data: Path, asked: AskedTraining) -> Summary:
    """Score a model on the cases that were held out."""
    found = find_dataset(data)
    cases = [case for case in found.cases if case.id in asked.held_out]
    if len(cases) != len(asked.held_out):
        raise DataError(f"{len(asked.held_out) - len(cases)} of the cases that were held out cannot be used")
    predictor = Predictor.from_run(model, asked.device)
    return predict_and_score(ModelTest(predictor, folder, cases, predictor.card.scheme, data=data))


def _by_case(new: Summary, old: Summary) -> list[dict[str, Any]]:
    """Give the Dice of each structure of each case, of the new model and of the old one."""
    before = {case.case: case for case in old.cases}
    return [
        {
            "case": case.case,
            "dice": {
                name: {"new": case.metrics[k]["Dice"], "old": before[case.case].metrics[k]["Dice"]}
                for k, name in new.labels.items()
            },
        }
        for case in new.cases
        if case.case in before
    ]


class _Told:
    """Tells how far a training is, in a file that is written once a second at most."""

    def __init__(self, folder: Path) -> None:
        self._file, self._at = folder / PROGRESS, 0.0

    def progress(self, done: int, total: int, item: str) -> None:
        """Take news of each step."""
        if time.monotonic() - self._at > _TELL_S:
            self._at = time.monotonic()
            self.say(item, done, total)

    def say(self, item: str, done: int = 0, total: int = 0) -> None:
        """Write it down."""
        write_json(self._file, {"done": done, "total": total, "item": item})


def main(folder: Path) -> None:
    """Do the training of a folder, and write down how it ended; whoever starts this hands it the lock of the folder."""
    try:
        work(folder)
    except FullscaleError as error:
        _fail(folder, without_folders(error))
    except Exception as error:
        _fail(folder, f"{type(error).__name__}: {without_folders(first_line(error))}")


def _fail(folder: Path, line: str) -> None:
    write_json(folder / ENDED, {"state": "failed", "failure": line, "finished": time.time()})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
