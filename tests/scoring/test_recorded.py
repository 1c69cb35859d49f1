"""Masks are scored as the model that made them has their values, which predict records beside them."""

from pathlib import Path

import numpy as np
import pytest

from fullscale.bundle.card import read_card
from fullscale.data.labels import LabelScheme
from fullscale.data.volume_files import write_volume
from fullscale.errors import UsageError
from fullscale.geometry.volume import Volume
from fullscale.outputs import RECORD, claimed, held
from fullscale.scoring.evaluate import evaluate
from tests.conftest import Command

SHAPE = (8, 8, 4)


def volume(*boxes: tuple[int, int, int]) -> Volume:
    """Boxes of (value, from, to) along the first axis."""
    array = np.zeros(SHAPE, np.uint8)
    for value, low, high in boxes:
        array[low:high, 2:6] = value
    return Volume(array, np.diag([1.0, 1.0, 2.0, 1.0]))


def predicted(file: Path, mask: Volume, scheme: LabelScheme) -> None:
    with claimed([file], [], "predict", holds=scheme.as_dict()):
        write_volume(file, mask)


@pytest.mark.parametrize(
    ("scheme", "dice"),
    [
        (LabelScheme({1: "liver"}), {1: 1}),
        (LabelScheme({1: "liver", 2: "liver"}), {1: 0.75}),
        (LabelScheme({}, {"whole": (1, 2), "core": (2,)}), {1: 0.75, 2: 0.5}),
        (LabelScheme({1: "liver", 2: "spleen"}, ignore=3), {1: 1, 2: 1}),
    ],
)
def test_masks_are_scored_as_the_model_has_them(tmp_path: Path, scheme: LabelScheme, dice: dict[int, float]) -> None:
    write_volume(tmp_path / "truth/a.nii.gz", volume((1, 0, 2), (2, 2, 3), (3, 4, 8)))
    found = volume((1, 0, 2), (2, 2, 3), *([(2, 4, 6)] if 0.75 in dice.values() else []))  # two slabs too many of 2
    predicted(tmp_path / "masks/a.nii.gz", found, scheme)
    (case,) = evaluate(tmp_path / "masks", tmp_path / "truth").cases
    assert {label: scores["Dice"] for label, scores in case.metrics.items()} == pytest.approx(dice)
    (case,) = evaluate(tmp_path / "masks/a.nii.gz", tmp_path / "truth/a.nii.gz", {3: "other"}).cases
    assert list(case.metrics) == [3], "what is said counts"


def test_masks_of_models_of_different_structures_are_refused_until_it_is_said_what_to_score(tmp_path: Path) -> None:
    for name, scheme in (("a", LabelScheme({1: "liver"})), ("b", LabelScheme({1: "kidney"}))):
        write_volume(tmp_path / f"truth/{name}.nii.gz", volume((1, 0, 2)))
        predicted(tmp_path / f"masks/{name}.nii.gz", volume((1, 0, 2)), scheme)
    with pytest.raises(UsageError, match=r"of different structures \(liver and kidney\): say what to score"):
        evaluate(tmp_path / "masks", tmp_path / "truth")
    assert len(evaluate(tmp_path / "masks", tmp_path / "truth", {1: "either"}).cases) == 2


def test_a_damaged_record_says_nothing_and_another_command_takes_its_word_back(tmp_path: Path) -> None:
    file = tmp_path / "a.nii.gz"
    predicted(file, volume((1, 0, 2)), LabelScheme({1: "liver"}))
    assert LabelScheme.from_dict(held([file])[0]) == LabelScheme({1: "liver"})
    record = tmp_path / RECORD
    whole = record.read_text()
    record.write_text(whole.replace("liver", "lever"))
    assert held([file]) == []
    record.write_text(whole)
    with claimed([file], [], "phantom", overwrite=True):
        pass
    assert held([file, tmp_path / "other.nii.gz"]) == []


def test_predict_records_what_its_model_segments(
    trained_run: Path, phantoms: Path, tmp_path: Path, fullscale: Command
) -> None:
    done = fullscale("predict", trained_run, phantoms / "imagesTs", "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    scheme = read_card(trained_run / "bundle/model.json").scheme
    masks = [file for file in tmp_path.iterdir() if file.name != RECORD]
    assert [LabelScheme.from_dict(content) for content in held(masks)] == [scheme]
