import json

import numpy as np
import pytest

from fullscale.errors import GeometryError
from fullscale.geometry.orientation import reorient
from fullscale.geometry.volume import Volume
from fullscale.metrics.presence import Guided, guidance_summary, presence_confusion, score_guided

AFFINE = np.diag([1.0, 1.0, 10.0, 1.0])


def truth() -> Volume:
    array = np.zeros((10, 10, 6), np.uint8)
    array[2:6, 2:6, 2:4] = 1
    return Volume(array, AFFINE)


def guided() -> Guided:
    """The network paints five slices; guidance allows three of them, one of which is empty in truth."""
    ungated = np.zeros((10, 10, 6), np.uint8)
    ungated[2:6, 2:6, 1:6] = 1
    predicted_present = np.array([False, True, True, True, False, False])
    return Guided(
        Volume(ungated * predicted_present.astype(np.uint8), AFFINE),
        Volume(ungated, AFFINE),
        predicted_present[:, None],
    )


def test_what_the_gate_changed_by_hand() -> None:
    metrics = score_guided("a", guided(), truth(), [1]).metrics[1]
    assert metrics["presence"] == {"present_found": 2, "present_missed": 0, "absent_invented": 1, "absent_found": 3}
    assert metrics["ungated"]["Dice"] == pytest.approx(2 * 32 / (80 + 32))
    assert metrics["gated"]["Dice"] == pytest.approx(2 * 32 / (48 + 32))
    assert [metrics[side]["FP"] for side in ("gated", "ungated")] == [16, 48]
    assert [metrics[side]["false_positive_slices"] for side in ("gated", "ungated")] == [1, 3]
    assert [metrics[side]["false_positive_slices_ml"] for side in ("gated", "ungated")] == pytest.approx([0.16, 0.48])


def test_slices_of_presence_run_from_feet_to_head_whatever_is_stored() -> None:
    predicted_present = np.array([[True], [False], [True], [False], [False], [True]])
    straight = presence_confusion(predicted_present, truth(), [1])
    assert straight[1] == {"present_found": 1, "present_missed": 1, "absent_invented": 2, "absent_found": 2}
    assert presence_confusion(predicted_present, reorient(truth(), "SLP"), [1]) == straight
    assert presence_confusion(predicted_present, reorient(truth(), "LPI"), [1]) == straight


def test_sums_over_cases_are_sums_and_an_structure_that_is_nowhere_has_no_dice() -> None:
    one = score_guided("a", guided(), truth(), [1])
    empty = Volume(np.zeros((10, 10, 6), np.uint8), AFFINE)
    other = score_guided("b", Guided(empty, empty, np.zeros((6, 1), bool)), empty, [1])
    content = guidance_summary([one, other], {1: "liver"})
    total = content["classes"]["1"]
    assert total["presence"]["absent_found"] == 3 + 6
    assert total["gated"]["FP"] == 16
    assert total["gated"]["Dice"] == one.metrics[1]["gated"]["Dice"]
    assert guidance_summary([other], {1: "liver"})["classes"]["1"]["gated"]["Dice"] is None
    assert [case["case"] for case in json.loads(json.dumps(content, allow_nan=False))["cases"]] == ["a", "b"]


def test_a_truth_on_another_grid_is_refused() -> None:
    moved = Volume(truth().array, np.diag([1.0, 1.0, 9.0, 1.0]))
    with pytest.raises(GeometryError, match="prediction and truth"):
        score_guided("a", guided(), moved, [1])
