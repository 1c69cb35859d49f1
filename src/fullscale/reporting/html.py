"""A report on a run or an evaluation: one HTML file that holds all it shows and asks nothing of the network."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

from fullscale.config.load import flatten, load_config
from fullscale.data.anonymise import NAMELESS, NameKey, open_key, require_apart
from fullscale.data.plan import read_plan
from fullscale.errors import DataError, UsageError
from fullscale.files import write_text
from fullscale.geometry.units import LENGTH, SIZE
from fullscale.metrics.overlap import POLICY
from fullscale.metrics.presence import CONFUSION
from fullscale.progress import Progress, ignore
from fullscale.reporting.charts import Point, colour_of, line_chart, scatter_chart, strip_chart
from fullscale.reporting.figures import figure_png
from fullscale.reporting.located import located
from fullscale.reporting.overlay import overlay_figure
from fullscale.reporting.provenance import fold_rows, reservations, rules_of_masks
from fullscale.reporting.scene import RenderOptions
from fullscale.reporting.source import Source, find_source, read_case, read_curves, read_record
from fullscale.reporting.template import filled
from fullscale.reporting.trust import trust_of
from fullscale.runfolder import RunFolder
from fullscale.scoring.summary import CaseScores, read_summary, write_summary
from fullscale.scoring.tables import (
    METRICS,
    NOTHING,
    SCORES,
    VOLUMES,
    Table,
    about_intervals,
    case_table,
    form_of,
    head_of,
    left_out,
    mean_table,
    metric_cell,
    name_cell,
    not_scored,
    number_cell,
    paired_table,
)
from fullscale.text import without_folders

TEMPLATE = "reporting/report.html.jinja"

_LOSS_COLOUR = 4  # parts of the loss are no structures: they start at a colour that few structures reach

_CONFUSION = (
    *("holds it, called present", "holds it, called absent"),
    *("lacks it, called present", "lacks it, called absent"),
)


@dataclass(frozen=True)
class Picture:
    """A case as it looks, or the reason why it is not shown."""

    title: str
    data: str | None
    note: str = ""


@dataclass(frozen=True)
class Page:
    """A report before it is written.

    Attributes:
        text: in HTML.
        pictures: what it shows of each case, by its name.
    """

    text: str
    pictures: dict[str, Picture]


@dataclass(frozen=True)
class Written:
    """A report that was written.

    Attributes:
        report: the file.
        pictures: names of the cases it shows.
        notes: what it could not show, and why, one line each.
    """

    report: Path
    pictures: list[str]
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"report": str(self.report), "pictures": self.pictures, "notes": self.notes}


def write_report(
    path: Path,
    output: Path | None = None,
    cases: Sequence[str] = (),
    options: RenderOptions | None = None,
    progress: Progress = ignore,
    data: Path | None = None,
    anonymise: Path | None = None,
) -> Written:
    """Write the report of a run or an evaluation, whole or not at all.

    Of a run with several folds, the scores of all folds together are written into its folder as `summary.json` too.

    Args:
        path: a run folder, the folder of an evaluation, or its summary.json.
        output: the file; default `report.html` in that folder.
        cases: names of further cases to show, beside the best, the median and the worst.
        options: window and palette of the pictures.
        progress: told of each case that is drawn.
        data: the data set, where this machine does not remember it, for the pictures.
        anonymise: a key of case names; the report calls the cases by its numbers.

    Raises:
        DataError: there are no scores at `path`.
        UsageError: there is no case of that name, or the key lies among the results.
        FullscaleError: the file cannot be written.
    """
    found, where = find_source(path), output or default_report(path)
    if anonymise is not None:
        for folder in (where.parent, *([path] if path.is_dir() else [])):
            require_apart(anonymise, folder)
    page = draw_report(found, cases, options, progress, data, anonymise)
    if len(found.folds) > 1:
        pooled = RunFolder(found.path).summary
        write_summary(replace(found.summary, postprocess=_recorded_rules(pooled)), pooled)
    write_text(where, page.text)
    notes = [f"{name}: {picture.note}" for name, picture in page.pictures.items() if picture.note]
    return Written(where, [name for name, picture in page.pictures.items() if picture.data], notes)


def draw_report(
    found: Source,
    cases: Sequence[str] = (),
    options: RenderOptions | None = None,
    progress: Progress = ignore,
    data: Path | None = None,
    anonymise: Path | None = None,
) -> Page:
    """Make the page of `write_report` without writing anything but a key of case names.

    Raises:
        UsageError: there is no case of a name.
        FullscaleError: the key cannot be written.
    """
    source = replace(found, summary=located(found.summary, data, anonymise))
    key = None
    if anonymise is not None:
        key = open_key(anonymise, [] if source.summary.anonymous else source.summary.names)
        source, cases = replace(source, summary=source.summary.renamed(key)), [key.numbers.get(c, c) for c in cases]
    pictures = _pictures(source, cases, options or RenderOptions(), progress)
    return Page(render(source, list(pictures.values()), key), pictures)


def _recorded_rules(pooled: Path) -> dict[str, Any] | None:
    """Return the rules that training recorded beside the scores of a run: without them it would choose anew."""
    try:
        return read_summary(pooled).postprocess
    except DataError:  # not there, or damaged: it is written again
        return None


def default_report(path: Path) -> Path:
    """Return where the report on a run, or on an evaluation, is written when nothing else is said."""
    return RunFolder(path.parent if path.is_file() else path).report


def render(source: Source, pictures: Sequence[Picture], key: NameKey | None = None) -> str:
    """Fill the template; with a key, the names of cases and files are taken out of every text."""
    content = source.summary.as_dict()
    return filled(
        TEMPLATE,
        without_folders if key is None else lambda text: key.hide(str(text)),
        name=_title(source, nameless=key is not None),
        run=source.path.resolve().name,
        source=source,
        content=content,
        labels=_coloured(source.summary.labels.values()),
        policy=POLICY,
        about_intervals=about_intervals(content),
        not_scored=not_scored(content["failures"]),
        version=version("fullscale"),
        length=LENGTH[source.summary.unit],
        means=mean_table(content, SCORES),
        volumes=mean_table(content, VOLUMES),
        against=paired_table(source.against, source.summary.labels) if source.against else None,
        spread=_spread(content),
        per_case=_per_case(source),
        dice=strip_chart(_points(source, lambda s: s["Dice"]), "Dice of each case"),
        size=scatter_chart(_points(source, lambda s: s["reference_volume_ml"]), _true_size(content), "Dice"),
        slices=_slices(content),
        guidance=_guidance(content),
        pictures=pictures,
        trust=trust_of(RunFolder(source.path)) if source.is_run else None,
        training=_training(source) if source.is_run else None,
        notes=[*reservations(source), *left_out(content)],
    )


def chosen_cases(source: Source, wanted: Sequence[str]) -> dict[str, CaseScores]:
    """Choose the best, the median and the worst case by the mean Dice of their classes, and those that are wanted.

    Returns:
        The cases by what each is.

    Raises:
        UsageError: there is no case of a wanted name.
    """
    by_name = {case.case: case for case in source.summary.cases}
    strange = [name for name in wanted if name not in by_name]
    if strange:
        raise UsageError(f"there is no scored case {strange[0]!r}, only {', '.join(list(by_name)[:5])} ...")
    dice = {name: mean for name, case in by_name.items() if (mean := case.mean("Dice")) is not None}
    ranked = [by_name[name] for name in sorted(dice, key=dice.__getitem__)]
    chosen: dict[str, CaseScores] = {}
    if len(ranked) == 1:
        chosen["the only case"] = ranked[0]
    elif ranked:
        chosen |= {"best": ranked[-1], "median": ranked[(len(ranked) - 1) // 2], "worst": ranked[0]}
        if len(ranked) == 2:
            del chosen["median"]
    shown = {case.case for case in chosen.values()}
    return chosen | {"chosen " + name: by_name[name] for name in wanted if name not in shown}


def _pictures(source: Source, wanted: Sequence[str], options: RenderOptions, progress: Progress) -> dict[str, Picture]:
    chosen = chosen_cases(source, wanted)
    if source.scheme.regions:
        options = replace(options, names=source.scheme.structures, members=source.scheme.members)
    pictures = {}
    for done, (what, case) in enumerate(chosen.items(), start=1):
        title = case.case if what.startswith("chosen") else f"{what.capitalize()}: {case.case}"
        dice = ", ".join(
            f"{source.summary.labels[label]} {metric_cell(scores, 'Dice', source.summary.unit).text}"
            for label, scores in case.metrics.items()
        )
        title = f"{title} (Dice: {dice})"
        try:
            shown = read_case(source, case)
            figure = overlay_figure(shown.scan, shown.mask, shown.truth, options, ignored=shown.ignored)
        except DataError as error:
            pictures[case.case] = Picture(title, None, str(error))
        else:
            pictures[case.case] = Picture(title, base64.b64encode(figure_png(figure)).decode())
        progress(done, len(chosen), case.case)
    return pictures


def _title(source: Source, nameless: bool) -> str:
    """Name what was scored: the data set of a run, the folder of an evaluation; neither folder where it is nameless."""
    folder = source.path.resolve() if source.is_run else source.path.resolve().parent
    named = read_record(RunFolder(source.path).dataset).get("name") if source.is_run else None
    by_folder = named is None or (source.summary.data is not None and named == source.summary.data.resolve().name)
    return NAMELESS if nameless and by_folder else str(named or folder.name)


def _true_size(content: dict[str, Any]) -> str:
    return f"true {'volume' if content['unit'] == 'mm' else 'size'} in {SIZE[content['unit']]}"


def _spread(content: dict[str, Any]) -> Table:
    table = Table(["class", "score", "lowest", "quarter", "median", "three quarters", "highest"])
    for label, metrics in content["spread"].items():
        for metric, values in metrics.items():
            head, form = head_of(metric, content["unit"]), form_of(metric, content["unit"])
            table.rows.append(
                [name_cell(content["labels"][label]), name_cell(head), *(number_cell(v, form) for v in values.values())]
            )
    return table


def _per_case(source: Source) -> Table:
    """The cases, the lowest Dice first; what is not scored stands at the end."""
    table = case_table(source.summary)
    dice = table.heads.index(METRICS["Dice"].head)
    table.rows.sort(key=lambda row: (row[dice].text == NOTHING, row[dice].value))
    return table


def _points(source: Source, x: Callable[[dict[str, float | None]], float | None]) -> dict[str, list[Point]]:
    """Place every scored case of each class by `x` and its Dice."""
    groups: dict[str, list[Point]] = {name: [] for name in source.summary.labels.values()}
    for case in source.summary.cases:
        for label, scores in case.metrics.items():
            at, dice = x(scores), scores["Dice"]
            if at is not None and dice is not None:
                groups[source.summary.labels[label]].append(Point(at, dice, f"{case.case}: Dice {dice:.4f}"))
    return groups


def _slices(content: dict[str, Any]) -> Table:
    table = Table(
        ["class", "slices", "without the structure", "of these got some of it", f"{SIZE[content['unit']]} there"]
    )
    for label, scores in content["mean"].items():
        counts = [
            number_cell(scores[name], "d") for name in ("slices", "slices_without_structure", "false_positive_slices")
        ]
        volume = number_cell(scores["false_positive_slices_ml"], ".2f")
        table.rows.append([name_cell(content["labels"][label]), *counts, volume])
    return table


def _guidance(content: dict[str, Any]) -> dict[str, Table] | None:
    classes = content.get("guidance", {}).get("classes")
    if not classes:
        return None
    presence = Table(["class", *_CONFUSION])
    heads = ["Dice", "false positive voxels", "missed voxels", "empty slices hit", f"{SIZE[content['unit']]} there"]
    gate = Table(["class", "gate", *heads])
    for label, parts in classes.items():
        name = content["labels"][label]
        presence.rows.append([name_cell(name), *(number_cell(parts["presence"][cell], "d") for cell in CONFUSION)])
        for side, gate_word in (("gated", "with"), ("ungated", "without")):
            scores = parts[side]
            counts = [number_cell(scores[key], "d") for key in ("FP", "FN", "false_positive_slices")]
            volume = number_cell(scores["false_positive_slices_ml"], ".2f")
            gate.rows.append(
                [name_cell(name), name_cell(gate_word), number_cell(scores["Dice"], ".3f"), *counts, volume]
            )
    return {"presence": presence, "gate": gate}


def _training(source: Source) -> dict[str, Any]:
    """Curves, settings, plan, data and versions of a run; what is not there is left out."""
    run = RunFolder(source.path)
    settings = flatten(load_config(run.config)) if run.is_run else {}
    plan = read_plan(run.plan).model_dump(mode="json") if run.plan.is_file() else {}
    environment = read_record(run.environment)
    packages = environment.pop("packages", None)
    return {
        "folds": fold_rows(source),
        "rules": rules_of_masks(run),
        "curves": {name: _curves(read_curves(fold)) for name, fold in source.folds.items()},
        "settings": {key: _plain(value) for key, value in settings.items()},
        "plan": [(k, _plain(v["value"]), v["reason"]) for k, v in plan.items() if isinstance(v, dict)],
        "data": {k: v for k, v in read_record(run.dataset).items() if not isinstance(v, dict | list)},
        "environment": environment | (packages if isinstance(packages, dict) else {}),
    }


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_plain(part)}" for key, part in value.items()) or "–"
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None else str(value)


def _curves(rows: list[dict[str, float]]) -> dict[str, Any] | None:
    if not rows:
        return None
    names = [name for name in rows[0] if name.startswith("val_dice_")]
    losses = [name for name in rows[0] if name.startswith("train_") and name.endswith("loss")]
    dice = _coloured((name.removeprefix("val_dice_") for name in names), "mean")
    loss = _coloured((name.removeprefix("train_").replace("_", " ") for name in losses), "loss", first=_LOSS_COLOUR)
    return {
        "loss": line_chart(_lines(rows, losses), "epoch", "training loss", colours=list(loss.values())),
        "loss_names": loss,
        "dice": line_chart(_lines(rows, names), "epoch", "validation Dice", True, list(dice.values())),
        "dice_names": dice,
    }


def _coloured(names: Iterable[str], whole: str = "", first: int = 0) -> dict[str, str]:
    """Colour of each name in their order: a structure has the same in every chart, the whole has that of the text."""
    colours = map(colour_of, count(first))
    return {name: "ink" if name == whole else next(colours) for name in names}


def _lines(rows: list[dict[str, float]], names: list[str]) -> dict[str, list[Point]]:
    return {
        name: [
            Point(row["epoch"], row[name], f"epoch {row['epoch']:g}: {row[name]:.4f}") for row in rows if name in row
        ]
        for name in names
    }
