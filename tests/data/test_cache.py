"""Prepared cases: keyed by content, never half-written, memory-mapped."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fullscale.data import identity
from fullscale.data.cache import cache_summary, prepare_cases
from fullscale.data.case import Case
from fullscale.data.recipe import Intensity, Recipe
from fullscale.data.volume_files import write_volume
from fullscale.errors import DataError, FullscaleError, GeometryError, UsageError
from fullscale.geometry.volume import Volume

LABELS = {0: "background", 5: "structure"}
RECIPE = Recipe(intensity=Intensity(per="dataset", low=-100, high=100, mean=0, std=50), spacing_mm=None)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    rng = np.random.default_rng(0)
    scan = Volume(rng.integers(-200, 200, (12, 10, 6)).astype(np.int16), np.diag([1.0, 1, 3, 1]))
    mask = np.zeros(scan.shape, dtype=np.uint8)
    mask[2:6, 3:7, 2:4] = 5
    write_volume(tmp_path / "scan.nii.gz", scan)
    write_volume(tmp_path / "mask.nii.gz", scan.with_array(mask))
    return Case.of_image("one", tmp_path / "scan.nii.gz", tmp_path / "mask.nii.gz", "one")


def test_a_case_is_prepared_once_and_read_by_slices(case: Case, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    [first] = prepare_cases([case], RECIPE, LABELS, cache)
    stamp = (first.folder / "image.npy").stat().st_mtime_ns
    [second] = prepare_cases([case], RECIPE, LABELS, cache)
    assert second.folder == first.folder
    assert (second.folder / "image.npy").stat().st_mtime_ns == stamp
    assert isinstance(first.image, np.memmap)
    assert first.image.shape == (1, 6, 10, 12)
    assert first.label.shape == (6, 10, 12)
    assert first.image.dtype == np.float16
    assert first.vanished == ()
    np.testing.assert_array_equal(first.voxels[:, 1], [0, 0, 16, 16, 0, 0])
    assert first.spacing_mm == (3, 1, 1)
    assert cache_summary([first])["slices"] == 6


def test_a_changed_file_recipe_or_label_set_is_prepared_again(case: Case, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    folders = {prepare_cases([case], RECIPE, LABELS, cache)[0].folder}
    folders.add(prepare_cases([case], RECIPE, {0: "background", 4: "a", 5: "b"}, cache)[0].folder)
    folders.add(prepare_cases([case], RECIPE.model_copy(update={"spacing_mm": 0.9}), LABELS, cache)[0].folder)
    other = Volume(np.tile(np.int16([50, 0]), (12, 10, 3)), np.diag([1.0, 1, 3, 1]))
    before = case.first.stat()
    write_volume(case.first, other)
    os.utime(case.first, ns=(before.st_atime_ns, before.st_mtime_ns))
    [changed] = prepare_cases([case], RECIPE, LABELS, cache)
    folders.add(changed.folder)
    assert len(folders) == 4
    assert np.unique(changed.image).tolist() == [0, 1]


@pytest.mark.parametrize("values", [0, 300])
def test_a_scan_without_contrast_is_refused_by_case(case: Case, tmp_path: Path, values: int) -> None:
    flat = np.full((12, 10, 6), values, np.int16)
    flat[0, 0, 0] += 100 * (values > 0)  # all of it above the window of -100 to 100
    write_volume(case.first, Volume(flat, np.diag([1.0, 1, 3, 1])))
    with pytest.raises(DataError, match=r"case one: every voxel is the same after clipping at -100 and 100"):
        prepare_cases([case], RECIPE, LABELS, tmp_path / "cache")
    assert [p.name for p in (tmp_path / "cache").iterdir() if p.is_dir()] == []


def test_a_process_killed_while_preparing_leaves_nothing_to_trust(case: Case, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    script = f"""
import numpy, time
from pathlib import Path
from fullscale.data import cache
from fullscale.data.case import Case
from fullscale.data.recipe import Intensity, Recipe
save = numpy.save
def slow(path, array):
    save(path, array)
    print("written", flush=True)
    time.sleep(60)
numpy.save = slow
recipe = Recipe.model_validate_json('''{RECIPE.model_dump_json()}''')
case = Case.of_image("one", Path({str(case.first)!r}), Path({str(case.label)!r}), "one")
cache.prepare_cases([case], recipe, {LABELS}, Path({str(cache)!r}))
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "written"
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.1)
    assert not [p for p in cache.iterdir() if not p.name.startswith(".")]
    [prepared] = prepare_cases([case], RECIPE, LABELS, cache)
    assert (prepared.folder / "label.npy").is_file()


def test_a_mask_on_another_grid_is_refused_by_case(case: Case, tmp_path: Path) -> None:
    assert case.label is not None
    write_volume(case.label, Volume(np.ones((12, 10, 5), dtype=np.uint8), np.diag([1.0, 1, 3, 1])))
    with pytest.raises(GeometryError, match=r"case one: image and mask lie on different grids"):
        prepare_cases([case], RECIPE, LABELS, tmp_path / "cache")
    with pytest.raises(DataError, match="case one has no mask"):
        prepare_cases([Case.of_image("one", case.first, None, "one")], RECIPE, LABELS, tmp_path / "cache")


def test_a_cache_that_cannot_be_written_is_named(case: Case, tmp_path: Path) -> None:
    (tmp_path / "cache").symlink_to(tmp_path / "cache")
    with pytest.raises(FullscaleError, match="case one: cannot prepare it in"):
        prepare_cases([case], RECIPE, LABELS, tmp_path / "cache")


