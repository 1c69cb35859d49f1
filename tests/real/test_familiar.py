"""Warnings of unfamiliar scans on real CT: one scan is enough to know another by, and HU + 1024 is noticed in each."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fullscale.data.distribution import HEIGHT, IN_PLANE, PERCENTILES, distribution_of, measure, sample_voxels
from fullscale.data.image_files import COLOURS
from fullscale.data.labels import LabelScheme
from fullscale.data.lie import brightest_place
from fullscale.data.read import read_channels, read_image
from fullscale.geometry.orientation import axis_codes
from fullscale.geometry.volume import Volume
from fullscale.inference.familiar import FACTOR, strange_scan

CTS = {
    "lits": "lits/volume-0.nii.gz",
    "chaos": "chaos/CT/3/DICOM_anon",
    "totalsegmentator": "totalsegmentator/example_ct.nii.gz",
    "jpeg2000": "totalsegmentator/example_ct_dicom",
}


@pytest.fixture(scope="module")
def scans(shared_data: Path) -> dict[str, Volume]:
    return {name: read_image(shared_data / path) for name, path in CTS.items()}


def facts(name: str, scan: Volume) -> dict[str, Any]:
    measures = measure({"image": scan}, {"image": sample_voxels(scan)})
    return {
        "case": name,
        "channels": {"image": {"intensity_percentiles": [measures[percentile][0] for percentile in PERCENTILES]}},
        "shape": scan.shape,
        "spacing_mm": scan.spacing_mm,
        "orientation": axis_codes(scan.affine),
        "label_ml": {},
        "brightest": brightest_place(scan),
    }


def test_real_scans_are_alike_but_for_their_spacing_and_no_longer_when_shifted(scans: dict[str, Volume]) -> None:
    known = [facts(name, scan) for name, scan in scans.items()]
    for one in scans:
        trained = distribution_of(known, LabelScheme({1: "liver"}), {one})
        assert trained is not None
        for scan in scans.values():
            ratio = max(
                scan.spacing_mm[0] / trained.spans[IN_PLANE].low, trained.spans[IN_PLANE].high / scan.spacing_mm[0]
            )
            height = scan.shape[2] * scan.spacing_mm[2] / trained.spans[HEIGHT].low
            told = strange_scan({"image": scan}, trained, {"image"})
            expected = (ratio > FACTOR[IN_PLANE]) + (max(height, 1 / height) > FACTOR[HEIGHT])
            assert len(told) == expected, (one, told)
            shifted = Volume(scan.array.astype(np.float32) + 1024, scan.affine)
            assert any("intensities" in phrase for phrase in strange_scan({"image": shifted}, trained, {"image"}))


def test_real_scans_whose_front_is_called_their_back_are_told(scans: dict[str, Volume]) -> None:
    trained = distribution_of([facts(name, scan) for name, scan in scans.items()], LabelScheme({1: "liver"}), CTS)
    assert trained is not None
    for scan in scans.values():
        axis = axis_codes(scan.affine).translate(str.maketrans("P", "A")).index("A")
        over = Volume(np.flip(scan.array, axis).copy(), scan.affine)
        assert strange_scan({"image": scan}, trained, {"image"}) == []
        [told] = strange_scan({"image": over}, trained, {"image"})
        assert "of the way from back to front" in told


def test_a_ct_is_unlike_scans_of_the_hippocampus_in_spacing_and_field_of_view(
    scans: dict[str, Volume], shared_data: Path
) -> None:
    files = sorted((shared_data / "Task04_Hippocampus" / "imagesTr").glob("[!.]*.nii.gz"))[:20]
    known = [facts(file.name, read_image(file)) for file in files]
    trained = distribution_of(known, LabelScheme({1: "anterior"}), [file.name for file in files])
    assert trained is not None
    assert all(strange_scan({"image": read_image(file)}, trained, set()) == [] for file in files)
    told = strange_scan({"image": scans["lits"]}, trained, set())
    for words in ("slices 5 mm apart (trained: 1)", "mm a side (trained:", "375 mm from feet to head (trained:"):
        assert any(words in phrase for phrase in told), told


def test_a_retina_is_unlike_phantoms_of_ct(shared_data: Path, phantoms: Path) -> None:
    files = sorted((phantoms / "imagesTr").glob("*.nii.gz"))
    known = [facts(file.name, read_image(file)) for file in files]
    trained = distribution_of(known, LabelScheme({1: "liver"}), [file.name for file in files])
    retina = read_channels(dict.fromkeys(COLOURS, next((shared_data / "drive" / "training" / "images").iterdir())))
    told = strange_scan({"image": retina["green"]}, trained, {"image"})
    for words in ("voxels of 1 px within slices", "from feet to head", "its brightest part lies at"):
        assert any(words in phrase for phrase in told), told
