"""Verb predict: masks of scans."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from fullscale.cli.archive import segment_archive
from fullscale.cli.options import Dask, Jobs, Json, Overwrite, RuntimeOption, ShardOption, parse_workers
from fullscale.cli.progress import progress_bar
from fullscale.cli.show import print_json, print_line, print_status
from fullscale.cli.threads import make_room


def predict(
    model: Annotated[Path, typer.Argument(help="A run folder, a bundle, model.onnx or model.xml.", show_default=False)],
    scans: Annotated[
        list[str],
        typer.Argument(
            help="Scans, folders of scans, DICOM series, or the URL of a DICOMweb service, study or series.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the masks.", show_default=False)],
    format: Annotated[
        Literal["nifti", "seg", "both"], typer.Option(help="nifti (a file keeps its own format), DICOM SEG, or both.")
    ] = "nifti",
    seg_type: Annotated[
        Literal["labelmap", "binary"] | None,
        typer.Option(help="Of DICOM SEG: labelmap is small, binary for older viewers and structures that overlap."),
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write each structure's probability too.")
    ] = False,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Write a map of the entropy too, and say how wide boundaries are.")
    ] = False,
    series: Annotated[
        list[str] | None,
        typer.Option(
            help="Of a DICOM study: the UID or description of a series; for each of several channels CHANNEL=SERIES.",
            show_default=False,
        ),
    ] = None,
    phase: Annotated[
        str | None, typer.Option(help="Of a series with several phases or echoes: its number or name.")
    ] = None,
    allow_gaps: Annotated[
        bool, typer.Option("--allow-gaps", help="Fill missing DICOM slices by interpolation.")
    ] = False,
    untilt: Annotated[bool, typer.Option("--untilt", help="Resample DICOM slices of a tilted gantry.")] = False,
    fix_identifiers: Annotated[
        bool, typer.Option("--fix-identifiers", help="For seg: give a copy of an anonymised series new identifiers.")
    ] = False,
    resample_channels: Annotated[
        bool, typer.Option("--resample-channels", help="Bring channels on other grids onto that of the first.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    runtime: RuntimeOption = "auto",
    batch_size: Annotated[
        int | None, typer.Option(help="Slices or tiles at once; default by the device.", min=1)
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="One member, without mirror images and post-processing: quicker, less exact."),
    ] = False,
    no_postprocess: Annotated[
        bool, typer.Option("--no-postprocess", help="Leave out the post-processing that validation chose.")
    ] = False,
    region: Annotated[
        Literal["whole", "coarse"],
        typer.Option(help="coarse: look only around what a coarse pass finds; quicker, and nearly the same mask."),
    ] = "whole",
    archive: Annotated[
        bool, typer.Option("--archive", help="Each entry of a folder is a case; what is done is not done again.")
    ] = False,
    shard: ShardOption = None,
    forecast: Annotated[
        int | None,
        typer.Option(help="Of an archive: so many cases, then what the others will cost.", min=1, show_default=False),
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Of an archive: try again what failed three times.")] = False,
    overwrite: Overwrite = False,
    jobs: Jobs = None,
    dask: Dask = None,
    json: Json = False,
) -> None:
    """Segment scans; each mask lies on its scan's own grid. A bad scan does not stop the others (exit code 4).

    With --archive, --shard, --dask or a URL the output folder keeps a ledger: the same command goes on, on any machine.
    """
    room = make_room()
    if room is not None:
        print_status(f"note: {room}")
    from fullscale.data.dicom.stack import DicomReadOptions
    from fullscale.errors import PartialFailure, UsageError
    from fullscale.inference.attempt import ArchiveRequest, ModelRequest
    from fullscale.inference.batch import find_scans, predict_scans
    from fullscale.inference.entries import source_of
    from fullscale.inference.naming import OutputOptions, planned_copies, planned_outputs
    from fullscale.inference.predictions import PREDICTIONS, write_predictions
    from fullscale.outputs import claimed

    asked = ModelRequest(model, device, batch_size, quick, not no_postprocess, region, runtime)
    predictor = asked.load()
    one, by_channel = parse_series(series or [], predictor.channels)
    dicom = DicomReadOptions(one, phase, allow_gaps, untilt, fix_identifiers, by_channel)
    options = OutputOptions(format, seg_type, probabilities, uncertainty)
    sources = [source_of(scan) for scan in scans]
    paths = [source for source in sources if isinstance(source, Path)]
    if archive or shard is not None or forecast is not None or dask is not None or len(paths) < len(sources):
        request = ArchiveRequest(asked, output, options, dicom, resample_channels, overwrite, retry)
        segment_archive(request, sources, shard, forecast, parse_workers(dask, jobs), json)
        return
    if retry:
        raise UsageError("--retry is of an archive: give --archive or --shard too; without a ledger all is done anew")
    with progress_bar("looking") as progress:
        found, beside = find_scans(paths, dicom, predictor.channels, progress)
    for line in beside:
        print_status(f"note: {line}")
    print_status(predictor.describe())
    outputs = [*planned_outputs(found, output, options, predictor.card.structures.values()), output / PREDICTIONS]
    read = [model, *paths, *(path for scan in found for path in scan.inputs)]
    copies = planned_copies(found, output, options, dicom)
    holds = predictor.card.scheme.as_dict()  # for evaluate: a mask does not say what its values stand for
    with claimed(outputs, read, "predict", overwrite, copies, holds), progress_bar("predicting") as progress:
        results = predict_scans(predictor, found, output, options, dicom, progress, jobs, resample_channels, tell=True)
        write_predictions(output, predictor.card, results)
    if json:
        print_json({"results": [result.as_dict() for result in results]})
    for result in results:
        for note in result.notes:
            print_status(f"note: {result.scan}: {note}")
        if result.error is not None:
            print_status(f"failed: {result.scan}: {result.error.removeprefix(f'{result.scan}: ')}")
        elif not json:
            print_line(f"{' '.join(map(str, result.written))}  {result.describe()}")
        for reason in result.asks:
            print_status(f"review: {result.scan}: {reason}")
    failed = [result for result in results if result.error is not None]
    if failed:
        others = f", the others are in {output}" if len(failed) < len(results) else ", no mask was written"
        raise PartialFailure(f"{len(failed)} of {len(results)} scans failed{others}")


def parse_series(given: Sequence[str], channels: Sequence[str]) -> tuple[str | None, dict[str, str]]:
    """Read `--series`: one series for a model of one channel, `CHANNEL=SERIES` for each channel of another.

    Raises:
        UsageError: there are too many, or a channel is unknown, given twice or lacks its series.
    """
    from fullscale.errors import UsageError
    from fullscale.text import nearest

    if len(channels) == 1 or not given:
        if len(given) > 1:
            raise UsageError(f"--series is given {len(given)} times, but the model takes one channel: give one series")
        return (given[0] if given else None), {}
    names = {channel.lower(): channel for channel in channels}
    found: dict[str, str] = {}
    for text in given:
        name, _, wanted = text.partition("=")
        channel = names.get(name.strip().lower())
        if channel is None or not wanted.strip():
            hint = nearest(name, channels) if channel is None else ""
            raise UsageError(f"--series {text!r} is not of the form CHANNEL=SERIES with a channel of the model{hint}")
        if channel in found:
            raise UsageError(f"--series names the channel {channel} twice; give each channel one series")
        found[channel] = wanted.strip()
    missing = [channel for channel in channels if channel not in found]
    if missing:
        raise UsageError(f"--series says nothing of the channel {missing[0]}; the model takes {', '.join(channels)}")
    return None, found


COMMANDS = {"predict": predict}
