"""Shares of evaluate and test: what one of them does, and what joins them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fullscale.cli.options import parse_scheme, parse_table, parse_tolerance
from fullscale.cli.progress import progress_bar
from fullscale.cli.show import print_json, print_line, print_status, print_summary
from fullscale.text import counted

if TYPE_CHECKING:
    from fullscale.inference.scored import ModelTest
    from fullscale.scoring.evaluate import Scoring
    from fullscale.scoring.summary import Summary
    from fullscale.work.cluster import Workers
    from fullscale.work.executor import Outcome


@dataclass(frozen=True)
class Gathered:
    """What joining came to.

    Attributes:
        files: that were written.
        count: of what they are of.
        what: they are of, in the plural.
        missing: names of what is not there yet.
    """

    files: list[Path]
    count: int
    what: str
    missing: list[str]


def refuse_with_share(options: Mapping[str, object], instead: str) -> None:
    """Refuse options that concern all cases together.

    Raises:
        UsageError: one of them is given.
    """
    from fullscale.errors import UsageError

    for name, value in options.items():
        if value:
            raise UsageError(f"{name} concerns all cases together, --shard has a share of them: {instead}")


def score_share_of(
    asked: dict[str, Any], file: Path, shard: str, workers: Workers, overwrite: bool, json: bool
) -> None:
    """Score a share of masks.

    Args:
        asked: what evaluate was given, as plain values.
        file: the summary that the shares together become.
        shard: `I/N`.
        workers: who works on the cases.
        overwrite: forget what other shares were asked before.
        json: print JSON.
    """
    from fullscale.scoring.shares import journals_of, score_share
    from fullscale.shares import remember_request
    from fullscale.work.shard import Shard

    share, scoring = Shard.parse(shard), _scoring(asked)
    remember_request(journals_of(file), "evaluate", asked, overwrite)
    with progress_bar("scoring") as progress:
        outcomes = score_share(scoring, file, share, workers, progress)
    print_share(shard, outcomes, len(scoring.pairs), file.parent, json)


def test_share_of(
    asked: dict[str, Any], device: str, output: Path, shard: str, workers: Workers, overwrite: bool, json: bool
) -> None:
    """Segment and score a share of labelled scans; see `score_share_of`."""
    from fullscale.inference.scored_shares import score_model_share
    from fullscale.scoring.shares import journals_of
    from fullscale.shares import remember_request
    from fullscale.work.shard import Shard

    share, test = Shard.parse(shard), model_test(asked, output, device)
    remember_request(journals_of(test.summary), "test", asked, overwrite)
    with progress_bar("testing") as progress:
        outcomes = score_model_share(test, share, workers, progress, overwrite)
    print_share(shard, outcomes, len(test.cases), output, json)


def print_share(shard: str, outcomes: Sequence[Outcome[Any, Any]], of: int, output: Path, json: bool) -> None:
    """Say what became of a share.

    Raises:
        PartialFailure: some of it failed.
    """
    from fullscale.errors import PartialFailure

    failures = {outcome.name: outcome.failure() for outcome in outcomes}
    failed = {name: line for name, line in failures.items() if line is not None}
    if json:
        print_json({"share": shard, "done": [name for name in failures if name not in failed], "failures": failed})
    else:
        print_line(f"share {shard}: {len(failures) - len(failed)} of {of} are done, {len(failed)} failed")
        print_status(f"fullscale gather {output} joins the shares")
    for name, line in failed.items():
        print_status(f"failed: {name}: {line}")
    if failed:
        raise PartialFailure(f"{len(failed)} of this share failed; the others are done")


def gather_scores(asked: dict[str, Any], folder: Path, overwrite: bool, json: bool) -> Gathered:
    """Join the scores of all shares, and write and print them as the whole command does.

    Args:
        asked: what the shares were asked.
        folder: of their journals.
        overwrite: replace a summary that another command wrote.
        json: print nothing.
    """
    from fullscale.outputs import claimed
    from fullscale.scoring.summary import write_summary

    file = folder.with_name(folder.name.removeprefix(".").removesuffix(".ledger"))
    summary, missing = _joined(asked, file)
    if summary is None:
        return Gathered([], 0, "cases", missing)
    read = [Path(asked[name]) for name in ("predictions", "truth", "model", "data") if asked.get(name)]
    with claimed([file], read, asked["command"], overwrite):
        write_summary(summary, file)
    if not json:
        print_summary(summary, "Scores")
    return Gathered([file], len(summary.cases), "cases", missing)


def _joined(asked: dict[str, Any], file: Path) -> tuple[Summary | None, list[str]]:
    from fullscale.cli.evaluate import with_model
    from fullscale.inference.scored_shares import join_model_scores
    from fullscale.scoring.shares import join_scores

    if asked["command"] == "test":
        return join_model_scores(model_test(asked, file.parent))
    summary, missing = join_scores(_scoring(asked), file)
    if summary is not None and asked["model"] is not None:
        summary = with_model(summary, Path(asked["model"]))
    return summary, missing


def _scoring(asked: Mapping[str, Any]) -> Scoring:
    from fullscale.scoring.evaluate import Scoring

    scheme = parse_scheme(asked["labels"], asked["regions"], asked["ignore"])
    tolerance = parse_tolerance(asked["tolerance_mm"])
    masks, truth, table = Path(asked["predictions"]), Path(asked["truth"]), parse_table(asked["colours"])
    return Scoring.of(masks, truth, scheme, tolerance, asked["resample"], table)


def model_test(asked: Mapping[str, Any], output: Path, device: str = "cpu") -> ModelTest:
    """Look at the model and the cases that test was given.

    Args:
        asked: its arguments, as plain values.
        output: folder for the masks and the scores.
        device: that the model runs on; it decides no mask.
    """
    from fullscale.data.anonymise import anonymised
    from fullscale.data.cache import default_cache
    from fullscale.data.faults import unknown_structures
    from fullscale.data.identity import DigestIndex
    from fullscale.data.layouts.find import find_dataset
    from fullscale.errors import DataError
    from fullscale.inference.predictor import Predictor
    from fullscale.inference.scored import ModelTest

    chosen = parse_scheme(asked["labels"], asked["regions"], asked["ignore"])
    tolerance = parse_tolerance(asked["tolerance_mm"])
    dataset, key = find_dataset(Path(asked["data"])), asked.get("anonymise")
    if key is not None:
        dataset = anonymised(dataset, Path(key), output)
    for problem in dataset.problems:
        print_status(f"note: {problem.case}: {problem.message}")
    if dataset.unlabelled:
        names = ", ".join(case.id for case in dataset.unlabelled[:3])
        print_status(f"note: {counted(len(dataset.unlabelled), 'case')} without labels not scored, such as {names}")
    predictor = Predictor.from_run(Path(asked["model"]), device)
    scheme = (chosen or predictor.card.scheme).ignoring(dataset.ignore)
    for problem in unknown_structures(dataset, scheme.structures.values()):
        raise DataError(f"{problem.case} {problem.message}")
    index = DigestIndex(default_cache())
    return ModelTest(predictor, output, dataset.cases, scheme, tolerance, index, dataset.root, key is not None)
