"""What 2D images need in any layout: colours are channels, and a table says what the colours of a mask are."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from fullscale.data.case import ONE_CHANNEL, Case, Dataset, Problem
from fullscale.data.image_files import COLOURS, holds_colours, is_picture
from fullscale.data.layouts.description import beside
from fullscale.data.mask_images import Colours
from fullscale.errors import DataError

_SAID = {(ONE_CHANNEL,): "grey", COLOURS: "in colours"}


def of_images(dataset: Dataset) -> Dataset:
    """Make channels of the colours of images, and let every mask that is an image know what its colours mean.

    An image that is grey among colour images, or the reverse, is a problem.

    Raises:
        DataError: a table of colours names a structure that the data set does not have.
    """
    dataset = _with_table(dataset)
    cases = [*dataset.cases, *dataset.unlabelled]
    if not any(is_picture(file) for case in cases for file in (case.first, case.label) if file is not None):
        return dataset
    cases = [_with_channels(case) for case in cases]
    colours = _colours_of_masks(dataset)
    cases = [replace(case, colours=colours) if case.label and is_picture(case.label) else case for case in cases]
    channels = _usual_channels(dataset, cases)
    found = replace(dataset, cases=[], unlabelled=[], channels=channels, problems=list(dataset.problems))
    for case in cases:
        if tuple(case.channels) == channels:
            found.add(case)
            continue
        here, there = (_SAID.get(names, ", ".join(names)) for names in (tuple(case.channels), channels))
        found.problems.append(Problem(case.id, f"{case.first}: is {here}, most images of the set are {there}"))
    return found


def _with_channels(case: Case) -> Case:
    if len(case.channels) == 1 and holds_colours(case.first):
        return replace(case, channels=dict.fromkeys(COLOURS, case.first))
    return case


def _usual_channels(dataset: Dataset, cases: list[Case]) -> tuple[str, ...]:
    """Return the channels that most images have, or those that are declared."""
    if dataset.channels != (ONE_CHANNEL,) or not cases:
        return dataset.channels
    return Counter(tuple(case.channels) for case in cases).most_common(1)[0][0]


def table_of(dataset: Dataset) -> dict[str, int] | None:
    """Return the label value of each colour of the masks of a data set; None where nothing says it.

    Raises:
        DataError: its table of colours names a structure that it does not have.
    """
    return _colours_of_masks(_with_table(dataset))


def table_beside(mask: Path) -> dict[str, int] | None:
    """Return the table of colours in the `dataset.json` beside a mask or in the folder above; None where none has one.

    Raises:
        DataError: the file cannot be read, or names a structure that it does not have.
    """
    for folder in (mask.absolute().parent, mask.absolute().parent.parent):
        description = beside(folder)
        if description.colours:
            return table_of(description.dataset(folder, "images"))
    return None


def table_for(mask: Path, given: Colours | None = None) -> Colours | None:
    """Return what the colours of a mask stand for: what is given, else as `table_beside` finds it.

    A mask that is no image has no table.
    """
    if not is_picture(mask):
        return None
    return table_beside(mask) if given is None else given


def _with_table(dataset: Dataset) -> Dataset:
    """Number the structures of a table of colours where the data set declares no labels."""
    if not dataset.colours or dataset.labels is not None:
        return dataset
    names = dict.fromkeys(name for name in dataset.colours.values() if name != "background")
    return replace(dataset, labels={0: "background", **dict(enumerate(names, start=1))})


def _colours_of_masks(dataset: Dataset) -> dict[str, int] | None:
    """Return the label value of each colour of a mask; where none are named, of each grey value that is declared."""
    labels = {0: "background", **(dataset.labels or {})}
    if dataset.colours:
        values = {name: value for value, name in reversed(labels.items())}
        strange = [name for name in dataset.colours.values() if name not in values]
        if strange:
            raise DataError(
                f"{dataset.root}: 'colours' names {strange[0]!r}, the labels are {', '.join(labels.values())}"
            )
        return {colour: values[name] for colour, name in dataset.colours.items()}
    if dataset.labels is None:
        return None
    ignored = [] if dataset.ignore is None else [dataset.ignore]
    return {str(value): value for value in sorted({*labels, *ignored})}
