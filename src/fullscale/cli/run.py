"""Verbs of the main job: train, predict, evaluate, test."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fullscale.cli.show import (
    Json,
    Labels,
    parse_labels,
    parse_tolerance,
    print_against,
    print_json,
    print_status,
    print_summary,
    progress_bar,
)

if TYPE_CHECKING:
    from fullscale.scoring.summary import Failure

ToleranceMm = Annotated[
    str, typer.Option("--tolerance-mm", help="Of NSD, the surface Dice, in mm: 1, or 1=3,2=1.5 by label.")
]


def train(
    data: Annotated[Path, typer.Argument(help="Folder of labelled scans, or a CSV or JSON list.", show_default=False)],
    settings: Annotated[
        list[str] | None,
        typer.Argument(help="Settings, such as trainer.max_minutes=20 network.width=32.", show_default=False),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Run folder; default runs/NAME.")] = None,
    fold: Annotated[str, typer.Option(help="Fold that validates: 0, 1 ..., or 'all' to train on every case.")] = "0",
    config: Annotated[Path | None, typer.Option(help="YAML of settings, such as a run's config.yaml.")] = None,
    plan: Annotated[Path | None, typer.Option(help="An edited plan.json to follow.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder of prepared cases; default the user's cache.")] = None,
    drop_bad_cases: Annotated[bool, typer.Option("--drop-bad-cases", help="Train without unusable cases.")] = False,
    json: Json = False,
) -> None:
    """Train a network on labelled scans and score it on those held back.

    The same command again goes on where it stopped. `fullscale settings` lists every setting.
    """
    from fullscale.config.load import load_config
    from fullscale.data.cache import default_cache
    from fullscale.data.layouts.find import find_dataset
    from fullscale.training.run import TrainRequest, train

    chosen = load_config(config, settings or [])
    run = output or Path("runs") / find_dataset(data).name.replace("/", "_")
    summary = train(
        TrainRequest(
            data=data,
            run=run,
            fold=fold,
            config=chosen,
            plan=plan,
            cache=cache or default_cache(),
            drop_bad_cases=drop_bad_cases,
            report=print_status,
            bar=sys.stderr.isatty() and not json,
        )
    )
    if json:
        print_json(summary.as_dict())
    else:
        title = "training cases (none were held back)" if fold == "all" else f"validation cases of fold {fold}"
        print_summary(summary, f"Scores of the {title}")
    print_status(f"model: {run / 'bundle'}; scores: {run / f'fold_{fold}' / 'validation' / 'summary.json'}")


def settings() -> None:
    """List every setting of a run, with its default."""
    from fullscale.cli.show import table
    from fullscale.config.load import settings as all_settings
    from fullscale.config.schema import Config

    defaults = Config().model_dump()
    rows = []
    for key, text in all_settings():
        section, name = key.split(".")
        rows.append((key, "automatic" if defaults[section][name] is None else defaults[section][name], text))
    table("Settings", ["key", "default", "what it does"], [(k, str(v), t) for k, v, t in rows])


def predict(
    model: Annotated[Path, typer.Argument(help="A run folder, a bundle, or model.onnx.", show_default=False)],
    scans: Annotated[list[Path], typer.Argument(help="Scans, folders of scans, or DICOM series.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the masks.", show_default=False)],
    format: Annotated[
        Literal["nifti", "seg", "both"], typer.Option(help="nifti (a file keeps its own format), DICOM SEG, or both.")
    ] = "nifti",
    seg_type: Annotated[
        Literal["labelmap", "binary"], typer.Option(help="Of DICOM SEG: labelmap is small, binary for older viewers.")
    ] = "labelmap",
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write each structure's probability too.")
    ] = False,
    series: Annotated[str | None, typer.Option(help="Of a DICOM study: the UID or description of a series.")] = None,
    allow_gaps: Annotated[
        bool, typer.Option("--allow-gaps", help="Fill missing DICOM slices by interpolation.")
    ] = False,
    untilt: Annotated[bool, typer.Option("--untilt", help="Resample DICOM slices of a tilted gantry.")] = False,
    fix_identifiers: Annotated[
        bool, typer.Option("--fix-identifiers", help="For seg: give a copy of an anonymised series new identifiers.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    batch_size: Annotated[int | None, typer.Option(help="Slices at once; default by the device.", min=1)] = None,
    json: Json = False,
) -> None:
    """Segment scans; each mask lies on its scan's own grid. A bad scan does not stop the others (exit code 4)."""
    from fullscale.data.dicom.stack import DicomReadOptions
    from fullscale.errors import PartialFailure
    from fullscale.inference.batch import OutputOptions, find_scans, predict_scans
    from fullscale.inference.predictor import Predictor

    dicom = DicomReadOptions(series, allow_gaps, untilt, fix_identifiers)
    found = find_scans(scans, dicom)
    predictor = Predictor.from_run(model, device, batch_size)
    options = OutputOptions(format, seg_type, probabilities)
    with progress_bar("predicting", len(found), quiet=json) as advance:
        results = predict_scans(predictor, found, output, options, dicom, lambda _: advance())
    if json:
        print_json({"results": [result.as_dict() for result in results]})
    for result in results:
        for note in result.notes:
            print_status(f"note: {result.scan}: {note}")
        if result.error is not None:
            print_status(f"failed: {result.scan}: {result.error.removeprefix(f'{result.scan}: ')}")
        elif not json:
            typer.echo(f"{' '.join(map(str, result.written))}  {result.describe()}")
    failed = [result for result in results if result.error is not None]
    if failed:
        raise PartialFailure(f"{len(failed)} of {len(results)} scans failed, the others are in {output}")


