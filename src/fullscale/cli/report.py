"""Verbs that show what came out: report, overlay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from fullscale.cli.options import Anonymise, Colours, Json, Labels, Overwrite, Regions, parse_scheme, parse_table
from fullscale.cli.progress import progress_bar
from fullscale.cli.show import print_json, print_line, print_status

if TYPE_CHECKING:
    from fullscale.data.labels import LabelScheme
    from fullscale.geometry.volume import Volume
    from fullscale.reporting.scene import RenderOptions

Palette = Annotated[
    Literal["paper", "safe"],
    typer.Option(help="paper: purple, yellow, green; safe: told apart with any kind of colour vision."),
]


def report(
    scores: Annotated[Path, typer.Argument(help="A run folder, or what evaluate wrote.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The HTML to write; default report.html beside the scores.")
    ] = None,
    case: Annotated[list[str] | None, typer.Option(help="A further case to show; repeat it.")] = None,
    window: Annotated[str | None, typer.Option(help="Grey values from,to (HU for CT), such as -100,240.")] = None,
    palette: Palette = "paper",
    data: Annotated[
        Path | None, typer.Option(help="The data set, for pictures, where it has moved.", show_default=False)
    ] = None,
    anonymise: Anonymise = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write one HTML file: how good, how reliable, what it looks like, how it was trained, where it fails."""
    from fullscale.outputs import claimed
    from fullscale.reporting.html import default_report, write_report
    from fullscale.reporting.scene import RenderOptions

    options, where = RenderOptions(_window(window), palette=palette), output or default_report(scores)
    with claimed([where], [scores, data], "report", overwrite), progress_bar("drawing") as progress:
        written = write_report(scores, where, case or [], options, progress, data, anonymise)
    for note in written.notes:
        print_status(f"no picture of {note}")
    if json:
        print_json(written.as_dict())
    else:
        print_line(str(written.report))


