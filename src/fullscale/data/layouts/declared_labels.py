"""The labels of a `dataset.json`, in either direction: `{"1": "liver"}` (Decathlon), `{"liver": 1}` (nnU-Net).

nnU-Net adds a label to be ignored, and regions: `{"whole tumour": [1, 2]}` with `regions_class_order`, the value that
each region is written as. See "Ignore label" and "Region-based training" in nnU-Net's documentation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fullscale.errors import DataError

_BACKGROUND, _IGNORE = "background", "ignore"
_ORDER = "regions_class_order"
_LARGEST_LABEL = 2**31 - 1


@dataclass(frozen=True)
class DeclaredLabels:
    """What a `dataset.json` says of label values.

    Attributes:
        names: of each label value, background included; None where none are declared, or structures overlap.
        regions: label values that make up each structure, where structures overlap; else empty.
        order: value that each region is written as, a later region over an earlier one; empty where none is said.
        ignore: value of the voxels of which nothing is known, or None.
        notes: what is odd about it.
    """

    names: dict[int, str] | None = None
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict)
    order: tuple[int, ...] = ()
    ignore: int | None = None
    notes: tuple[str, ...] = ()


def read_labels(path: Path, content: dict[str, Any]) -> DeclaredLabels:
    """Read the labels of a `dataset.json`.

    Args:
        path: of the file, for messages.
        content: of the whole file.

    Raises:
        DataError: the labels are no pairs of names and whole numbers, it cannot be told which are the names, or they
            contradict each other.
    """
    declared = content.get("labels")
    if declared in (None, {}):
        return DeclaredLabels()
    if not isinstance(declared, dict):
        raise DataError(f"{path}: 'labels' is {declared!r:.80}, expected names and numbers such as {{'liver': 1}}")
    pairs = _pairs(path, declared)
    ignore, notes = _ignored(path, pairs), _background(path, pairs)
    structures = [(name, values) for name, values in pairs if name.lower() != _IGNORE and values != (0,)]
    for name, values in structures:
        if ignore in values:
            raise DataError(f"{path}: label {ignore} is both '{name}' and '{_IGNORE}'; expected a value for each")
    if any(len(values) > 1 for _, values in structures):
        regions = _regions(path, structures)
        return DeclaredLabels(None, regions, _order(path, content.get(_ORDER), regions), ignore, notes)
    names = {0: _BACKGROUND}
    for name, (value,) in structures:
        if names.setdefault(value, name) != name:
            raise DataError(f"{path}: label {value} has two names, '{names[value]}' and '{name}'")
    return DeclaredLabels(dict(sorted(names.items())), ignore=ignore, notes=notes)


def _pairs(path: Path, declared: dict[str, Any]) -> list[tuple[str, tuple[int, ...]]]:
    """Return name and label values of each entry; background, where it is named, is 0."""
    by_name = _is_by_name(path, declared)
    pairs = []
    for key, value in declared.items():
        name, numbers = (key, value) if by_name else (value, key)
        listed: list[Any] = numbers if isinstance(numbers, list) and numbers else [numbers]
        if type(name) not in (str, int) or not all(map(_is_label, listed)):
            raise DataError(f"{path}: label {key!r:.80}: {value!r:.80} is no pair of a name and one whole number")
        pairs.append((str(name).strip(), tuple(int(number) for number in listed)))
    return pairs


def _is_by_name(path: Path, declared: dict[str, Any]) -> bool:
    """Decide once for all labels whether their names stand first: where background does, else where no number does.

    Raises:
        DataError: both could be names, such as the numbers of teeth.
    """
    in_front, behind = (_names_background(texts) for texts in (declared, declared.values()))
    if in_front != behind:
        return in_front
    in_front, behind = (all(map(_is_label, texts)) for texts in (declared, declared.values()))
    if in_front and behind:
        raise DataError(
            f"{path}: which of the labels {str(declared)[:80]} are names, and which are values? Both are numbers; add "
            f"{{'{_BACKGROUND}': 0}} for names first, or {{'0': '{_BACKGROUND}'}} for values first"
        )
    return not in_front


def _names_background(texts: Any) -> bool:
    return any(isinstance(text, str) and text.strip().lower() == _BACKGROUND for text in texts)


def _background(path: Path, pairs: list[tuple[str, tuple[int, ...]]]) -> tuple[str, ...]:
    """Refuse a background that is not 0, and say where 0 has another name."""
    wrong = next((values for name, values in pairs if name.lower() == _BACKGROUND and values != (0,)), None)
    if wrong is not None:
        raise DataError(f"{path}: label '{_BACKGROUND}' is {_list(wrong)}, expected 0")
    names = [name for name, values in pairs if values == (0,)]
    if len(names) > 1:
        raise DataError(f"{path}: label 0 has two names, '{names[0]}' and '{names[1]}'")
    return tuple(
        f"label 0 is called '{name}', and taken as background" for name in names if name.lower() != _BACKGROUND
    )


def _ignored(path: Path, pairs: list[tuple[str, tuple[int, ...]]]) -> int | None:
    found = [values for name, values in pairs if name.lower() == _IGNORE]
    if not found:
        return None
    if len(found) > 1 or len(found[0]) > 1 or found[0] == (0,):
        listed = " and ".join(map(_list, found))
        raise DataError(f"{path}: label '{_IGNORE}' is {listed}, expected one value above 0")
    return found[0][0]


def _regions(path: Path, structures: list[tuple[str, tuple[int, ...]]]) -> dict[str, tuple[int, ...]]:
    regions: dict[str, tuple[int, ...]] = {}
    for name, values in structures:
        if name in regions or 0 in values:
            what = "declared twice" if name in regions else "made of background 0 too"
            raise DataError(f"{path}: region '{name}' is {what}; expected each once, of label values above 0")
        regions[name] = values
    return regions


def _order(path: Path, declared: Any, regions: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Return the value that each region is written as; empty where none is said."""
    if declared is None:
        return ()
    wanted = f"the value that each of the regions {', '.join(regions)} is written as"
    if not isinstance(declared, list) or len(declared) != len(regions) or not all(map(_is_label, declared)):
        raise DataError(f"{path}: '{_ORDER}' is {declared!r:.80}, expected {wanted}")
    order = tuple(int(value) for value in declared)
    for (name, values), value in zip(regions.items(), order, strict=True):
        if value not in values:
            raise DataError(
                f"{path}: '{_ORDER}' writes '{name}' as {value}, expected one of its values {_list(values)}"
            )
    if len(set(order)) < len(order):
        raise DataError(f"{path}: '{_ORDER}' writes two regions as one value ({_list(order)}), expected one for each")
    return order


def _list(values: tuple[int, ...]) -> str:
    return ", ".join(map(str, values))


def _is_label(number: Any) -> bool:
    if isinstance(number, bool) or not isinstance(number, int | str) or not str(number).strip().isdecimal():
        return False
    return len(str(number)) <= 10 and int(number) <= _LARGEST_LABEL