def test_a_file_in_the_place_of_the_cache_is_refused_in_one_line(case: Case, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file is a file, expected a folder to write into"):
        prepare_cases([case], RECIPE, LABELS, tmp_path / "file" / "cache")


def flip(path: Path, place: int) -> None:
    """Change one byte and set the old time stamp."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[place] ^= 0x40
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("name", ["image.npy", "label.npy", "case.json"])
@pytest.mark.parametrize("damage", ["first", "last", "cut", "empty", "gone"])
@pytest.mark.parametrize("settled_s", [-1.0, 2.0])
def test_a_damaged_cache_heals_itself(
    case: Case,
    tmp_path: Path,
    name: str,
    damage: str,
    settled_s: float,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(identity, "_SETTLED_S", settled_s)
    cache = tmp_path / "cache"
    [first] = prepare_cases([case], RECIPE, LABELS, cache)
    image, label = np.array(first.image), np.array(first.label)
    [first] = prepare_cases([case], RECIPE, LABELS, cache)
    assert caplog.text == ""
    file = first.folder / name
    if damage == "gone":
        file.unlink()
    elif damage in ("first", "last"):
        flip(file, 0 if damage == "first" else -2)
    else:
        file.write_bytes(file.read_bytes()[:-10] if damage == "cut" else b"")
    [healed] = prepare_cases([case], RECIPE, LABELS, cache)
    assert "case one: its files in the cache" in caplog.text
    np.testing.assert_array_equal(healed.image, image)
    np.testing.assert_array_equal(healed.label, label)
    np.testing.assert_array_equal(healed.voxels, first.voxels)
    assert [p.name for p in cache.iterdir() if p.name != identity.INDEX] == [healed.folder.name]


def test_a_second_run_reads_no_byte_of_scans_or_arrays_and_verify_reads_them_all(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "_SETTLED_S", -1.0)
    cache = tmp_path / "cache"
    prepare_cases([case], RECIPE, LABELS, cache)
    hashed: list[str] = []
    real = identity.hashlib.file_digest

    def noted(stream: Any, algorithm: Any) -> Any:
        hashed.append(Path(stream.name).name)
        return real(stream, algorithm)

    monkeypatch.setattr(identity.hashlib, "file_digest", noted)
    prepare_cases([case], RECIPE, LABELS, cache)
    assert hashed == []
    prepare_cases([case], RECIPE, LABELS, cache, verify=True)
    assert hashed == ["scan.nii.gz", "mask.nii.gz", "image.npy", "label.npy"]


def test_bytes_that_rot_in_the_cache_are_found_by_verify(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(identity, "_SETTLED_S", -1.0)
    monkeypatch.setattr(identity, "_state", lambda file: file.name)  # as a disk that rots: no time stamp changes
    cache = tmp_path / "cache"
    [first] = prepare_cases([case], RECIPE, LABELS, cache)
    right = np.array(first.label)
    flip(first.folder / "label.npy", -1)
    prepare_cases([case], RECIPE, LABELS, cache)
    assert caplog.text == ""
    [healed] = prepare_cases([case], RECIPE, LABELS, cache, verify=True)
    assert "damaged, it is prepared again" in caplog.text
    np.testing.assert_array_equal(healed.label, right)


def test_the_umask_decides_who_may_read_the_cache(case: Case, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        [prepared] = prepare_cases([case], RECIPE, LABELS, tmp_path / "cache")
    finally:
        os.umask(before)
    assert prepared.folder.stat().st_mode & 0o777 == 0o750
    assert {file.stat().st_mode & 0o777 for file in prepared.folder.iterdir()} == {0o640}


def test_names_that_lead_elsewhere_make_no_path(case: Case, tmp_path: Path) -> None:
    for name in ("../../evil", "/evil", "a" * 300, ".."):
        [prepared] = prepare_cases([Case.of_image(name, case.first, case.label)], RECIPE, LABELS, tmp_path / "cache")
        assert (prepared.id, prepared.folder.parent) == (name, tmp_path / "cache")


def test_structures_that_are_too_small_for_the_spacing_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labels = np.zeros((32, 32, 16), dtype=np.uint8)
    labels[4:20, 4:20, 2:14] = 5
    labels[25, 25, 8] = 4
    scan = np.random.default_rng(0).normal(size=labels.shape).astype(np.float32)
    for name, array in {"scan": scan, "mask": labels}.items():
        write_volume(tmp_path / f"{name}.nii.gz", Volume(array, np.eye(4)))
    case = Case.of_image("one", tmp_path / "scan.nii.gz", tmp_path / "mask.nii.gz", "one")
    recipe = RECIPE.model_copy(update={"spacing_mm": (4.0, 4.0, 4.0), "view": "patches", "neighbours": 0})
    for _ in range(2):  # said again when the case is found prepared
        caplog.clear()
        [prepared] = prepare_cases([case], recipe, {0: "background", 4: "dot", 5: "block"}, tmp_path / "cache")
        assert prepared.vanished == ("dot",)
        assert "1 of 1 cases lose a structure that is too small for the spacing of the plan: one (dot)" in caplog.text
    assert prepared.label.shape == (4, 8, 8)
    assert prepared.spacing_mm == (4, 4, 4)


def test_what_a_killed_process_left_is_swept_by_the_next(case: Case, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    code = (
        "import os, sys; from pathlib import Path; from fullscale.data.cache import _new_folder\n"
        "with _new_folder(Path(sys.argv[1]) / 'x') as temporary:\n"
        "    (temporary / 'image.npy').write_text('half'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(cache)], check=False)
    [left] = cache.iterdir()
    assert left.name.startswith(".writing-")
    [prepared] = prepare_cases([case], RECIPE, LABELS, cache)
    assert [p.name for p in cache.iterdir() if p.name != identity.INDEX] == [prepared.folder.name]
