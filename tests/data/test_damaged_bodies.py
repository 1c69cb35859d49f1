"""Voxels that were damaged or cut on disk are noticed: by checksum where there is one, by length everywhere."""

import gzip
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from fullscale.data.volume_files import read_volume, write_volume
from fullscale.errors import DataError
from fullscale.geometry.volume import Volume
from tests.bombs import meta_header, nrrd_header

VOLUME = Volume(np.random.default_rng(3).integers(0, 3, (24, 20, 16)).astype(np.uint8), np.eye(4))


def body_start(content: bytes, name: str) -> int:
    marks = {"a.mha": b"ElementDataFile = LOCAL\n", "a.nrrd": b"\n\n"}
    return content.index(marks[name]) + len(marks[name]) if name in marks else 20


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha"])
def test_no_flipped_byte_of_a_compressed_body_is_read_as_another_mask(tmp_path: Path, name: str):
    path = tmp_path / name
    write_volume(path, VOLUME)
    whole = path.read_bytes()
    random, start, refused = np.random.default_rng(8), body_start(whole, name), 0
    for position in random.integers(start, len(whole), 60):
        damaged = bytearray(whole)
        damaged[position] ^= int(random.integers(1, 256))
        path.write_bytes(bytes(damaged))
        caught: DataError | None = None
        try:
            np.testing.assert_array_equal(read_volume(path).array, VOLUME.array)
        except DataError as error:
            caught = error
        refused += caught is not None
        assert caught is None or (str(caught).startswith(f"{path}: ") and "\n" not in str(caught))
    assert refused > 50


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha"])
def test_a_compressed_body_that_ends_early_is_refused_wherever_it_ends(tmp_path: Path, name: str):
    path = tmp_path / name
    write_volume(path, VOLUME)
    whole = path.read_bytes()
    for length in np.linspace(body_start(whole, name), len(whole) - 1, 25).astype(int):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"^[^\n]*cannot be read[^\n]*$"):
            read_volume(path)


@pytest.mark.parametrize("kind", ["mha", "mhd", "nrrd", "nhdr", "nii"])
@pytest.mark.parametrize("short", [1, 500])
def test_a_plain_body_that_is_too_short_is_refused_with_the_numbers(tmp_path: Path, kind: str, short: int):
    image = sitk.GetImageFromArray(VOLUME.array.T)
    path = tmp_path / f"a.{kind}"
    sitk.WriteImage(image, str(path), False)
    body = next(file for file in tmp_path.iterdir() if file != path) if kind in ("mhd", "nhdr") else path
    np.testing.assert_array_equal(read_volume(path).array, VOLUME.array)
    body.write_bytes(body.read_bytes()[:-short])
    with pytest.raises(DataError, match=r"^[^\n]*cannot be read[^\n]*$"):
        read_volume(path)


@pytest.mark.parametrize("name", ["a.mhd", "a.nhdr"])
def test_a_header_without_its_body_says_which_file_is_missing(tmp_path: Path, name: str):
    sitk.WriteImage(sitk.GetImageFromArray(VOLUME.array.T), str(tmp_path / name), True)
    body = next(file for file in tmp_path.iterdir() if file.name != name)
    assert read_volume(tmp_path / name).shape == VOLUME.shape
    damaged = bytearray(body.read_bytes())
    damaged[len(damaged) // 2] ^= 0x55
    body.write_bytes(bytes(damaged))
    with pytest.raises(DataError, match="cannot be read"):
        read_volume(tmp_path / name)
    body.unlink()
    with pytest.raises(DataError, match=f"its voxels are in {body.name}, which is not beside it"):
        read_volume(tmp_path / name)


def test_plain_and_compressed_bodies_of_our_own_making_are_read(tmp_path: Path):
    voxels = VOLUME.array.tobytes(order="F")
    contents = {
        "plain.mha": meta_header(VOLUME.shape, voxels, compressed=False),
        "packed.mha": meta_header(VOLUME.shape, zlib.compress(voxels)),
        "plain.nrrd": nrrd_header(VOLUME.shape, "raw") + voxels,
        "packed.nrrd": nrrd_header(VOLUME.shape, "gzip") + gzip.compress(voxels),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        np.testing.assert_array_equal(read_volume(tmp_path / name).array, VOLUME.array)


def test_the_libraries_print_nothing_of_their_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    for n, text in enumerate(
        (
            b"ObjectType = Image\nNDims = 3\nDimSize = 4 4\nElementDataFile = LOCAL\n",
            b"ObjectType = Nothing\nNDims = three\n",
            b"NDims = 3\nDimSize = 4 4 4\nElementType = MET_UCHAR\nElementSpacing = 1 1 1\n"
            b"Offset = 0 0 0\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nElementDataFile = LIST\nabsent.raw\n",
        )
    ):
        for suffix in (".mha", ".nrrd"):
            path = tmp_path / f"{n}{suffix}"
            path.write_bytes(text)
            with pytest.raises(DataError):
                read_volume(path)
    assert capfd.readouterr() == ("", "")
