"""Segments that overlap: written as bits, and read back by others voxel by voxel."""

from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest

from fullscale.data.dicom.seg import require_sources, write_seg
from fullscale.data.labels import LabelScheme
from fullscale.errors import DataError, UsageError
from fullscale.geometry.placing import place_labels
from fullscale.geometry.volume import Volume
from tests.data.dicom.test_seg import ALGORITHM, complaints, write_scan

TUMOUR = LabelScheme({}, {"tumour": (1, 2, 3), "tumour core": (1, 3), "enhancing": (3,)})


def test_every_region_is_a_segment_of_its_own(tmp_path: Path):
    scan = write_scan(tmp_path / "scan")
    labels = scan.with_array(np.random.default_rng(1).integers(0, 4, scan.shape).astype(np.uint8))
    assert require_sources(scan, TUMOUR, ALGORITHM) == []
    write_seg(tmp_path / "seg.dcm", labels, TUMOUR, ALGORITHM)
    assert complaints(tmp_path / "seg.dcm") == []
    header = pydicom.dcmread(tmp_path / "seg.dcm")
    assert header.SegmentationType == "BINARY"
    assert [segment.SegmentLabel for segment in header.SegmentSequence] == list(TUMOUR.regions)
    found = hd.seg.segread(tmp_path / "seg.dcm").get_volume(combine_segments=False)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ found.affine @ np.eye(4)[[2, 1, 0, 3]]
    for k, values in enumerate(TUMOUR.regions.values()):
        segment = place_labels(Volume(found.array[..., k].transpose(2, 1, 0), affine), scan)
        np.testing.assert_array_equal(segment.array, np.isin(labels.array, values))


def test_a_labelmap_cannot_hold_them_and_a_stranger_is_named(tmp_path: Path):
    scan = write_scan(tmp_path / "scan")
    labels = scan.with_array(np.full(scan.shape, 7, np.uint8))
    with pytest.raises(UsageError, match="structures that overlap"):
        write_seg(tmp_path / "seg.dcm", labels, TUMOUR, ALGORITHM, "labelmap")
    with pytest.raises(DataError, match=r"hold the values \[7\]"):
        write_seg(tmp_path / "seg.dcm", labels, TUMOUR, ALGORITHM)
    assert not (tmp_path / "seg.dcm").exists()
