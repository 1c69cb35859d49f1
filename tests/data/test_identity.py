"""Digests of cases: by content alone, remembered between runs, never trusted where anything changed."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from fullscale.data import identity
from fullscale.data.case import Case
from fullscale.data.identity import INDEX, DigestIndex, case_digest, content_files
from fullscale.errors import DataError
from tests.dicom_slices import write_series


@pytest.fixture(autouse=True)
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as settled as soon as they are written."""
    monkeypatch.setattr(identity, "_SETTLED_S", -1.0)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The volume files whose bytes were read."""
    read: list[Path] = []
    real = Path.open

    def noted(path: Path, *arguments: object, **options: object) -> object:
        if path.suffix == ".nii" and arguments == ("rb",):
            read.append(path)
        return real(path, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", noted)
    return read


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def make(folder: Path, image: bytes = b"image", label: bytes = b"label") -> Case:
    return Case.of_image("a", write(folder / "i.nii", image), write(folder / "l.nii", label), "a")


def test_equal_content_has_equal_digests_under_any_name(tmp_path: Path):
    index = DigestIndex(tmp_path)
    first = case_digest(make(tmp_path / "a"), index)
    other = Case.of_image("z", write(tmp_path / "z/patient9.nii", b"image"), write(tmp_path / "z/m.nii", b"label"), "z")
    assert case_digest(other, index) == first
    assert case_digest(Case.of_image("u", other.first, None, "u"), index).label is None
    changed = case_digest(make(tmp_path / "b", label=b"lobel"), index)
    assert (changed.image, changed.label == first.label) == (first.image, False)
    assert len({first.whole, changed.whole, case_digest(make(tmp_path / "c", image=b"imago"), index).whole}) == 3


def test_a_second_look_reads_no_file_and_verify_reads_all(tmp_path: Path, reads: list[Path]):
    case = make(tmp_path)
    first = case_digest(case, DigestIndex(tmp_path / "cache"))
    assert reads == [case.first, case.label]
    assert case_digest(case, DigestIndex(tmp_path / "cache")) == first
    assert len(reads) == 2
    assert case_digest(case, DigestIndex(tmp_path / "cache", verify=True)) == first
    assert len(reads) == 4


def test_a_file_rewritten_with_its_old_size_and_time_stamp_is_noticed(tmp_path: Path):
    case, index = make(tmp_path), DigestIndex(tmp_path / "cache")
    before, status = case_digest(case, index), case.first.stat()
    case.first.write_bytes(b"imago")  # in place: the inode stays too
    os.utime(case.first, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = case.first.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (status.st_size, status.st_mtime_ns, status.st_ino)
    for fresh in (index, DigestIndex(tmp_path / "cache")):
        assert case_digest(case, fresh).image != before.image


def test_a_file_that_has_only_just_changed_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(identity, "_SETTLED_S", 60.0)
    case_digest(make(tmp_path), DigestIndex(tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()


def test_bytes_that_change_under_equal_times_are_found_and_named_by_verify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(identity, "_state", lambda _: "0" * 32)  # a file system that tells nothing
    case = make(tmp_path)
    before = case_digest(case, DigestIndex(tmp_path / "cache"))
    case.first.write_bytes(b"imago")
    assert case_digest(case, DigestIndex(tmp_path / "cache")) == before
    assert case_digest(case, DigestIndex(tmp_path / "cache", verify=True)) != before
    assert "i.nii: its bytes changed while its size and times did not" in caplog.text
    assert case_digest(case, DigestIndex(tmp_path / "cache")) != before


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_index_never_gives_a_wrong_digest(tmp_path: Path, seed: int):
    cases = [make(tmp_path / str(n), b"image %d" % n, b"label %d" % n) for n in range(5)]
    right = [case_digest(case, DigestIndex(tmp_path)) for case in cases]
    content, rng = bytearray((tmp_path / INDEX).read_bytes()), np.random.default_rng(seed)
    for place in rng.integers(len(content), size=30):
        content[place] = rng.integers(256)
    (tmp_path / INDEX).write_bytes(content[: rng.integers(len(content) // 2, len(content))])
    assert [case_digest(case, DigestIndex(tmp_path)) for case in cases] == right
    assert len(identity._read_index(tmp_path / INDEX)) == 10


def test_the_index_names_no_file(tmp_path: Path):
    case_digest(make(tmp_path / "Doe^John"), DigestIndex(tmp_path))
    content = (tmp_path / INDEX).read_text()
    assert "Doe" not in content
    assert len(content.split()) == 8


def test_parallel_writers_lose_nothing(tmp_path: Path):
    cases = [make(tmp_path / str(n), b"image %d" % n, b"label %d" % n) for n in range(60)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda case: case_digest(case, DigestIndex(tmp_path)), cases))
    assert len(identity._read_index(tmp_path / INDEX)) == 120


def test_an_index_of_files_rewritten_again_and_again_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(identity, "_SPARE_LINES", 20)
    for n in range(40):
        case_digest(make(tmp_path, b"%d" % n), DigestIndex(tmp_path))
    assert len((tmp_path / INDEX).read_text().split("\n")) < 40
    assert len(identity._read_index(tmp_path / INDEX)) == 2


def test_a_cache_that_cannot_be_written_costs_the_memory_only(tmp_path: Path):
    (tmp_path / "cache").write_text("a file stands where the folder should be")
    case = make(tmp_path)
    assert case_digest(case, DigestIndex(tmp_path / "cache")) == case_digest(case, DigestIndex(None))


def test_slices_count_by_content_wherever_they_lie_and_are_named(tmp_path: Path):
    folder = write_series(tmp_path / "a" / "deep")
    before = case_digest(Case.of_image("a", tmp_path / "a", None, "a"), DigestIndex())
    (tmp_path / "b").mkdir()
    for n, file in enumerate(sorted(folder.iterdir())):
        shutil.copy(file, tmp_path / "b" / f"IM{99 - n}")
    assert case_digest(Case.of_image("b", tmp_path / "b", None, "b"), DigestIndex()) == before
    next((tmp_path / "b").iterdir()).write_bytes(b"other")
    assert case_digest(Case.of_image("b", tmp_path / "b", None, "b"), DigestIndex()) != before


def test_png_masks_that_change_places_are_another_label(tmp_path: Path):
    for name in ("s1", "s2", "s10"):
        write(tmp_path / "scan" / f"{name}.dcm", name.encode())
        write(tmp_path / "ground" / f"{name}.png", name.encode())
    case = Case.of_image("a", tmp_path / "scan", tmp_path / "ground", "a")
    first = case_digest(case, DigestIndex())
    (tmp_path / "ground" / "s10.png").rename(tmp_path / "ground" / "s11.png")
    assert case_digest(case, DigestIndex()) == first  # the order of the names is what counts
    (tmp_path / "ground" / "s11.png").rename(tmp_path / "ground" / "s0.png")
    swapped = case_digest(case, DigestIndex())
    assert (swapped.image, swapped.label == first.label) == (first.image, False)
    (tmp_path / "ground" / "s0.png").rename(tmp_path / "ground" / "s10.png")
    (tmp_path / "scan" / "s10.dcm").rename(tmp_path / "scan" / "s0.dcm")
    moved = case_digest(case, DigestIndex())
    assert (moved.image, moved.label == first.label) == (first.image, False)


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr", ".mha"])
def test_voxels_in_a_file_of_their_own_count(tmp_path: Path, suffix: str):
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 3, 4), np.int16)), str(path))
    before = case_digest(Case.of_image("a", path, None, "a"), DigestIndex())
    voxels = max(tmp_path.iterdir(), key=lambda file: file.suffix != suffix)
    assert set(content_files(path)) == {path, voxels}
    voxels.write_bytes(voxels.read_bytes()[:-1] + b"x")
    assert case_digest(Case.of_image("a", path, None, "a"), DigestIndex()) != before


@pytest.mark.parametrize("line", ["ElementDataFile = LIST\ns 1.raw\ns2.raw", "ElementDataFile = s%d.raw 1 2 1"])
def test_voxels_in_a_file_a_slice_count(tmp_path: Path, line: str):
    names = ("s 1.raw", "s2.raw") if "LIST" in line else ("s1.raw", "s2.raw")
    files = [write(tmp_path / name, name.encode()) for name in names]
    header = write(tmp_path / "scan.mhd", f"ObjectType = Image\n{line}\n".encode())
    assert content_files(header) == [header, *files]


def test_a_missing_file_is_named(tmp_path: Path):
    case = make(tmp_path)
    case.first.unlink()
    with pytest.raises(DataError, match=r"i\.nii: no such file or folder"):
        case_digest(case, DigestIndex())


def test_channels_that_change_places_are_another_case(tmp_path: Path) -> None:
    t1, t2 = write(tmp_path / "t1.nii", b"one"), write(tmp_path / "t2.nii", b"two")
    digests = {
        case_digest(Case("a", channels, None, "a"), DigestIndex()).image
        for channels in ({"t1": t1, "t2": t2}, {"t1": t2, "t2": t1}, {"t1": t1, "t2": t1}, {"t1": t1})
    }
    assert len(digests) == 4


def test_what_is_ignored_and_which_structures_were_drawn_are_part_of_the_label(tmp_path: Path):
    index, plain = DigestIndex(tmp_path), make(tmp_path / "a")
    view = write(tmp_path / "a/view.nii", b"view")
    seen = replace(plain, ignore=view)
    drawn = [replace(plain, labelled=names) for names in [("liver",), ("spleen",), ("liver", "spleen"), ()]]
    digests = {case_digest(case, index) for case in (plain, seen, *drawn)}
    assert len({digest.label for digest in digests}) == 6
    assert len({digest.image for digest in digests}) == 1
    assert case_digest(replace(plain, labelled=("spleen", "liver")), index) == case_digest(drawn[2], index)
    before = case_digest(seen, index)
    write(view, b"other")
    assert case_digest(seen, index) != before