def score_model(
    model: Annotated[Path, typer.Argument(help="A run folder, a bundle, or model.onnx.", show_default=False)],
    data: Annotated[Path, typer.Argument(help="Labelled scans: a data set, or a list.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for masks and scores.", show_default=False)],
    labels: Labels = None,
    tolerance_mm: ToleranceMm = "1",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    json: Json = False,
) -> None:
    """Segment labelled scans and score the masks; of a network with guidance, with and without its gate."""
    from fullscale.data.layouts.find import find_dataset
    from fullscale.inference.predictor import Predictor
    from fullscale.inference.scored import predict_and_score

    chosen, tolerance = parse_labels(labels), parse_tolerance(tolerance_mm)
    cases = find_dataset(data).cases
    predictor = Predictor.from_run(model, device)
    chosen = chosen or predictor.card.trained_labels or predictor.card.labels
    with progress_bar("testing", len(cases), quiet=json) as advance:
        summary = predict_and_score(predictor, output, cases, chosen, tolerance, advance)
    if json:
        print_json(summary.as_dict())
    else:
        print_summary(summary, "Scores")
        print_status(f"scores: {output / 'summary.json'}; fullscale report {output} shows them")
    _fail_in_part(summary.failures)


def evaluate(
    predictions: Annotated[Path, typer.Argument(help="A mask, or a folder of masks.", show_default=False)],
    truth: Annotated[Path, typer.Argument(help="The true mask, a folder of them, or a data set.", show_default=False)],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write summary.json here.")] = None,
    against: Annotated[
        Path | None, typer.Option(help="Other masks of the same cases, or their summary.json, to compare with.")
    ] = None,
    labels: Labels = None,
    tolerance_mm: ToleranceMm = "1",
    resample: Annotated[bool, typer.Option("--resample", help="Bring masks on other grids onto the truth's.")] = False,
    json: Json = False,
) -> None:
    """Score masks against the truth: Dice, IoU, HD95, ASSD, NSD, volumes, per case and class.

    With --against, the two sets of masks are also compared case by case.
    """
    from fullscale.files import write_json
    from fullscale.scoring.evaluate import evaluate
    from fullscale.scoring.paired import compare_summaries
    from fullscale.scoring.summary import Summary, read_summary

    chosen, tolerance = parse_labels(labels), parse_tolerance(tolerance_mm)

    def score(masks: Path) -> Summary:
        if masks.suffix == ".json":
            return read_summary(masks)
        with progress_bar(f"scoring {masks.name}", quiet=json) as advance:
            return evaluate(masks, truth, chosen, tolerance, lambda *done: advance(done[1]), resample)

    summary = score(predictions)
    other = None if against is None else score(against)
    compared = None if other is None else compare_summaries(summary, other)
    content = summary.as_dict() | ({} if compared is None else {"against": compared.as_dict() | {"file": str(against)}})
    where = output or (predictions / "summary.json" if predictions.is_dir() else None)
    if where is not None:
        write_json(where, content)
    if json:
        print_json(content)
    else:
        print_summary(summary, "Scores")
        if compared is not None:
            print_against(compared, summary.labels, f"Dice against {against}")
        if where is not None:
            print_status(f"scores: {where}")
    _fail_in_part([*summary.failures, *(other.failures if other is not None else [])])


def _fail_in_part(failures: list[Failure]) -> None:
    from fullscale.errors import PartialFailure

    if failures:
        raise PartialFailure(f"{len(failures)} cases could not be scored; the others are done")


COMMANDS = {"train": train, "settings": settings, "predict": predict, "evaluate": evaluate, "test": score_model}
