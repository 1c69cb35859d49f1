"""The `dataset.json` of the Medical Segmentation Decathlon and of nnU-Net: names, labels, and perhaps the cases."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fullscale.data.case import ONE_CHANNEL, Dataset
from fullscale.data.layouts.rows import Row, json_rows
from fullscale.documents import read_json
from fullscale.errors import DataError

SEQUENCES = {
    *("mri", "mr", "flair", "t1", "t1w", "t1c", "t1ce", "t1gd", "t1wgd", "t2", "t2w", "t2f", "t1n", "pd", "adc", "dwi"),
    *("swi", "dce", "hbv"),
}
"""Names of channels that are sequences of MRI, in lower case."""

_IGNORE = "ignore"
_LARGEST_LABEL = 2**31 - 1


@dataclass(frozen=True)
class Description:
    """What a `dataset.json` says.

    Attributes:
        name: of the data set, or None.
        modality: such as "CT" or "MRI", or None.
        labels: name of each label value, or None where none are declared.
        regions: label values that make up each structure, where structures overlap (nnU-Net); else empty.
        ignore: value of the voxels of which nothing is known (nnU-Net), or None.
        training: cases, some perhaps without a label; None where the file lists none.
        test: images without labels.
        channels: names of the channels of a case, in their order.
    """

    name: str | None = None
    modality: str | None = None
    labels: dict[int, str] | None = None
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict)
    ignore: int | None = None
    training: list[Row] | None = None
    test: tuple[Row, ...] = ()
    channels: tuple[str, ...] = (ONE_CHANNEL,)

    def dataset(self, root: Path, layout: str) -> Dataset:
        """Start a data set with what is declared; its name is the folder's where none is."""
        name = self.name or root.resolve().name
        further: dict[str, Any] = {"regions": self.regions, "ignore": self.ignore, "channels": self.channels}
        return Dataset(root, layout, name, self.modality, self.labels, **further)


def beside(root: Path) -> Description:
    """Read the `dataset.json` in a folder; nothing is declared where there is none."""
    file = root / "dataset.json"
    return read_description(file) if file.is_file() else Description()


def read_description(path: Path) -> Description:
    """Read a `dataset.json` in the form of the Decathlon or of nnU-Net.

    Raises:
        DataError: the file is not JSON, or is of another form.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds a JSON {type(content).__name__}, expected an object that describes a data set")
    declared = content.get("channel_names", content.get("modality"))
    channels = _channels(path, declared)
    training, test = content.get("training"), content.get("test")
    labels, regions, ignore = _labels(path, content["labels"]) if content.get("labels") else (None, {}, None)
    return Description(
        name=str(content["name"]) if content.get("name") else None,
        modality=_modality(declared),
        channels=channels,
        labels=labels,
        regions=regions,
        ignore=ignore,
        training=json_rows(path, training) if isinstance(training, list) else None,
        test=tuple(json_rows(path, test)) if isinstance(test, list) else (),
    )


def _channels(path: Path, declared: Any) -> tuple[str, ...]:
    """Return the names of several channels in the order of their numbers; of one, `ONE_CHANNEL`."""
    if not isinstance(declared, dict) or len(declared) < 2:
        return (ONE_CHANNEL,)
    if not all(str(number).isdecimal() for number in declared):
        raise DataError(f"{path}: channels are {declared!r:.80}, expected numbers from 0 with names")
    names = tuple(str(declared[number]) for number in sorted(declared, key=int))
    if len(set(names)) < len(names):
        raise DataError(f"{path}: two channels have one name ({', '.join(names)}); give each its own")
    return names


def _modality(declared: Any) -> str | None:
    """Return the modality where one is declared; several channels are MRI where each is a sequence of it."""
    names = list(declared.values()) if isinstance(declared, dict) else [declared]
    if len(names) < 2:
        return str(names[0]) if names and names[0] else None
    return "MRI" if all(str(name).lower() in SEQUENCES for name in names) else None


def _labels(path: Path, declared: Any) -> tuple[dict[int, str] | None, dict[str, tuple[int, ...]], int | None]:
    """Read names and values of labels.

    Returns:
        Name of each value, or None where structures overlap; the values of each structure where they do; and the value
        to ignore. The forms are `{"1": "liver"}` (Decathlon), `{"liver": 1}` and `{"whole tumour": [1, 2]}` (nnU-Net).
    """
    pairs = [_pair(path, key, value) for key, value in (declared.items() if isinstance(declared, dict) else ())]
    if not pairs:
        raise DataError(f"{path}: 'labels' is {declared!r:.80}, expected names and numbers such as {{'liver': 1}}")
    ignore = next((values[0] for name, values in pairs if name.lower() == _IGNORE), None)
    structures = [(name, values) for name, values in pairs if values not in ((0,), (ignore,))]
    if any(len(values) > 1 for _, values in structures):
        return None, dict(structures), ignore
    names = {0: "background"}
    for name, (value,) in structures:
        if names.setdefault(value, name) != name:
            raise DataError(f"{path}: label {value} has two names, '{names[value]}' and '{name}'")
    return dict(sorted(names.items())), {}, ignore


def _pair(path: Path, key: str, value: Any) -> tuple[str, tuple[int, ...]]:
    """Return name and label values of one entry."""
    numbers, name = (key, value) if key.strip().isdecimal() else (value, key)
    listed: list[Any] = numbers if isinstance(numbers, list) and numbers else [numbers]
    if not isinstance(name, str | int) or not all(_is_label(number) for number in listed):
        raise DataError(f"{path}: label {key!r:.80}: {value!r:.80} is no pair of a name and one whole number")
    return str(name), tuple(int(number) for number in listed)


def _is_label(number: Any) -> bool:
    if isinstance(number, bool) or not isinstance(number, int | str) or not str(number).strip().isdecimal():
        return False
    return len(str(number)) <= 10 and int(number) <= _LARGEST_LABEL
