"""The `dataset.json` of the Medical Segmentation Decathlon and of nnU-Net: names, labels, and perhaps the cases."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fullscale.data.case import ONE_CHANNEL, WHOLE_SET, Dataset, Problem
from fullscale.data.layouts.declared_labels import DeclaredLabels, read_labels
from fullscale.data.layouts.rows import Row, drawn_structures, json_rows
from fullscale.data.mask_images import read_colours
from fullscale.documents import read_json
from fullscale.errors import DataError

SEQUENCES = {
    *("mri", "mr", "flair", "t1", "t1w", "t1c", "t1ce", "t1gd", "t1wgd", "t2", "t2w", "t2f", "t1n", "pd", "adc", "dwi"),
    *("swi", "dce", "hbv"),
}
"""Names of channels that are sequences of MRI, in lower case."""

_READER = "overwrite_image_reader_writer"


@dataclass(frozen=True)
class Description:
    """What a `dataset.json` says.

    Attributes:
        name: of the data set, or None.
        modality: such as "CT" or "MRI", or None.
        labels: what is said of label values.
        training: cases, some perhaps without a label; None where the file lists none.
        by_case: whether they are listed as nnU-Net does, by their names with a file for each channel.
        test: images without labels.
        channels: names of the channels of a case, in their order.
        ending: of the names of image and label files, such as ".nii.gz" (nnU-Net), or None.
        labelled: names of the structures that were drawn in a case, for the cases of which it is said.
        colours: name of the structure of each colour of a mask that is an image.
        empty: names of the cases that have no mask because nothing is drawn in them.
        licence: under which the data may be used, in the words of the file, or None.
        notes: what is declared and not used.
    """

    name: str | None = None
    modality: str | None = None
    labels: DeclaredLabels = field(default_factory=DeclaredLabels)
    training: list[Row] | None = None
    by_case: bool = False
    test: tuple[Row, ...] = ()
    channels: tuple[str, ...] = (ONE_CHANNEL,)
    ending: str | None = None
    labelled: dict[str, tuple[str, ...]] = field(default_factory=dict)
    colours: dict[str, str] = field(default_factory=dict)
    empty: tuple[str, ...] = ()
    licence: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def said(self) -> dict[str, Any]:
        """What it says of a data set, by the attributes of `Dataset`; what it leaves open is not among it."""
        facts = {
            "name": self.name,
            "modality": self.modality,
            "labels": self.labels.names,
            "regions": self.labels.regions,
            "region_order": self.labels.order,
            "ignore": self.labels.ignore,
            "labelled": self.labelled,
            "colours": self.colours,
            "empty": self.empty,
            "licence": self.licence,
        }
        return {attribute: value for attribute, value in facts.items() if value}

    def dataset(self, root: Path, layout: str) -> Dataset:
        """Start a data set with what is declared; its name is the folder's where none is."""
        open_ended: dict[str, Any] = {"name": root.resolve().name, "modality": None, "labels": None}
        problems = self.problems("dataset.json")
        return Dataset(root, layout, **open_ended | self.said, channels=self.channels, problems=problems)

    def problems(self, source: str) -> list[Problem]:
        """Tell what is declared and not used, and where."""
        return [Problem(WHOLE_SET, f"{source}: {note}", "warning") for note in self.notes]


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
    training, test, table = (content.get(key) for key in ("training", "test", "dataset"))
    labels, reader = read_labels(path, content), content.get(_READER)
    unused = [] if reader is None else [f"'{_READER}' is {reader!r:.80}, and not used: files are read by their suffix"]
    return Description(
        name=str(content["name"]) if content.get("name") else None,
        modality=_modality(declared),
        channels=channels,
        labels=labels,
        training=_cases(path, table, channels) if table is not None else _listed(path, training),
        by_case=table is not None,
        test=tuple(_listed(path, test) or ()),
        ending=_ending(path, content.get("file_ending")),
        labelled=_labelled(path, content.get("labelled")),
        colours=read_colours(content["colours"], str(path)) if "colours" in content else {},
        empty=_empty(path, content.get("empty", [])),
        licence=_licence(content),
        notes=(*labels.notes, *unused),
    )


def _licence(content: dict[str, Any]) -> str | None:
    """Return the licence of the data; nothing is made of it, so that a value which is no text says none."""
    declared = content.get("licence", content.get("license"))
    return declared.strip() or None if isinstance(declared, str) else None


def _labelled(path: Path, table: Any) -> dict[str, tuple[str, ...]]:
    """Read the structures that were drawn, by case."""
    if not isinstance(table, dict | None):
        raise DataError(f"{path}: 'labelled' is {table!r:.80}, expected names of structures by case")
    return {case: drawn_structures(path, f"case {case!r:.80}", names) for case, names in (table or {}).items()}


def _empty(path: Path, names: Any) -> tuple[str, ...]:
    """Read the names of the cases in which nothing is drawn."""
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise DataError(f"{path}: 'empty' is {names!r:.80}, expected a list of the cases without a mask to draw")
    return tuple(names)


def _ending(path: Path, declared: Any) -> str | None:
    if declared is None or (isinstance(declared, str) and declared.startswith(".")):
        return declared
    raise DataError(f"{path}: 'file_ending' is {declared!r:.80}, expected the end of a file name such as '.nii.gz'")


def _listed(path: Path, content: Any) -> list[Row] | None:
    """Read the cases of a Decathlon; nnU-Net's first version gives their number in place of a list."""
    return json_rows(path, content) if isinstance(content, list) else None


def _cases(path: Path, table: Any, channels: tuple[str, ...]) -> list[Row]:
    """Read nnU-Net's table `{case: {"images": [a file for each channel], "label": file}}`."""
    wanted = f"{{'images': [{len(channels)} files], 'label': file}} by case"
    if not isinstance(table, dict):
        raise DataError(f"{path}: 'dataset' is {table!r:.80}, expected {wanted}")
    rows = []
    for case, entry in table.items():
        found: dict[str, Any] = entry if isinstance(entry, dict) else {}
        images, label = found.get("images"), str(found.get("label") or "")
        if not isinstance(images, list) or len(images) != len(channels) or not all(map(_is_file, [*images, label])):
            raise DataError(f"{path}: 'dataset' has for case {case!r:.80} {entry!r:.80}, expected {wanted}")
        files = {channel: path.parent / image for channel, image in zip(channels, images, strict=True)}
        rows.append(Row(files, path.parent / label, case))
    return rows


def _is_file(name: Any) -> bool:
    return isinstance(name, str) and bool(name.strip())


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
