"""Broken dataset.json files, lists, plans and splits: one line that names the file, whatever is wrong with them."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fullscale.data.case import Case
from fullscale.data.layouts.find import find_dataset
from fullscale.data.plan import read_plan
from fullscale.data.splits import read_splits
from fullscale.errors import DataError, FullscaleError

STRANGE: list[Any] = [
    *(None, True, 0, -1, 3.5, 10**400, float("inf"), "", " ", "a\x00b", "x" * 5000, "../..", "\\ud800", "\u0661"),
    *([], [[]], [None], {}, {"a": {}}, {"": ""}, [1, 2], "[/bold]", {"0": 1}, ["a", "b"]),
]
DESCRIPTION = {
    "name": "Liver",
    "modality": {"0": "CT"},
    "labels": {"background": 0, "liver": 1, "tumour": [2, 3], "ignore": 4},
    "regions_class_order": [1, 2],
    "training": [{"image": "./imagesTr/a.nii", "label": "./labelsTr/a.nii", "patient": "p"}],
    "test": ["./imagesTs/b.nii"],
}
PLAN = {
    "dataset": "set",
    "modality": {"value": "CT", "reason": "r"},
    "labels": {"value": {"0": "background", "1": "liver"}, "reason": "r"},
    "intensity": {"value": {"per": "scan"}, "reason": "r"},
    "spacing_mm": {"value": 1.0, "reason": "r"},
    "neighbours": {"value": 1, "reason": "r"},
    "patch_size": {"value": [32, 32], "reason": "r"},
    "width": {"value": 8, "reason": "r"},
    "batch_size": {"value": 2, "reason": "r"},
}
SPLITS = [{"train": ["a", "b"], "val": ["c"]}, {"train": ["c"], "val": ["a", "b"]}]
CSV = "image;label;case;patient\nimagesTr/a.nii;labelsTr/a.nii;one;p1\nimagesTs/b.nii;;two;\n"
CASES = [Case.of_image(name, Path(name)) for name in "abc"]


def with_strange_values(content: Any) -> Iterator[Any]:
    """Put each strange value into each place of a JSON content, and leave each place out."""
    if isinstance(content, dict | list):
        places = list(content) if isinstance(content, dict) else list(range(len(content)))
        for place in places:
            without = json.loads(json.dumps(content))
            del without[place]
            yield without
            for inner in with_strange_values(content[place]):
                changed = json.loads(json.dumps(content))
                changed[place] = inner
                yield changed
    yield from STRANGE


def broken_bytes(text: str, count: int) -> Iterator[bytes]:
    """Cut a text, and change bytes of it."""
    rng, whole = random.Random(5), text.encode()
    for _ in range(count):
        content = bytearray(whole[: rng.randrange(len(whole) + 1)] if rng.random() < 0.3 else whole)
        for _ in range(rng.randrange(1, 4)):
            if content:
                content[rng.randrange(len(content))] = rng.randrange(256)
        yield bytes(content)


def one_line_or_fine(read: Callable[[], object], file: Path) -> bool:
    """Read; tell whether it was refused, which must be in one line that names the file."""
    text = ""
    try:
        read()
    except FullscaleError as error:
        text = str(error)
    assert "\n" not in text
    assert len(text) < 1000
    assert not text or str(file.parent) in text
    return bool(text)


READERS: dict[str, tuple[str, Any, Callable[[Path], object]]] = {
    "dataset.json": ("dataset.json", DESCRIPTION, lambda file: find_dataset(file.parent)),
    "dataset.json itself": ("set.json", DESCRIPTION, find_dataset),
    "list": ("cases.json", DESCRIPTION["training"], find_dataset),
    "plan": ("plan.json", PLAN, read_plan),
    "splits": ("splits.json", SPLITS, lambda file: read_splits(file, CASES)),
}


def write_files(root: Path) -> None:
    for name in ("imagesTr/a.nii", "labelsTr/a.nii", "imagesTs/b.nii"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize("kind", list(READERS))
def test_strange_values_are_refused_in_a_line_or_understood(tmp_path: Path, kind: str) -> None:
    name, content, read = READERS[kind]
    write_files(tmp_path)
    refused = 0
    for changed in with_strange_values(content):
        (tmp_path / name).write_text(json.dumps(changed))
        refused += one_line_or_fine(lambda: read(tmp_path / name), tmp_path / name)
    assert refused > 20


@pytest.mark.parametrize("kind", [*READERS, "csv"])
def test_broken_bytes_are_refused_in_a_line_or_understood(tmp_path: Path, kind: str) -> None:
    name, content, read = READERS.get(kind, ("cases.csv", None, find_dataset))
    write_files(tmp_path)
    text = CSV if content is None else json.dumps(content)
    refused = 0
    for broken in broken_bytes(text, 300):
        (tmp_path / name).write_bytes(broken)
        refused += one_line_or_fine(lambda: read(tmp_path / name), tmp_path / name)
    assert refused > 20


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 50_000, "1" * 10_000, '"\\ud800"', "\ufeff{}", "NaN"])
@pytest.mark.parametrize("kind", list(READERS))
def test_deep_and_long_json_is_refused_in_a_line(tmp_path: Path, kind: str, content: str) -> None:
    name, _, read = READERS[kind]
    write_files(tmp_path)
    (tmp_path / name).write_text(content)
    if kind == "dataset.json" and content == "\ufeff{}":
        return  # a description that says nothing
    assert one_line_or_fine(lambda: read(tmp_path / name), tmp_path / name)


@pytest.mark.parametrize("kind", list(READERS))
def test_a_folder_in_place_of_the_file_is_refused_in_a_line(tmp_path: Path, kind: str) -> None:
    name, _, read = READERS[kind]
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=r"^[^\n]+$"):
        read(tmp_path / name)
