"""What a model card says of a model itself: what it is for, what it was trained on and how, and where it ends."""

from __future__ import annotations

import json
from functools import reduce
from importlib.metadata import version

from fullscale.bundle.card import SHORT, EnsembleCard
from fullscale.data.case import ONE_CHANNEL
from fullscale.data.distribution import ACROSS, HEIGHT, IN_PLANE, SIDE, Distribution
from fullscale.geometry.units import LENGTH, SIZE
from fullscale.reporting.model_card.facts import Facts
from fullscale.reporting.model_card.markdown import bullets, escaped, listed, table
from fullscale.scoring.summary import Summary
from fullscale.scoring.tables import NOTHING
from fullscale.text import counted

WRITTEN_BY = "library_version: "
"""Stands in the head before the version of fullscale that wrote the card: another may use other words."""
UNKNOWN = ("", "unknown")
"""Modalities that say nothing."""


def head(facts: Facts) -> str:
    """Write the YAML at the top, by which catalogues of models find this one."""
    tags = ["medical", "image-segmentation", *sorted({member.network for member in facts.members})]
    tags += [] if facts.card.modality.lower() in UNKNOWN else [facts.card.modality.lower()]
    lines = [
        "library_name: fullscale",
        f"{WRITTEN_BY}{_yaml(version('fullscale'))}",
        *("pipeline_tag: image-segmentation", "tags:"),
        *(f"- {_yaml(tag)}" for tag in tags),
    ]
    return "".join(f"{line}\n" for line in lines)


def title(facts: Facts) -> str:
    """Name the model, and say in two sentences what it is and how good."""
    algorithm = facts.card.algorithm
    made_of = f"an ensemble of {len(facts.members)} models" if isinstance(facts.card, EnsembleCard) else "one model"
    return (
        f"# {', '.join(escaped(name) for name in facts.structures)} in {_images(facts)}\n\n"
        f"This is {made_of}, {escaped(algorithm.name)}, trained on the data set {escaped(_dataset(facts))}. "
        f"Its digest begins with {facts.card.digest[:SHORT]}. {_in_short(facts)}\n"
    )


def intended_use(facts: Facts) -> str:
    """Say what it does, with what, and what it is not for."""
    channels = facts.data.channels
    takes = (
        f"It takes {len(channels)} channels of one grid, in this order: {listed(channels, len(channels))}. "
        if len(channels) > 1
        else ""
    )
    values = table(["value in the mask", "structure"], list(facts.card.structures.items()))
    return (
        "## Intended use\n\n"
        f"The model finds the structures below in {_images(facts)}, and returns a mask on the grid of each. {takes}"
        f"It was made for {_kind(facts)} like those that it was trained on.\n\n"
        f"{values}\n"
        "**This is not a medical device.** No authority has cleared it. Its masks must not decide on diagnosis or "
        "treatment unless a qualified person has looked at each of them.\n"
    )


def training_data(facts: Facts) -> str:
    """Say which cases were used, under which licence, and what they were like."""
    data = facts.data
    licence = "not stated by the data set" if data.licence is None else f"{escaped(data.licence)}, as the data set says"
    licence = licence if data.has_licence else "not recorded by the version of fullscale that began the run"
    lines = [
        f"Data set: {escaped(_dataset(facts))} ({escaped(data.layout or 'layout not recorded')})",
        f"Licence of the data: {licence}",
        f"Used: {counted(len(data.used), 'case')} with labels",
        f"Digest of the used scans and labels, whatever they are called: SHA-256 `{data.digest}`",
    ]
    if data.unlabelled:
        lines.append(f"Not used: {counted(len(data.unlabelled), 'case')} without labels")
    if data.left_out:
        names = sorted({problem.case for problem in data.left_out})
        lines.append(f"Left out because of errors: {listed(names)}")
    starts = sorted({str(said) for member in facts.members if (said := member.provenance.get("started_from"))})
    lines += [f"Training started from other weights: {escaped(start)}" for start in starts]
    if not data.digests:
        del lines[3]
    spans = _ranges(facts)
    ranges = (
        f"\nWhat the training {_kind(facts)} were like:\n\n" + table(["what", "lowest", "highest"], spans)
        if spans
        else ""
    )
    return f"## Training data\n\n{bullets(lines)}{ranges}"


def splits(facts: Facts) -> str:
    """Say how many cases trained and validated in each fold."""
    rows = [[name, len(train), len(val)] for name, (train, val) in facts.splits.items()]
    if facts.held_back:
        text = (
            "The model of a fold was trained on its training cases, and scored on its validation cases. `splits.json` "
            "of the run names both. Cases of one patient stay together where the data say which these are."
        )
    else:
        text = "Every case was trained on, and none was held back."
    return f"## Splits\n\n{text}\n\n{table(['fold', 'training cases', 'validation cases'], rows)}"


