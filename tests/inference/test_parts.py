"""Connected parts, numbered a few planes at a time, against SciPy's, which numbers the whole mask at once."""

import numpy as np
import pytest
from scipy import ndimage

from fullscale.inference import parts
from fullscale.inference.parts import PartNumbers


@pytest.mark.parametrize("corners", [True, False])
@pytest.mark.parametrize("planes", [1, 2, 3, 50])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.3, 0.6, 1.0])
def test_the_same_numbers_as_of_the_whole(
    corners: bool, planes: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "_VOXELS_AT_ONCE", planes * 11 * 9)
    structure = ndimage.generate_binary_structure(3, 3 if corners else 1)
    for seed in range(5):
        mask = np.random.default_rng(seed).random((17, 11, 9)) < share
        whole, number = ndimage.label(mask, structure=structure)
        found = PartNumbers(mask, corners)
        np.testing.assert_array_equal(np.stack(list(found)), whole)
        assert found.number == number


def test_parts_that_meet_only_in_a_later_plane_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three arms that a bridge joins in the end; a fourth stays apart."""
    monkeypatch.setattr(parts, "_VOXELS_AT_ONCE", 1)
    mask = np.zeros((6, 9, 3), dtype=bool)
    mask[:, 0] = mask[1:, 2] = mask[2:, 4] = True
    mask[2:, 8] = mask[5, :5] = True
    found = PartNumbers(mask, corners=False)
    assert found.number == 2
    np.testing.assert_array_equal(np.stack(list(found)), ndimage.label(mask)[0])


def test_more_parts_than_a_byte_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_VOXELS_AT_ONCE", 40 * 40 * 2)
    mask = np.zeros((5, 40, 40), dtype=bool)
    mask[:, ::2, ::2] = True
    mask[2] = False
    np.testing.assert_array_equal(np.stack(list(PartNumbers(mask, corners=True))), ndimage.label(mask)[0])
