"""Verbs that score: evaluate masks, test a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fullscale.cli.options import (
    Anonymise,
    Colours,
    Dask,
    Ignore,
    Jobs,
    Json,
    Labels,
    Overwrite,
    Regions,
    ShardOption,
    parse_scheme,
    parse_table,
    parse_tolerance,
    parse_workers,
)
from fullscale.cli.progress import progress_bar
from fullscale.cli.shares import model_test, refuse_with_share, score_share_of, test_share_of
from fullscale.cli.show import print_against, print_json, print_status, print_summary
from fullscale.text import counted

if TYPE_CHECKING:
    from fullscale.scoring.summary import Failure, Summary

ToleranceMm = Annotated[str, typer.Option("--tolerance-mm", help="NSD tolerance in mm: 1, or 1=3,2=1.5 by label.")]


def score_model(
    model: Annotated[Path, typer.Argument(help="A run folder, a bundle, or model.onnx.", show_default=False)],
    data: Annotated[Path, typer.Argument(help="Labelled scans: a data set, or a list.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for masks and scores.", show_default=False)],
    labels: Labels = None,
    regions: Regions = None,
    ignore: Ignore = None,
    tolerance_mm: ToleranceMm = "1",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    anonymise: Anonymise = None,
    shard: ShardOption = None,
    overwrite: Overwrite = False,
    jobs: Jobs = None,
    dask: Dask = None,
    json: Json = False,
) -> None:
    """Segment labelled scans and score the masks; of a network with guidance, with and without its gate.

    With --shard, a share of the cases; `fullscale gather` joins the shares.
    """
    from fullscale.inference.scored import mask_of, predict_and_score
    from fullscale.outputs import claimed
    from fullscale.runfolder import SUMMARY

    workers = parse_workers(dask, jobs)
    asked: dict[str, Any] = {"model": str(model.absolute()), "data": str(data.absolute())}
    asked |= {"labels": labels, "regions": regions, "ignore": ignore, "tolerance_mm": tolerance_mm}
    if shard is not None:
        refuse_with_share({"--anonymise": anonymise}, "test all cases by one command")
        test_share_of(asked, device, output, shard, workers, overwrite, json)
        return
    test = model_test(asked | {"anonymise": anonymise}, output, device)
    outputs = [*(mask_of(case, output) for case in test.cases), output / SUMMARY]
    read = [model, data, *(path for case in test.cases for path in case.files)]
    with claimed(outputs, read, "test", overwrite), progress_bar("testing") as progress:
        summary = predict_and_score(test, workers, progress)
    if json:
        print_json(summary.as_dict())
    else:
        print_summary(summary, "Scores")
        print_status(f"scores: {output / SUMMARY}; fullscale report {output} shows them")
    _fail_in_part(summary.failures)


def evaluate(
    predictions: Annotated[Path, typer.Argument(help="A mask, or a folder of masks.", show_default=False)],
    truth: Annotated[Path, typer.Argument(help="The true mask, a folder of them, or a data set.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for summary.json, or a file .json in its place.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Other masks of the same cases, or their summary.json, to compare with.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="The run or bundle that made the masks: names the cases it was trained on.")
    ] = None,
    labels: Labels = None,
    regions: Regions = None,
    ignore: Ignore = None,
    colours: Colours = None,
    tolerance_mm: ToleranceMm = "1",
    resample: Annotated[bool, typer.Option("--resample", help="Bring masks on other grids onto the truth's.")] = False,
    anonymise: Anonymise = None,
    shard: ShardOption = None,
    overwrite: Overwrite = False,
    jobs: Jobs = None,
    dask: Dask = None,
    json: Json = False,
) -> None:
    """Score masks against the truth: Dice, IoU, HD95, ASSD, NSD, volumes, per case and class.

    With --against, the two sets of masks are also compared case by case. With --shard, a share of the cases is scored;
    `fullscale gather` joins the shares.
    """
    from fullscale.errors import UsageError
    from fullscale.outputs import claimed
    from fullscale.runfolder import SUMMARY
    from fullscale.scoring.evaluate import evaluate
    from fullscale.scoring.paired import compare_summaries
    from fullscale.scoring.summary import read_summary, write_summary

    chosen, tolerance = parse_scheme(labels, regions, ignore), parse_tolerance(tolerance_mm)
    workers, table = parse_workers(dask, jobs), parse_table(colours)
    where = predictions / SUMMARY if output is None and predictions.is_dir() else output
    if where is not None and where.suffix != ".json":
        where = where / SUMMARY
    if shard is not None:
        instead = "give it to evaluate with the summary.json of all shares in place of the masks"
        refuse_with_share({"--against": against, "--anonymise": anonymise}, instead)
        if where is None:
            raise UsageError("--shard needs the file that the shares become: give -o OUT/summary.json")
        asked: dict[str, Any] = {"predictions": str(predictions.absolute()), "truth": str(truth.absolute())}
        asked |= {"labels": labels, "regions": regions, "ignore": ignore, "tolerance_mm": tolerance_mm}
        asked["colours"] = colours if colours is None or not Path(colours).exists() else str(Path(colours).absolute())
        asked |= {"resample": resample, "model": None if model is None else str(model.absolute())}
        score_share_of(asked, where, shard, workers, overwrite, json)
        return

    def score(masks: Path) -> Summary:
        if masks.suffix == ".json":
            return _renamed(read_summary(masks), anonymise, where)
        with progress_bar("scoring") as progress:
            scores = evaluate(masks, truth, chosen, tolerance, progress, resample, workers, table)
        return _renamed(scores, anonymise, where)

    written = [] if where is None else [where]
    with claimed(written, [predictions, truth, against, model], "evaluate", overwrite):
        summary = score(predictions)
        if model is not None:
            summary = with_model(summary, model)
        other = None if against is None else score(against)
        compared = None if other is None else compare_summaries(summary, other)
        further = {} if compared is None else {"against": compared.as_dict() | {"file": _called(against)}}
        for path in written:
            write_summary(summary, path, further)
        content = summary.as_dict() | further
    if json:
        print_json(content)
    else:
        print_summary(summary, "Scores")
        if compared is not None:
            print_against(compared, summary.labels, f"Dice against {against}")
        if where is not None:
            print_status(f"scores: {where}")
    _fail_in_part([*summary.failures, *(other.failures if other is not None else [])])


def _renamed(summary: Summary, key: Path | None, output: Path | None) -> Summary:
    """Call the cases by the numbers of a key, where there is one."""
    from fullscale.data.anonymise import open_key

    if key is None:
        return summary
    return summary.renamed(open_key(key, summary.names, None if output is None else output.parent))


def _called(masks: Path | None) -> str:
    """Name other masks without where they lie: their folder, or the file of their scores with its folder."""
    if masks is None:
        return ""
    return masks.name if masks.suffix != ".json" else f"{masks.resolve().parent.name}/{masks.name}"


def with_model(summary: Summary, path: Path) -> Summary:
    """Say in the scores which model made the masks, and which of the cases it was trained on."""
    from fullscale.bundle.store import read_cards
    from fullscale.data.cache import default_cache
    from fullscale.data.case import Case
    from fullscale.data.identity import DigestIndex
    from fullscale.inference.scored import scored_model

    cases = [Case.of_image(case.case, case.image_file) for case in summary.cases if case.image_file is not None]
    if len(cases) < len(summary.cases):
        unknown = len(summary.cases) - len(cases)
        print_status(
            f"--model: the truth of {counted(unknown, 'case')} has no scan, so it is not known if any was trained on"
        )
    return replace(summary, model=scored_model(*read_cards(path), cases, DigestIndex(default_cache())))


def _fail_in_part(failures: list[Failure]) -> None:
    from fullscale.errors import PartialFailure

    if failures:
        raise PartialFailure(f"{counted(len(failures), 'case')} could not be scored; the others are done")


COMMANDS = {"evaluate": evaluate, "test": score_model}