def making(facts: Facts) -> str:
    """Say how the model was made: versions, seed and cost."""
    rows: list[tuple[str, object]] = [("network", ", ".join(sorted({one.network for one in facts.members})))]
    rows.append(("its options", _network_options(facts)))
    made = sorted({str(member.provenance.get("created", NOTHING)) for member in facts.members})
    rows.append(("made", made[0] if len(made) == 1 else f"{made[0]} to {made[-1]}"))
    packages = facts.environment.get("packages")
    versions = {"python": facts.environment.get("python")} | (packages if isinstance(packages, dict) else {})
    rows += [(f"version of {name}", value) for name, value in versions.items() if value is not None]
    rows += [(what, facts.environment.get(what)) for what in ("platform", "gpu", "seed") if what in facts.environment]
    shown = [(what, NOTHING if value is None else value) for what, value in rows]
    return (
        f"## How it was made\n\n{table(['what', 'value'], shown)}\n"
        f"What training has cost:\n\n{_costs(facts)}\n"
        "Every setting is in `config.yaml` of the run, and what was chosen from the data in `plan.json`.\n"
    )


def limits(facts: Facts) -> str:
    """Say what must not be expected of the model."""
    one = len(facts.data.used) == 1
    lines = [
        f"All figures come from {'the one case' if one else f'the {len(facts.data.used)} cases'} of one data set. They "
        "say nothing of other hospitals, scanners or patients.",
        f"{_kind(facts).capitalize()} unlike those under Training data may be segmented badly. `fullscale predict` "
        "says what lies outside of the ranges there, but it does not notice everything.",
        "The model marks no disease and no structure but those listed under Intended use. It gives an answer for any "
        "image, also for one that holds none of them.",
    ]
    if not facts.data.subgroups:
        lines.append(
            "Scanners, sites, ages and sexes were not compared: neither the scans nor a column of the data's list, "
            "such as `subgroup:site`, tell them."
        )
    return f"## Known limits\n\n{bullets(lines)}"


def _yaml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _images(facts: Facts) -> str:
    known = facts.card.modality.lower() not in UNKNOWN
    kind = "scans" if facts.summary.unit == "mm" else "two-dimensional images"
    return f"{escaped(facts.card.modality)} {kind}" if known else f"{kind} of unknown modality"


def _kind(facts: Facts) -> str:
    return "scans" if facts.summary.unit == "mm" else "images"


def _dataset(facts: Facts) -> str:
    return str(facts.card.provenance.get("dataset") or facts.data.name or NOTHING)


def _in_short(facts: Facts) -> str:
    summary: Summary = facts.summary
    mean = summary.foreground_mean()
    if mean["Dice"] is None:
        return "No case scores it."
    where = "held back from training" if facts.held_back else "that it was trained on, which says nothing of new scans"
    cases = counted(int(mean["cases"] or 0), "case")
    return f"In {cases} {where}, the mean Dice is {mean['Dice']:.4f}."


def _ranges(facts: Facts) -> list[list[str]]:
    known = [member.distribution for member in facts.members if member.distribution is not None]
    if not known:
        return []
    spans: Distribution = reduce(Distribution.joined, known)
    length, size = LENGTH[facts.summary.unit], SIZE[facts.summary.unit]
    names = {
        "mm": {
            IN_PLANE: f"spacing within slices in {length}",
            ACROSS: f"distance between slices in {length}",
            SIDE: f"side of a slice in {length}",
            HEIGHT: f"height of the scan in {length}",
        },
        "mm2": {IN_PLANE: f"size of a pixel in {length}", SIDE: f"side of an image in {length}"},
        "px": {SIDE: f"side of an image in {length}"},
    }[facts.summary.unit]
    rows = [(name, spans.spans[key]) for key, name in names.items() if key in spans.spans]
    word = "volume" if size == "ml" else "size"
    rows += [(f"{word} of {name} in {size}", span) for name, span in spans.structure_ml.items()]
    rows += [(_intensity(key), span) for key, span in spans.spans.items() if "percentile" in key]
    return [[name, _number(span.low), _number(span.high)] for name, span in rows]


def _number(value: float) -> str:
    """Write a number with four digits, or all that stand before the point."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _intensity(key: str) -> str:
    """Say which percentile a measure is: `t1_percentile_99_5` is "intensity of t1, percentile 99.5"."""
    channel, _, percentile = key.rpartition("percentile_")
    of = channel.rstrip("_")
    return f"intensity{'' if of in ('', ONE_CHANNEL) else f' of {of}'}, percentile {percentile.replace('_', '.')}"


def _network_options(facts: Facts) -> str:
    """List the options that all members share and that say something."""
    first, *others = [member.options for member in facts.members]
    shared = {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}
    return ", ".join(f"{name} {json.dumps(value)}" for name, value in shared.items() if value is not None)


def _costs(facts: Facts) -> str:
    def minutes(seconds: float | None) -> str:
        return NOTHING if seconds is None else f"{seconds / 60:.2f}"

    rows = [
        [cost.name, cost.epochs, cost.steps, minutes(cost.processor_s), minutes(cost.elapsed_s)] for cost in facts.costs
    ]
    if len(rows) > 1:
        processor = [cost.processor_s for cost in facts.costs]
        known = [seconds for seconds in processor if seconds is not None]
        whole = sum(known) if len(known) == len(processor) else None
        steps, elapsed = sum(cost.steps for cost in facts.costs), sum(cost.elapsed_s for cost in facts.costs)
        rows.append(["all", sum(cost.epochs for cost in facts.costs), steps, minutes(whole), minutes(elapsed)])
    return table(["fold", "epochs", "steps", "processor minutes", "minutes by the clock"], rows)