def overlay(
    scan: Annotated[Path, typer.Argument(help="The scan.", show_default=False)],
    mask: Annotated[Path, typer.Argument(help="Its mask.", show_default=False)],
    truth: Annotated[Path | None, typer.Argument(help="The true mask.", show_default=False)] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture to write: .png, .svg or .pdf.")] = Path(
        "overlay.png"
    ),
    window: Annotated[str | None, typer.Option(help="Grey values from,to (HU for CT), such as -100,240.")] = None,
    labels: Labels = None,
    regions: Regions = None,
    ignore: Annotated[
        str | None, typer.Option(help="What is hatched: a label value of the truth, or a mask that is 0 there.")
    ] = None,
    colours: Colours = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(help="Another mask of the scan, in a row of its own; NAME=MASK names it.", show_default=False),
    ] = None,
    slices: Annotated[int, typer.Option(help="Axial slices to show.", min=1)] = 6,
    view: Annotated[
        Literal["sheet", "axial", "coronal", "sagittal"], typer.Option(help="A contact sheet, or one slice alone.")
    ] = "sheet",
    at: Annotated[
        float | None, typer.Option(help="Place of that slice in mm toward head, front or right; default the fullest.")
    ] = None,
    contour: Annotated[bool, typer.Option("--contour", help="Outlines alone.")] = False,
    palette: Palette = "paper",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Draw a mask over its scan; with the truth, what was found, missed and invented."""
    from fullscale.outputs import claimed
    from fullscale.reporting.figures import require_picture_name
    from fullscale.reporting.scene import RenderOptions

    require_picture_name(output)
    _require_one_way(view, at, compare)
    scheme, table = parse_scheme(labels, regions), parse_table(colours)
    names, members = ({}, {}) if scheme is None else (scheme.structures, scheme.members if scheme.regions else {})
    options = RenderOptions(_window(window), names, palette, contour, members)
    hidden = None if ignore is None or ignore.isdecimal() else Path(ignore)
    masks = _named_masks(mask, compare or [])
    with claimed([output], [scan, mask, truth, hidden, *masks.values()], "overlay", overwrite):
        read = _read_masks(scan, masks, truth, hidden, ignore, scheme, table)
        _draw(read, options, slices, "rows" if compare else view, at, output)
    if json:
        print_json({"picture": str(output)})
    else:
        print_line(str(output))


def _require_one_way(view: str, at: float | None, compare: list[str] | None) -> None:
    """Refuse options of one kind of picture with those of another."""
    from fullscale.errors import UsageError

    if at is not None and view == "sheet":
        raise UsageError(f"--at {at:g} is the place of one slice: say which with --view axial, coronal or sagittal")
    if compare and view != "sheet":
        raise UsageError(f"--compare draws axial slices beside each other, --view {view} a slice alone: leave one out")


class _Read(NamedTuple):
    """What is drawn: the scan, or its red, green and blue, and on its grid masks by name, truth, what is ignored."""

    title: str
    shown: Volume | Sequence[Volume]
    masks: dict[str, Volume]
    truth: Volume | None
    ignored: Volume | None


def _read_masks(
    scan: Path,
    masks: Mapping[str, Path],
    truth: Path | None,
    hidden: Path | None,
    ignore: str | None,
    scheme: LabelScheme | None,
    table: dict[str, int] | None,
) -> _Read:
    """Read a scan and what is drawn over it, all on one grid, and of the labels those that are asked for."""
    from fullscale.data.discover import only_scan
    from fullscale.data.image_files import holds_colours
    from fullscale.data.layouts.images import table_for
    from fullscale.data.read import read_label, read_shown
    from fullscale.geometry.volume import Volume, require_same_grid

    given = only_scan(scan)
    shown = read_shown(given.source)
    volume = shown if isinstance(shown, Volume) else shown[0]

    def read(path: Path) -> Volume:
        coloured = path == truth or holds_colours(path)  # what predict writes holds label values
        label_map = read_label(path, given.source, scheme, table_for(path, table) if coloured else None)
        require_same_grid(volume, label_map, f"{scan} and {path}")
        return label_map

    def kept(label_map: Volume) -> Volume:
        return label_map if scheme is None else scheme.keep(label_map)

    found, real = {name: read(path) for name, path in masks.items()}, None if truth is None else read(truth)
    judged = next(iter(found.values())) if real is None else real
    ignored = _ignored(judged, None if hidden is None else read(hidden), ignore)
    kept_masks = {name: kept(label_map) for name, label_map in found.items()}
    return _Read(given.name, shown, kept_masks, None if real is None else kept(real), ignored)


def _draw(read: _Read, options: RenderOptions, slices: int, view: str, at: float | None, output: Path) -> None:
    """Draw a row for each mask, a contact sheet of the first, or one slice of it."""
    from fullscale.reporting.figures import save_figure
    from fullscale.reporting.overlay import overlay_figure, slice_figure
    from fullscale.reporting.scene import AXIAL, CORONAL, SAGITTAL
    from fullscale.reporting.side_by_side import side_by_side_figure

    title, shown, masks, truth, ignored = read
    first = next(iter(masks.values()))
    if view == "rows":
        figure = side_by_side_figure(shown, masks, truth, options, slices, title, ignored)
    elif view == "sheet":
        figure = overlay_figure(shown, first, truth, options, slices, title, ignored)
    else:
        axis = {"axial": AXIAL, "coronal": CORONAL, "sagittal": SAGITTAL}[view]
        figure = slice_figure(shown, first, truth, options, axis, at, title, ignored)
    save_figure(figure, output)


def _named_masks(mask: Path, others: list[str]) -> dict[str, Path]:
    """Name the masks of a comparison: as is given, else by their files or, where these are called alike, folders."""
    from fullscale.data.volume_files import volume_stem
    from fullscale.errors import UsageError

    given = [("", mask)]
    for text in others:
        name, named, path = text.partition("=")
        given.append((name, Path(path)) if named and not Path(text).exists() else ("", Path(text)))
    paths = [path for _, path in given]
    alike = len({path.name for path in paths}) < len(paths)
    names = [name or (path.absolute().parent.name if alike else volume_stem(path)) for name, path in given]
    if len(set(names)) < len(names):
        raise UsageError(f"two masks are called {max(names, key=names.count)!r}: name them, as --compare NAME=MASK")
    return dict(zip(names, paths, strict=True))


def _ignored(labels: Volume, hidden: Volume | None, ignore: str | None) -> Volume | None:
    """Find what is ignored: by a value of the label map, or by a mask that is 0 there."""
    from fullscale.data.truth import ignored_voxels

    value = int(ignore) if ignore is not None and hidden is None else None
    voxels = ignored_voxels(labels, hidden, value)
    return None if voxels is None else labels.with_array(voxels)


def _window(text: str | None) -> tuple[float, float] | None:
    from fullscale.errors import UsageError

    if text is None:
        return None
    try:
        low, high = (float(value) for value in text.split(","))
    except ValueError as error:
        raise UsageError(f"--window {text!r} is not two numbers, such as -100,240") from error
    return low, high


COMMANDS = {"report": report, "overlay": overlay}
