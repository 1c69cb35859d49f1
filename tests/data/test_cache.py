"""Prepared cases: keyed by content, never half-written, memory-mapped."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fullscale.data.cache import cache_summary, prepare_cases
from fullscale.data.case import Case
from fullscale.data.recipe import Intensity, Recipe
from fullscale.data.volume_files import write_volume
from fullscale.errors import DataError, FullscaleError, GeometryError
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
    assert first.image.shape == first.label.shape == (6, 10, 12)
    assert first.image.dtype == np.float16
    np.testing.assert_array_equal(first.voxels[:, 1], [0, 0, 16, 16, 0, 0])
    assert first.spacing_mm == (3, 1, 1)
    assert cache_summary([first])["slices"] == 6


def test_a_changed_file_recipe_or_label_set_is_prepared_again(case: Case, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    folders = {prepare_cases([case], RECIPE, LABELS, cache)[0].folder}
    folders.add(prepare_cases([case], RECIPE, {0: "background", 4: "a", 5: "b"}, cache)[0].folder)
    folders.add(prepare_cases([case], RECIPE.model_copy(update={"spacing_mm": 0.9}), LABELS, cache)[0].folder)
    other = Volume(np.zeros((12, 10, 6), dtype=np.int16), np.diag([1.0, 1, 3, 1]))
    before = case.image.stat()
    write_volume(case.image, other)
    os.utime(case.image, ns=(before.st_atime_ns, before.st_mtime_ns))
    [changed] = prepare_cases([case], RECIPE, LABELS, cache)
    folders.add(changed.folder)
    assert len(folders) == 4
    assert not changed.image.any()


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
case = Case.of_image("one", Path({str(case.image)!r}), Path({str(case.label)!r}), "one")
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
        prepare_cases([Case.of_image("one", case.image, None, "one")], RECIPE, LABELS, tmp_path / "cache")


def test_a_cache_that_cannot_be_written_is_named(case: Case, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file stands where the folder should be")
    with pytest.raises(FullscaleError, match="case one: cannot prepare it in"):
        prepare_cases([case], RECIPE, LABELS, tmp_path / "cache")
