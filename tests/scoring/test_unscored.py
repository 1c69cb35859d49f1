"""What cannot be scored: named, and the other cases are scored."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fullscale.errors import DataError, GeometryError
from fullscale.geometry.volume import Volume
from fullscale.scoring.evaluate import evaluate, score_case
from tests.masks import AFFINE, cube, write_mask, write_shifted


def write_negative(path: Path) -> None:
    write_mask(path, cube().astype(np.int16) - 1)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: write_mask(path, cube()[:-1]), r"shapes differ: \(11, 10, 8\) and \(12, 10, 8\).*2\.5 mm"),
        (write_shifted, r"affines differ by up to 0\.5 mm.*stored RAS"),
        (lambda path: write_mask(path, cube() * np.float32(0.5)), "whole numbers"),
        (write_negative, "label -1"),
        (lambda path: path.write_text("no mask"), "NIfTI|read"),
        (lambda path: path.write_bytes(path.read_bytes()[:90]), "read"),
    ],
    ids=["other shape", "moved", "fractions", "negative label", "text file", "truncated"],
)
def test_a_case_that_cannot_be_scored_does_not_stop_the_others(
    folders: tuple[Path, Path], spoil: Callable[[Path], None], message: str
) -> None:
    predictions, truth = folders
    spoil(predictions / "b.nii.gz")
    summary = evaluate(predictions, truth)
    assert [case.case for case in summary.cases] == ["a"]
    [failure] = summary.failures
    assert failure.case == "b"
    assert "\n" not in failure.message
    with pytest.raises(DataError, match=message) as error:
        evaluate(predictions / "b.nii.gz", truth)
    assert str(error.value) == failure.message


def test_other_grids_are_refused_with_both_geometries() -> None:
    other = Volume(cube(), np.diag([-2.0, 1.0, 2.5, 1.0]))
    with pytest.raises(GeometryError, match=r"prediction 12 x 10 x 8 .* 2 x 1 x 2\.5 mm, stored LAS; truth .*RAS"):
        score_case(other, Volume(cube(), AFFINE), [1])


def test_no_case_scored_is_an_error(folders: tuple[Path, Path]) -> None:
    predictions, truth = folders
    for name in ("a", "b"):
        write_shifted(predictions / f"{name}.nii.gz")
    with pytest.raises(DataError, match=r"none of 2 cases.*b: .*affines differ"):
        evaluate(predictions, truth)


@pytest.mark.parametrize(
    ("predictions", "truth", "message"),
    [
        ("nowhere", "truth", "nowhere: no such"),
        ("predictions", "nowhere", "nowhere: no such"),
        ("empty", "truth", "nothing to evaluate.*holds nothing, the truth a, b"),
        ("predictions", "empty", "empty"),
        ("predictions", "strangers", "nothing to evaluate.*a, b.*u, v, w and 1 more"),
        ("predictions/a.nii.gz", "strangers", "nothing to evaluate"),
    ],
)
@pytest.mark.usefixtures("folders")
def test_nothing_to_evaluate_is_one_clear_line(tmp_path: Path, predictions: str, truth: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    for name in "uvwx":
        write_mask(tmp_path / "strangers" / f"{name}.nii.gz")
    with pytest.raises(DataError, match=message):
        evaluate(tmp_path / predictions, tmp_path / truth)
