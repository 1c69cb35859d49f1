"""Warnings of unfamiliar scans on real CT: one scan is enough to know another by, and HU + 1024 is noticed in each."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fullscale.data.distribution import IN_PLANE, PERCENTILES, distribution_of, measure, sample_voxels
from fullscale.data.labels import LabelScheme
from fullscale.data.read import read_image
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
            told = strange_scan({"image": scan}, trained, {"image"})
            assert len(told) == (ratio > FACTOR[IN_PLANE]), (one, told)
            shifted = Volume(scan.array.astype(np.float32) + 1024, scan.affine)
            assert any("intensities" in phrase for phrase in strange_scan({"image": shifted}, trained, {"image"}))
