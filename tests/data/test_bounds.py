"""Sizes that a header claims are checked against the file and the memory before anything is allocated."""

import gzip
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from tests.dicom_slices import refusal, slice_hu, slice_position, write_series, write_slice

from fullscale.data import bounds
from fullscale.data.bounds import human_size, require_room
from fullscale.data.volume_files import read_volume, write_volume
from fullscale.errors import DataError
from fullscale.geometry.volume import Volume

HUGE = (2048, 2048, 1024)
"""4 GiB of uint8, beyond what any file may become."""
PEAK = """
import resource, sys
from pathlib import Path
from fullscale.data.read import read_image
from fullscale.errors import DataError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_image(Path(sys.argv[1]))
except DataError as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)
"""


def refused(path: Path) -> str:
    """What is said when a file is read by a process of its own, which may grow by no more than 64 MiB."""
    done = subprocess.run([sys.executable, "-c", PEAK, path], capture_output=True, text=True, timeout=60, check=True)
    grown_kib, _, text = done.stdout.strip().partition(" ")
    assert int(grown_kib) < 64 << 10
    assert "\n" not in text
    assert str(path) in text
    return text


def zeros(count: int, window_bits: int) -> bytes:
    """Compress zeros without holding them: after a full flush equal input gives equal output."""
    packer, chunk = zlib.compressobj(9, zlib.DEFLATED, window_bits), bytes(1 << 20)
    first, further = (packer.compress(chunk) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + further * ((count >> 20) - 1) + packer.flush()


def nifti_header(shape: tuple[int, ...]) -> bytes:
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.uint8)
    header.set_sform(np.eye(4), 1)
    header["magic"], header["vox_offset"] = b"n+1", 352
    return header.binaryblock + bytes(4)


def meta_header(shape: tuple[int, ...], body: bytes, compressed: bool = True) -> bytes:
    size = " ".join(map(str, shape))
    lines = ["ObjectType = Image", "NDims = 3", "BinaryData = True", "BinaryDataByteOrderMSB = False"]
    lines += [f"CompressedData = {compressed}", *([f"CompressedDataSize = {len(body)}"] if compressed else [])]
    lines += ["TransformMatrix = 1 0 0 0 1 0 0 0 1", "Offset = 0 0 0", "ElementSpacing = 1 1 1", f"DimSize = {size}"]
    return "\n".join([*lines, "ElementType = MET_UCHAR", "ElementDataFile = LOCAL\n"]).encode() + body


def nrrd_header(shape: tuple[int, ...], encoding: str) -> bytes:
    size = " ".join(map(str, shape))
    lines = ["NRRD0004", "type: uint8", "dimension: 3", "space: left-posterior-superior", f"sizes: {size}"]
    lines += ["space directions: (1,0,0) (0,1,0) (0,0,1)", "endian: little", f"encoding: {encoding}"]
    return ("\n".join([*lines, "space origin: (0,0,0)"]) + "\n\n").encode()


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha"])
def test_a_small_file_that_claims_gigabytes_is_refused_before_they_are_taken(tmp_path: Path, name: str):
    contents = {
        "a.nii": nifti_header(HUGE),
        "a.nii.gz": gzip.compress(nifti_header(HUGE)),
        "a.nrrd": nrrd_header(HUGE, "raw"),
        "a.mha": meta_header(HUGE, b"", compressed=False),
    }
    (tmp_path / name).write_bytes(contents[name])
    assert "states 4 GiB, but" in refused(tmp_path / name)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha"])
def test_gigabytes_of_zeros_in_a_few_megabytes_are_refused(tmp_path: Path, name: str):
    count = int(np.prod(HUGE))
    packed = {
        "a.nii.gz": gzip.compress(nifti_header(HUGE)) + zeros(count, 31),
        "a.nrrd": nrrd_header(HUGE, "gzip") + zeros(count, 31),
        "a.mha": meta_header(HUGE, zeros(count, 15)),
    }
    (tmp_path / name).write_bytes(packed[name])
    assert "more than 100 to 1 is no scan" in refused(tmp_path / name)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha"])
def test_far_more_bytes_than_the_header_states_are_refused(tmp_path: Path, name: str):
    shape, count = (4, 4, 4), 40 << 20
    packed = {
        "a.nii.gz": gzip.compress(nifti_header(shape)) + zeros(count, 31),
        "a.nrrd": nrrd_header(shape, "gzip") + zeros(count, 31),
        "a.mha": meta_header(shape, zeros(count, 15)),
    }
    (tmp_path / name).write_bytes(packed[name])
    assert any(said in refused(tmp_path / name) for said in ("goes on for more than", "holds more than the 64 bytes"))


def test_a_mask_of_zeros_is_no_bomb(tmp_path: Path):
    for name in ("a.nii.gz", "a.nrrd", "a.mha"):
        write_volume(tmp_path / name, Volume(np.zeros((256, 256, 200), np.uint8), np.eye(4)))
        assert (tmp_path / name).stat().st_size < 100_000
        assert not read_volume(tmp_path / name).array.any()


@pytest.mark.parametrize("syntax", [None, pydicom.uid.RLELossless])
def test_a_dicom_header_that_claims_65535_rows_and_columns_is_refused(tmp_path: Path, syntax: str | None):
    folder = write_series(tmp_path / "scan")
    for file in folder.iterdir():
        dataset = pydicom.dcmread(file)
        if syntax is not None:
            dataset.compress(syntax, generate_instance_uid=False)
        dataset.Rows = dataset.Columns = 65535
        dataset.save_as(file)
    assert "states 40 GiB, but" in refused(folder)


def test_a_zip_of_zeros_is_refused_by_what_it_would_become(tmp_path: Path):
    write_slice(tmp_path / "a.dcm", slice_hu(0), slice_position(0))
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "a.dcm", "a.dcm")
    content = (tmp_path / "bomb.zip").read_bytes()
    size = (tmp_path / "a.dcm").stat().st_size
    claimed = content.replace(struct.pack("<I", size), struct.pack("<I", 3 << 30))
    (tmp_path / "bomb.zip").write_bytes(claimed)
    assert "the zip states 3 GiB, but" in refused(tmp_path / "bomb.zip")


def test_only_as_much_of_a_zip_is_unpacked_as_is_read(tmp_path: Path):
    folder = write_series(tmp_path / "scan")
    with zipfile.ZipFile(tmp_path / "scan.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
        archive.writestr("film.avi", bytes(300 << 20))
    code = PEAK.replace("except DataError as error:\n    print(", "finally:\n    error = 'read'\n    print(")
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "scan.zip"], capture_output=True, text=True, timeout=60, check=True
    )
    assert int(done.stdout.split()[0]) < 64 << 10


def test_what_does_not_fit_into_the_free_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_volume(tmp_path / "a.nii", Volume(np.zeros((10, 10, 10), np.uint8), np.eye(4)))
    monkeypatch.setattr(bounds, "available_memory", lambda: 99)
    with pytest.raises(DataError, match=r"states 1000 bytes, more than the 99 bytes of memory that are free"):
        read_volume(tmp_path / "a.nii")
    assert "of memory that are free" in refusal(write_series(tmp_path / "scan"))


def test_the_bound_itself():
    require_room(bounds.ALWAYS_ALLOWED, 1, "it")
    with pytest.raises(DataError, match="it states 2 GiB, but 1 bytes are stored"):
        require_room(bounds.ALWAYS_ALLOWED + 1, 1, "it")
    assert [human_size(n) for n in (3, 2048, 5 << 20, 3 << 30)] == ["3 bytes", "2 KiB", "5 MiB", "3 GiB"]
