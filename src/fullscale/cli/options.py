"""Options that several commands take, and what their text says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from fullscale.data.labels import LabelScheme
    from fullscale.work.cluster import Workers

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs", help="Processes that share the cases; default by cores and memory.", min=1, show_default=False
    ),
]
Dask = Annotated[
    str | None,
    typer.Option(
        "--dask",
        help="tcp://HOST:PORT of a Dask scheduler, or --jobs jobs of slurm, pbs, lsf, sge, htcondor.",
        show_default=False,
    ),
]
RuntimeOption = Annotated[
    Literal["auto", "torch", "onnx", "openvino"],
    typer.Option(
        "--runtime",
        help="On a CPU; onnx and openvino are made ready once. auto takes openvino where that is done and quicker.",
    ),
]
ShardOption = Annotated[
    str | None,
    typer.Option("--shard", help="I/N: this command's share of the cases, by their names.", show_default=False),
]
TrainingsShard = Annotated[
    str | None,
    typer.Option("--shard", help="I/N: this command's share of the trainings, dealt in turn.", show_default=False),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace files that this command did not write; never those of the input.")
]
Anonymise = Annotated[
    Path | None,
    typer.Option(
        "--anonymise",
        help="Call the cases by numbers, and keep which is which in this CSV file, apart from the results.",
        show_default=False,
    ),
]
Labels = Annotated[
    str | None,
    typer.Option("--labels", help="These alone, 1=liver,2=spleen or 1,2; 1=liver,2=liver is one structure."),
]

Ignore = Annotated[
    int | None, typer.Option("--ignore", help="Label value of which nothing is known.", min=1, show_default=False)
]
Colours = Annotated[
    str | None,
    typer.Option(
        "--colours",
        help="Of masks in colours: '#ff0000=1,#0000ff=2', or the data set that has a table.",
        show_default=False,
    ),
]
Regions = Annotated[
    str | None,
    typer.Option("--regions", help="Structures that overlap: whole=1+2+3,core=2+3; instead of --labels."),
]


def parse_workers(dask: str | None, jobs: int | None) -> Workers:
    """Read `--dask` and `--jobs`: who works on the cases.

    Raises:
        UsageError: the cluster is not of its form.
    """
    from fullscale.work.cluster import Cluster

    return jobs if dask is None else Cluster.parse(dask, jobs)


def parse_scheme(labels: str | None, regions: str | None, ignore: int | None = None) -> LabelScheme | None:
    """Read `--labels`, `--regions` and `--ignore`; None where none is given.

    Raises:
        UsageError: one of them is not of its form, or they contradict each other.
    """
    from fullscale.data.labels import LabelScheme
    from fullscale.errors import UsageError

    named = parse_labels(labels)
    if regions is None:
        if ignore is not None and named is None:
            raise UsageError(f"--ignore {ignore} needs --labels or --regions, which say what is scored beside it")
        return None if named is None else LabelScheme(named, ignore=ignore)
    try:
        parts = [part.partition("=") for part in regions.split(",")]
        values = {name.strip(): tuple(int(value) for value in text.split("+")) for name, _, text in parts}
    except ValueError as error:
        raise UsageError(f"--regions {regions!r} is not of the form whole=1+2+3,core=2+3") from error
    return LabelScheme(named or {}, values, ignore=ignore)


def parse_table(given: str | None) -> dict[str, int] | None:
    """Read `--colours`: the table itself, or the data set that has it; None where it is not given.

    Raises:
        UsageError: it is neither.
        DataError: the data set has no table of colours, or cannot be read.
    """
    from fullscale.data.layouts.find import find_dataset
    from fullscale.data.layouts.images import table_of
    from fullscale.data.mask_images import parse_colours
    from fullscale.errors import DataError

    if given is None:
        return None
    if not Path(given).exists():
        return parse_colours(given)
    table = table_of(find_dataset(given))
    if table is None:
        raise DataError(f"--colours {given}: the data set has no table of colours")
    return table


def parse_labels(text: str | None) -> dict[int, str] | None:
    """Read `1=liver,2=spleen` or `1,2`: value and name of each label, or None if none were given.

    Raises:
        UsageError: it is not of this form, or names a value below 1.
    """
    if text is None:
        return None
    from fullscale.errors import UsageError

    try:
        parts = [part.partition("=") for part in text.split(",")]
        labels = {int(value): name.strip() or f"label {int(value)}" for value, _, name in parts}
    except ValueError as error:
        raise UsageError(f"--labels {text!r} is not of the form 1=liver,2=spleen or 1,2") from error
    if min(labels) < 1:
        raise UsageError(f"--labels {text!r} names {min(labels)}: structures have values from 1, background is 0")
    return labels


def parse_tolerance(text: str) -> float | dict[int, float]:
    """Read `1.5`, or `1=3,2=1.5` with a tolerance in mm for each label.

    Raises:
        UsageError: it is not of this form, or a tolerance is negative.
    """
    from fullscale.errors import UsageError
    from fullscale.metrics.surface import tolerance_of

    try:
        if "=" not in text:
            return tolerance_of(1, float(text))
        by_label = {int(label): float(mm) for label, _, mm in (part.partition("=") for part in text.split(","))}
        return {label: tolerance_of(label, by_label) for label in by_label}
    except ValueError as error:
        raise UsageError(f"--tolerance-mm {text!r} is not of the form 1.5 or 1=3,2=1.5") from error
