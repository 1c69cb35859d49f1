"""The licence of a data set is kept in the words of its description, and goes into the record of a run."""

import json
from pathlib import Path

import pytest

from fullscale.data.checks import inspect_dataset
from fullscale.data.layouts.find import find_dataset
from fullscale.data.phantom import write_dataset


@pytest.mark.parametrize(
    ("said", "licence"),
    [({"licence": " CC0 "}, "CC0"), ({"license": "MIT"}, "MIT"), ({"licence": 7}, None), ({}, None)],
)
def test_the_licence_of_a_data_set_is_recorded(tmp_path: Path, said: dict[str, object], licence: str | None) -> None:
    list(write_dataset(tmp_path, 1, size=16, slices=2, seed=0, test_cases=0))
    file = tmp_path / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | said))
    record = inspect_dataset(find_dataset(tmp_path)).as_record()
    assert (record["licence"], record["subgroups"]) == (licence, {})
