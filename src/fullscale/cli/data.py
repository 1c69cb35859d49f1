"""Verbs about data: inspect, phantom, plan, prepare."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fullscale.cli.options import Dask, Jobs, Json, Overwrite, ShardOption, parse_workers
from fullscale.cli.progress import progress_bar
from fullscale.cli.show import print_json, print_status, table
from fullscale.text import counted

if TYPE_CHECKING:
    from fullscale.config.schema import DataConfig
    from fullscale.data.case import Dataset
    from fullscale.data.checks import Inspection
    from fullscale.data.dicom.headers import PassedOver
    from fullscale.data.dicom.series import SeriesInfo
    from fullscale.data.discover import Contents, Scan
    from fullscale.data.loose import VolumeInfo
    from fullscale.work.cluster import Workers

Data = Annotated[Path, typer.Argument(help="Folder of labelled scans, or a CSV or JSON list.", show_default=False)]


def draw_phantoms(
    folder: Path, cases: int, seed: int, test_cases: int, layout: Literal["msd", "lits"] = "msd", **options: Any
) -> None:
    """Draw a data set; what an earlier drawing in the folder was killed in, or wrote, is drawn again.

    Raises:
        UsageError: the folder holds something else, or what was changed since.
    """
    from fullscale.data.phantom import dataset_entries, write_dataset
    from fullscale.outputs import RECORD, claimed

    single, several = dataset_entries(cases, test_cases, layout)
    files, folders = [folder / name for name in single], [folder / name for name in several]
    with progress_bar("drawing") as progress, claimed(files, (), "phantom", folders=folders):
        ours = (RECORD, *single, *several)
        drawn = write_dataset(folder, cases, seed, test_cases, layout, replaceable=ours, **options)
        for done, (name, _) in enumerate(drawn, start=1):
            progress(done, cases + test_cases, name)


Settings = Annotated[
    list[str] | None,
    typer.Argument(help="Settings as for train, such as 'data.labels={1: liver, 2: liver}'.", show_default=False),
]


def inspect(
    data: Data,
    settings: Settings = None,
    json: Json = False,
    jobs: Jobs = None,
) -> None:
    """Tell what a folder of scans holds, and every problem in it.

    Recognises the layouts that the documentation lists, and lists of cases. Of a DICOM study, a folder or a zip, it
    lists the series by their headers; a volume file it reads whole.
    """
    from fullscale.cli.show import print_inspection
    from fullscale.config.load import load_config
    from fullscale.data.discover import discover, summarise
    from fullscale.errors import DataError

    wishes = load_config(None, settings or []).data
    with progress_bar("looking") as progress:
        contents = discover(data, progress)
    if contents.dataset is None:
        _inspect_scans(contents, json, jobs)
        return
    inspection = _inspect_as(wishes, contents.dataset, jobs)
    beside = summarise(contents.passed_over)
    if json:
        print_json(inspection.as_dict() | {"passed_over": beside})
    else:
        print_inspection(inspection)
        for line in beside:
            print_status(f"note: {line}")
    if not inspection.facts:
        raise DataError(f"no case of {data} can be used for training")


def _inspect_scans(contents: Contents, json: bool, jobs: int | None) -> None:
    """List loose scans: what each volume file holds, and of each DICOM study the series."""
    from fullscale.data.discover import summarise
    from fullscale.data.loose import look_at_volumes
    from fullscale.data.volume_files import volume_suffix
    from fullscale.errors import DataError

    with progress_bar("reading") as progress:
        files = [scan for scan in contents.scans if volume_suffix(scan.path) and not scan.files]
        volumes = look_at_volumes(files, progress, jobs)
    series, passed_over = _list_studies([scan for scan in contents.scans if scan not in files])
    beside = [*contents.passed_over, *passed_over]
    if not contents.scans:
        lines = summarise(beside)[:3] or ["it is empty"]
        raise DataError(f"{contents.path}: no data set found and no scan: {'; '.join(lines)}")
    if json:
        looked = {scan.name: vars(info) for scan, info in volumes}
        content = {
            "study": str(contents.path),
            "scans": [{"name": s.name, "path": str(s.path)} | looked.get(s.name, {}) for s in contents.scans],
            "series": [{"scan": name} | vars(one) for name, one in series],
            "passed_over": [{"path": str(file.path), "reason": file.reason} for file in beside],
        }
        print_json(content)
    else:
        _print_scans(contents, volumes, series)
        for line in summarise(beside):
            print_status(f"note: {line}")
    problems = [*(info.problem for _, info in volumes), *(one.problem for _, one in series)]
    broken = [problem for problem in problems if problem]
    if len(broken) == len(problems):
        what = "scan" if volumes else "series"
        raise DataError(f"no {what} of {contents.path} can be used as it is: {broken[0]}")


def _list_studies(studies: list[Scan]) -> tuple[list[tuple[str, SeriesInfo]], list[PassedOver]]:
    """List the series of DICOM studies, each with the name of its scan, and the files that belong to none."""
    from fullscale.data.dicom.series import SeriesListing, list_series, unreadable_series
    from fullscale.errors import DataError

    def listing_of(scan: Scan) -> SeriesListing:
        try:
            return list_series(scan.source)
        except DataError as error:
            return SeriesListing([unreadable_series(str(error))], [])

    listings = {scan.name: listing_of(scan) for scan in studies}
    series = [(name, one) for name, listing in listings.items() for one in listing.series]
    return series, [file for listing in listings.values() for file in listing.passed_over]


def _print_scans(
    contents: Contents, volumes: list[tuple[Scan, VolumeInfo]], series: list[tuple[str, SeriesInfo]]
) -> None:
    from fullscale.cli.show import print_volumes

    typer.echo(f"{contents.path}: no data set of scans with labels; scans: {len(contents.scans)}")
    print_volumes(volumes, contents.path)
    rows = [
        (
            name,
            one.modality or "-",
            one.description or "-",
            one.phase or "-",
            one.slices,
            " x ".join(f"{step:.4g}" for step in one.spacing_mm or ()) or "-",
            one.orientation or "-",
            one.uid or "blank",
            one.problem or "none",
        )
        for name, one in series
    ]
    if rows:
        heads = ["scan", "modality", "description", "phase", "slices", "spacing mm", "axes", "UID", "problem"]
        table(f"DICOM: {len(rows)} series", heads, rows)


def phantom(
    output: Annotated[Path, typer.Argument(help="New folder to write to.", show_default=False)],
    cases: Annotated[int, typer.Option(help="Labelled training cases.", min=1)] = 12,
    test_cases: Annotated[int, typer.Option(help="Further cases, labels apart in labelsTs.", min=0)] = 2,
    size: Annotated[int, typer.Option(help="Voxels along each in-plane axis.", min=16)] = 128,
    slices: Annotated[int, typer.Option(help="Slices a scan.", min=1)] = 48,
    layout: Annotated[
        Literal["msd", "lits"], typer.Option(help="Of the Medical Segmentation Decathlon, or of LiTS.")
    ] = "msd",
    structures: Annotated[
        str | None,
        typer.Option(
            help="Labels of msd: 1 liver, 2 spleen, 3 and 4 kidneys, 5 liver tumour; default 1,2.", show_default=False
        ),
    ] = None,
    length: Annotated[
        float | None,
        typer.Option(help="Millimetres that the slices fill; default 230 to 280.", min=1, show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same data set.", min=0)] = 0,
) -> None:
    """Draw synthetic abdominal CT scans with their labels."""
    from fullscale.data.phantom import STRUCTURES
    from fullscale.errors import UsageError

    chosen = (
        None if structures is None else tuple(int(o) if o.strip().isdecimal() else -1 for o in structures.split(","))
    )
    if not set(chosen or ()) <= set(STRUCTURES):
        raise UsageError(f"--structures {structures!r} must list numbers of {STRUCTURES}")
    drawn: dict[str, Any] = {"size": size, "slices": slices, "structures": chosen, "length_mm": length}
    draw_phantoms(output, cases, seed, test_cases, layout, **drawn)
    print_status(f"{cases} synthetic scans with labels and {test_cases} test scans are in {output}")


def plan(
    data: Data,
    settings: Settings = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the plan here.")] = None,
    device: Annotated[str, typer.Option(help="Where it will train: auto, cpu, cuda.")] = "auto",
    overwrite: Overwrite = False,
    jobs: Jobs = None,
    json: Json = False,
) -> None:
    """Choose window, spacing, crop, width and batch from the data, each with its reason; edit and train with --plan."""
    from fullscale.config.load import load_config
    from fullscale.data.layouts.find import find_dataset
    from fullscale.files import write_text
    from fullscale.outputs import claimed
    from fullscale.training.memory import describe_cost, require_memory
    from fullscale.training.prepare import plan_for, resolve

    config, written = load_config(None, [f"trainer.device={device}", *(settings or [])]), [output] if output else []
    with claimed(written, [data], "plan", overwrite):
        inspection = _inspect_as(config.data, find_dataset(data), jobs)
        _print_remarks(inspection)
        chosen = plan_for(inspection, config)
        for path in written:
            write_text(path, chosen.model_dump_json(indent=2) + "\n")
            print_status(f"the plan is in {path}")
    filled = resolve(config, chosen)
    require_memory(filled, chosen)
    print_status(f"expected here: {describe_cost(filled, chosen)}")
    if json:
        print_json(chosen.model_dump(mode="json"))
    elif output is None:
        rows = [(k, v["value"], v["reason"]) for k, v in chosen.model_dump(mode="json").items() if k != "dataset"]
        table(f"Plan for {chosen.dataset}", ["choice", "value", "reason"], rows)


def prepare(
    data: Data,
    settings: Settings = None,
    plan: Annotated[Path | None, typer.Option(help="A plan to follow; default one made from the data.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder of prepared cases; default the user's cache.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Read every file again, changed or not.")] = False,
    shard: ShardOption = None,
    jobs: Jobs = None,
    dask: Dask = None,
    json: Json = False,
) -> None:
    """Prepare every case ahead of training (train does it by itself), or with --shard a share of them."""
    from fullscale.config.load import load_config
    from fullscale.data.cache import cache_summary, default_cache, prepare_cases
    from fullscale.data.checks import require_trainable
    from fullscale.data.label_choice import LabelChoice
    from fullscale.data.layouts.find import find_dataset
    from fullscale.data.plan import read_plan
    from fullscale.errors import PartialFailure
    from fullscale.training.prepare import plan_for

    config, workers = load_config(None, settings or []), parse_workers(dask, jobs)
    dataset = _share_of(find_dataset(data), shard, plan)
    inspection = _inspect_as(config.data, dataset, workers)
    _print_remarks(inspection)
    if shard is None or dataset.cases:  # a small set may leave a share without any
        require_trainable(inspection)
    chosen = read_plan(plan).with_labels(LabelChoice.of(config.data)) if plan else plan_for(inspection, config)
    cases, where = inspection.usable_cases, cache or default_cache()
    with progress_bar("preparing") as progress:
        prepared = prepare_cases(cases, chosen.recipe, chosen.scheme, where, progress, verify, workers)
    summary = cache_summary(prepared) | {"cache": str(where)}
    if json:
        print_json(summary)
    else:
        print_status(
            f"{summary['cases']} cases, {summary['slices']} slices, {summary['bytes'] / 2**20:.1f} MiB in "
            f"{summary['cache']}"
        )
    bad = len(inspection.dataset.cases) - len(cases)
    if bad:
        raise PartialFailure(f"{counted(bad, 'case')} cannot be used; the others are prepared")


def _share_of(dataset: Dataset, shard: str | None, plan: Path | None) -> Dataset:
    """Keep the cases of a share; the plan, which all of them must follow, is made beforehand.

    Raises:
        UsageError: there is no plan, or the share is not of its form.
    """
    from fullscale.errors import UsageError
    from fullscale.work.shard import Shard

    if shard is None:
        return dataset
    if plan is None:
        raise UsageError("--shard needs --plan, or each share would plan by its own cases: fullscale plan -o plan.json")
    share = Shard.parse(shard)
    return replace(dataset, cases=[case for case in dataset.cases if share.holds(case.id)])


def _inspect_as(wishes: DataConfig, dataset: Dataset, jobs: Workers) -> Inspection:
    """Inspect a data set for what the settings ask of its labels and channels."""
    from fullscale.data.checks import inspect_dataset
    from fullscale.data.label_choice import LabelChoice

    with progress_bar("inspecting") as progress:
        asked = replace(dataset, resample_channels=wishes.resample_channels)
        return inspect_dataset(asked, progress, jobs, LabelChoice.of(wishes))


def _print_remarks(inspection: Inspection) -> None:
    from fullscale.data.case import WHOLE_SET

    for remark in inspection.remarks:
        print_status(f"note: {remark}")
    for problem in inspection.errors:
        if problem.case != WHOLE_SET:  # that ends the command
            print_status(f"left out: {problem.case}: {problem.message}")


COMMANDS = {"inspect": inspect, "phantom": phantom, "plan": plan, "prepare": prepare}
