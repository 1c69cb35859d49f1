"""The verbs over several processes: the same bytes and the same JSON as in one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fullscale.data.volume_files import read_volume
from tests.conftest import Command

pytestmark = pytest.mark.whole


def results(fullscale: Command, jobs: int, *command: object) -> Any:
    done = fullscale(*command, "--jobs", jobs, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("[!.]*")) if path.is_file()
    }


def arrays(folder: Path) -> dict[str, Any]:
    return {path.name: read_volume(path).array for path in sorted(folder.rglob("*.nii.gz"))}


def without(content: Any, *names: str) -> Any:
    """Drop what differs from run to run: times and folders."""
    if isinstance(content, dict):
        return {key: without(value, *names) for key, value in content.items() if key not in names}
    return [without(value, *names) for value in content] if isinstance(content, list) else content


@pytest.fixture
def twice(tmp_path: Path) -> Callable[[str], tuple[Path, Path]]:
    return lambda name: (tmp_path / f"{name}-1", tmp_path / f"{name}-2")


def test_inspect_and_prepare(fullscale: Command, phantoms: Path, twice: Callable[[str], tuple[Path, Path]]) -> None:
    assert results(fullscale, 1, "inspect", phantoms) == results(fullscale, 2, "inspect", phantoms)
    one, two = twice("cache")
    for jobs, cache in ((1, one), (2, two)):
        results(fullscale, jobs, "prepare", phantoms, "--cache", cache)
    prepared = {name: content for name, content in files(one).items() if not name.startswith(".")}
    assert len(prepared) == 6 * 3
    assert prepared == {name: content for name, content in files(two).items() if not name.startswith(".")}


def test_predict_evaluate_and_test(
    fullscale: Command, phantoms: Path, trained_run: Path, twice: Callable[[str], tuple[Path, Path]]
) -> None:
    one, two = twice("masks")
    told = [
        results(fullscale, jobs, "predict", trained_run, phantoms / "imagesTr", "-o", masks, "--probabilities")
        for jobs, masks in ((1, one), (2, two))
    ]
    paths = ("elapsed_s", "seconds", "mask", "masks", "prediction_file", "prediction", "reference")
    assert without(told[0], *paths) == without(told[1], *paths)
    assert files(one) == files(two)
    assert len(files(one)) == 6 * 3 + 1
    scores = [results(fullscale, jobs, "evaluate", one, phantoms / "labelsTr") for jobs in (1, 2)]
    assert scores[0] == scores[1]
    one, two = twice("tested")
    tested = [results(fullscale, jobs, "test", trained_run, phantoms, "-o", o) for jobs, o in ((1, one), (2, two))]
    assert without(tested[0], *paths) == without(tested[1], *paths)
    assert tested[0]["mean"] == scores[0]["mean"]
    masks = [arrays(one), arrays(two)]
    assert masks[0].keys() == masks[1].keys()
    assert all(np.array_equal(masks[0][name], masks[1][name]) for name in masks[0])
