"""How many corrections it takes to reach a Dice: cases in the order of the model's doubt against random order.

    taskset -c 0 python benchmarks/doubt.py DATA/Task04_Hippocampus WORK --seed 0

starts from a few cases, and adds a few in each round: those of the pool that the model of the round before is least
sure of, or random ones. A correction is the truth, revealed. Each round trains on from the model of the round before.
Both orders start from the same model. The result is added to benchmarks/doubt.json; `WORK` keeps what is done.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from fullscale.config.load import load_config
from fullscale.data.case import Case, Dataset
from fullscale.data.layouts.find import find_dataset
from fullscale.files import write_json
from fullscale.inference.predictor import Predictor
from fullscale.inference.scored import ModelTest, predict_and_score
from fullscale.scoring.summary import Summary, read_summary
from fullscale.serve.circle.doubt import DoubtingPredictor
from fullscale.training.request import TrainRequest
from fullscale.training.run import train

OUTPUT = Path(__file__).with_name("doubt.json")
ORDERS = ("doubt", "random")


@dataclass(frozen=True)
class Trial:
    """One seed of the comparison.

    Attributes:
        dataset: all labelled cases.
        work: folder of what is done.
        pool: cases that may be corrected, in random order.
        validation: cases that choose the epoch.
        test: cases that are scored.
        options: of the command.
    """

    dataset: Dataset
    work: Path
    pool: Sequence[Case]
    validation: Sequence[Case]
    test: Sequence[Case]
    options: argparse.Namespace

    @classmethod
    def of(cls, options: argparse.Namespace) -> Trial:
        """Deal the cases."""
        dataset = find_dataset(options.data)
        cases = list(dataset.cases)
        random.Random(options.seed).shuffle(cases)
        ends = options.pool, options.pool + options.validation, options.pool + options.validation + options.test
        parts = cases[: ends[0]], cases[ends[0] : ends[1]], cases[ends[1] : ends[2]]
        return cls(dataset, options.work / f"seed_{options.seed}", *parts, options)

    def train(self, name: str, cases: Sequence[Case], start: Path | None) -> Path:
        """Train on some cases, from a model if there is one, and return the run folder."""
        folder = self.work / name
        rows = [
            {"image": str(case.first.absolute()), "label": str(case.label and case.label.absolute()), "case": case.id}
            for case in (*cases, *self.validation)
        ]
        labels = {name: value for value, name in (self.dataset.labels or {}).items()}
        about = {"channel_names": {"0": "MRI"}, "labels": labels, "training": rows}
        write_json(folder / "dataset.json", about)
        settings = [f"network.width={self.options.width}", "data.view=slices", "data.workers=0", "trainer.device=cpu"]
        settings += [f"trainer.max_minutes={self.options.minutes}", "trainer.clock=processor"]
        settings += [
            f"trainer.seed={self.options.seed}",
            f"data.validation=[{','.join(c.id for c in self.validation)}]",
        ]
        settings += [] if start is None else [f"network.init={start}"]
        config = load_config(None, settings)
        plan = None if start is None else start / "plan.json"
        train(
            TrainRequest(folder / "dataset.json", folder / "run", config=config, plan=plan, cache=self.work / "cache")
        )
        return folder / "run"

    def score(self, name: str, run: Path) -> Summary:
        """Score a model on the test cases."""
        predictor, folder = Predictor.from_run(run, "cpu"), self.work / name / "scores"
        if not (folder / "summary.json").is_file():
            predict_and_score(ModelTest(predictor, folder, self.test, predictor.card.scheme))
        return read_summary(folder / "summary.json")

    def least_sure(self, run: Path, left: Sequence[Case]) -> tuple[list[Case], dict[str, float]]:
        """Order cases by the doubt of a model."""
        predictor, doubts = DoubtingPredictor.from_run(run, "cpu"), dict[str, float]()
        for case in left:
            predictor.predict(case.first)
            assert predictor.doubt is not None
            doubts[case.id] = predictor.doubt
        return sorted(left, key=lambda case: -doubts[case.id]), doubts

    def rounds(self, order: str) -> list[dict[str, Any]]:
        """Correct a few cases in each round, and say what each model scores."""
        each, known = self.options.each, list(self.pool[: self.options.first])
        run = self.train("first", known, None)
        found = [self._said("first", run, known, known)]
        for number in range(self.options.rounds):
            left = [case for case in self.pool if case not in known]
            new = (self.least_sure(run, left)[0] if order == "doubt" else left)[:each]
            known += new
            name = f"{order}_{number}"
            run = self.train(name, known, run)
            found.append(self._said(name, run, known, new))
        return found

    def _said(self, name: str, run: Path, known: Sequence[Case], new: Sequence[Case]) -> dict[str, Any]:
        scores = self.score(name, run)
        dice = {label: scores.mean(value)["Dice"] for value, label in scores.labels.items()}
        mean = sum(dice.values()) / len(dice)
        return {"corrections": len(known), "dice": mean, "structures": dice, "new": [case.id for case in new]}


def main() -> None:
    """Run one seed, and add it to the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    for name, default in (("seed", 0), ("first", 4), ("each", 4), ("rounds", 3), ("pool", 48), ("width", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--validation", type=int, default=8)
    parser.add_argument("--test", type=int, default=24)
    parser.add_argument("--minutes", type=float, default=1.0)
    options = parser.parse_args()
    trial = Trial.of(options)
    found = {order: trial.rounds(order) for order in ORDERS}
    said = {name: value for name, value in vars(options).items() if name not in ("data", "work", "seed")}
    with FileLock(options.work / "doubt.lock"):
        content = json.loads(OUTPUT.read_text()) if OUTPUT.is_file() else {}
        if content.get("options", said) != said:
            content = {}
        seeds = content.get("seeds", {}) | {f"{options.seed}": found}
        write_json(OUTPUT, {"data": options.data.name, "options": said, "seeds": dict(sorted(seeds.items()))})


if __name__ == "__main__":
    main()
