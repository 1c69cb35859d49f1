"""How the command speaks: status, tables and JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from fullscale.geometry.units import LENGTH, SIZE, Unit
from fullscale.text import counted, printable

if TYPE_CHECKING:
    from fullscale.data.checks import CaseFacts, ChannelFacts, Inspection
    from fullscale.data.discover import Scan
    from fullscale.data.loose import VolumeInfo
    from fullscale.scoring.paired import PairedEvaluation
    from fullscale.scoring.summary import Summary
    from fullscale.scoring.tables import Table as ScoreTable

MOST_ROWS = 40
_EMPTY = ("missed", "false_positive", "true_negative")

_last_status = time.monotonic()


def print_status(line: str) -> None:
    """Tell what is happening, on standard error, so that standard output holds results alone."""
    global _last_status
    _last_status = time.monotonic()
    typer.echo(printable(line), err=True)


def print_line(line: str) -> None:
    """Print a line of the result."""
    typer.echo(printable(line))


def since_last_status_s() -> float:
    """Return the seconds since the last line of status, or since the command began."""
    return time.monotonic() - _last_status


def print_json(content: Any) -> None:
    """Print a result as JSON."""
    typer.echo(json.dumps(content, indent=2, allow_nan=False))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table; numbers stand to the right."""
    grid = Table(title=printable(title), title_justify="left", title_style="bold", header_style="", box=SIMPLE_HEAD)
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(_is_number(row[index]) for row in rows)
        grid.add_column(printable(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(printable(_text(value)) for value in row))
    width = None if sys.stdout.isatty() else 120
    # Names come from data: `[1]` and `:x:` in them are no markup.
    Console(width=width, markup=False, emoji=False, highlight=False).print(grid)


def print_scores(title: str, scores: ScoreTable) -> None:
    """Print a table of scores; a column with intervals has them in a column of its own."""
    columns = list(zip(*scores.rows, strict=True)) or [()] * len(scores.heads)
    heads: list[str] = []
    shown: list[list[str]] = []
    for head, cells in zip(scores.heads, columns, strict=True):
        heads.append(head)
        shown.append([cell.text for cell in cells])
        if any(cell.interval for cell in cells):
            heads.append("95 % interval")
            shown.append([cell.interval or "-" for cell in cells])
    table(title, heads, list(zip(*shown, strict=True)))


def print_inspection(inspection: Inspection) -> None:
    """Print what `inspect_dataset` found."""
    dataset, facts = inspection.dataset, list(inspection.facts.values())
    print_line(f"{dataset.name}: {dataset.layout}, {dataset.modality or 'modality not declared'}, at {dataset.root}")
    if len(dataset.channels) > 1:
        print_line(f"channels: {', '.join(dataset.channels)}")
    print_line(
        f"{counted(len(dataset.cases), 'labelled case')}, {len(facts)} of them usable; "
        f"{len(dataset.unlabelled)} without labels"
    )
    if facts:
        table("Usable cases", ["what", "smallest", "median", "largest"], _ranges(facts))
        orientations = sorted({f.orientation for f in facts})
        types = sorted({channel.dtype for f in facts for channel in f.channels.values()})
        print_line(f"stored orientations: {', '.join(orientations)}; voxel types: {', '.join(types)}")
        size = SIZE[facts[0].unit]
        heads = ["value", "name", "cases", f"median {size}", f"smallest {size}", f"largest {size}"]
        table("Labels", heads, _labels(inspection))
        for line in _known(inspection):
            print_line(line)
    for severity in ("error", "warning"):
        found = [p for p in inspection.problems if p.severity == severity]
        if found:
            table(f"{severity.capitalize()}s ({len(found)})", ["case", "problem"], [(p.case, p.message) for p in found])


def print_volumes(volumes: Sequence[tuple[Scan, VolumeInfo]], root: Path) -> None:
    """Print what `look_at_volumes` found below a path, and apart from it what is wrong with each and what is odd."""

    def line(numbers: Sequence[float] | None) -> str:
        return " x ".join(f"{number:.4g}" for number in numbers or ()) or "-"

    heads = ["scan", "file", "channels", "size in voxels", "spacing", "axes"]
    rows = [
        (
            scan.name,
            str(scan.path.relative_to(root)) if scan.path != root else root.name,
            info.channels or "-",
            line(info.shape),
            f"{line(info.spacing_mm)} {LENGTH[info.unit]}" if info.spacing_mm else "-",
            info.orientation or "-",
        )
        for scan, info in volumes
    ]
    if rows:
        table("Volume files", heads, rows)
    errors = [(scan.name, info.problem) for scan, info in volumes if info.problem]
    warnings = [(scan.name, remark) for scan, info in volumes for remark in info.remarks]
    for what, found in (("Errors", errors), ("Warnings", warnings)):
        if found:
            table(f"{what} ({len(found)})", ["scan", "problem"], found)


def print_summary(summary: Summary, title: str) -> None:
    """Print the scores of a set of predictions: per case, then the means with the cases they stand on."""
    from fullscale.scoring.tables import about_intervals, case_table, left_out, mean_table, not_scored

    content = summary.as_dict()
    names, everything = content["labels"], content["foreground_mean"]
    per_case = case_table(summary)
    if len(per_case.rows) <= MOST_ROWS:
        print_scores(f"{title}, per case", per_case)
    print_scores(title, mean_table(content, with_interval=["Dice"]))
    empty = ", ".join(f"{everything[f'{kind}_cases']} {kind.replace('_', ' ')}" for kind in _EMPTY)
    print_line(about_intervals(content))
    unit, whole = LENGTH[summary.unit], "volume" if summary.unit == "mm" else "image"
    print_line(f"Distances in {unit}. Structures: {empty}; a missed one scores Dice 0 and the {whole}'s diagonal.")
    if everything["slices_without_structure"]:
        print_line(_slices_line("Slices without the structure", everything, summary.unit))
        for label, scores in content.get("guidance", {}).get("classes", {}).items():
            ungated = f"  {names[label]}, without the gate of the guidance"
            print_line(_slices_line(ungated, scores["ungated"], summary.unit))
    for label, mean in content["mean"].items():
        if not mean["cases_with_structure"] and mean["cases"]:
            print_status(f"{names[label]}: in no truth, but in {mean['false_positive_cases']} of the predictions")
    if summary.model is not None and summary.model.trained_on:
        seen = summary.model.trained_on
        print_status(
            f"trained on: {len(seen)} of these cases, such as {seen[0]}; the scores of those say nothing of new scans"
        )
    resampled = [case["case"] for case in content["metric_per_case"] if case["resampled"]]
    if resampled:
        print_status(f"brought onto the truth's grid first: {counted(len(resampled), 'case')}, such as {resampled[0]}")
    for line in left_out(content):
        print_status(f"note: {line}")
    for failed in not_scored(content["failures"]):
        print_status(f"not scored: {failed.line}")


def print_against(compared: PairedEvaluation, names: Mapping[int, str], title: str) -> None:
    """Print a paired comparison: means, their difference with its interval, and the smallest one detectable."""
    from fullscale.scoring.tables import paired_table

    print_scores(title, paired_table(compared.as_dict(), names))
    print_line(
        "p: Wilcoxon's signed-rank test over cases, of the classes adjusted for their number (Holm). Detectable: the "
        "smallest difference detectable with this many cases that vary as these do, with a power of 80 %."
    )
    if compared.alone:
        print_status(
            f"not compared, only one of the two has them: {len(compared.alone)} cases, such as {compared.alone[0]}"
        )


def _slices_line(title: str, scores: Mapping[str, Any], unit: Unit) -> str:
    without, invented = scores["slices_without_structure"], scores["false_positive_slices"]
    size = f"{scores['false_positive_slices_ml']:.1f} {SIZE[unit]}"
    return f"{title}: {without}; {invented} of them got some of it, {size} in all."


def _ranges(facts: list[CaseFacts]) -> list[tuple[str, ...]]:
    import numpy as np

    lines: list[tuple[str, Any, str]] = [
        ("size in voxels", [f.shape for f in facts], " x "),
        (f"spacing in {LENGTH[facts[0].unit]}", [f.spacing_mm for f in facts], " x "),
    ]
    for name in facts[0].channels:
        lines += _intensities(name, [f.channels[name] for f in facts])
    rows = []
    for what, values, between in lines:
        parts = (np.min(values, axis=0), np.median(values, axis=0), np.max(values, axis=0))
        rows.append((what, *(between.join(f"{v:.4g}" for v in part) for part in parts)))
    return rows


def _intensities(name: str, channel: list[ChannelFacts]) -> list[tuple[str, Any, str]]:
    from fullscale.data.case import ONE_CHANNEL

    of = "" if name == ONE_CHANNEL else f" of {name}"
    return [
        (f"intensity{of} (percentiles 0.5, 50, 99.5)", [c.intensity_percentiles for c in channel], ", "),
        (f"intensity{of} (lowest, highest)", [(c.intensity_min, c.intensity_max) for c in channel], ", "),
    ]


def _labels(inspection: Inspection) -> list[tuple[Any, ...]]:
    import numpy as np

    rows = []
    for value, name in inspection.names.items():
        if value == 0:
            continue
        ml = [f.label_ml[value] for f in inspection.facts.values() if f.label_ml.get(value)]
        spread = (float(np.median(ml)), min(ml), max(ml)) if ml else (None, None, None)
        rows.append((value, name, len(ml), *spread))
    return rows


def _known(inspection: Inspection) -> Iterator[str]:
    """Say which structures overlap, which voxels are ignored, and which structures were not drawn everywhere."""
    for name, values in inspection.scheme.regions.items():
        yield f"region {name}: labels {', '.join(map(str, values))}"
    ignored = [f.ignored_voxels for f in inspection.facts.values() if f.ignored_voxels]
    if ignored:
        yield f"ignored: {sum(ignored)} voxels of {len(ignored)} cases, of which nothing is known"
    cases = inspection.usable_cases
    for k, name in enumerate(inspection.scheme.structures.values()):
        unknown = sum(k in inspection.scheme.unknown(case.labelled) for case in cases)
        if unknown:
            yield f"{name}: not labelled in {unknown} of {len(cases)} cases, where it is unknown"


def _is_number(value: Any) -> bool:
    text = "0" if value is None or value == "-" else str(value)
    return text.replace(",", "").replace(".", "", 1).lstrip("+-").isdecimal()


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return json.dumps(value) if isinstance(value, dict | list) else str(value)
