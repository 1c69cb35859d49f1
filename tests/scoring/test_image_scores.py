"""Scores of images: in pixels, in mm, through tables of colours and several masks."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from fullscale.data.layouts.find import find_dataset
from fullscale.errors import DataError
from fullscale.reporting.source import find_source, read_case
from fullscale.scoring.evaluate import evaluate
from fullscale.scoring.summary import read_summary, write_summary
from fullscale.scoring.tables import case_table

FOUND, TRUTH = np.zeros((2, 20, 30), np.uint8)
FOUND[5:10, 4:14], TRUTH[5:10, 7:17] = 255, 255  # 50 pixels each, 35 in common, 3 apart


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def test_two_masks_are_scored_in_pixels(tmp_path: Path):
    summary = evaluate(save(tmp_path / "a.png", FOUND), save(tmp_path / "b.gif", TRUTH))
    scores = summary.cases[0].metrics[255]
    assert summary.unit == "px"
    assert (scores["Dice"], scores["volume_ml"], scores["reference_volume_ml"]) == (0.7, 50, 50)
    assert scores["HD95"] == 3
    assert [head for head in case_table(summary).heads if " px" in head or head == "px"] == [
        *("HD95 px", "ASSD px", "px", "true px")
    ]
    write_summary(summary, tmp_path / "summary.json")
    sizes = [cell.text for row in case_table(summary).rows for cell in row[-3:-1]]
    assert len(sizes) == 2
    assert all(text.isdecimal() for text in sizes)
    assert read_summary(tmp_path / "summary.json").unit == "px"


def test_a_png_takes_the_pixel_size_of_the_tiff_that_it_is_a_mask_of(tmp_path: Path):
    fine = {"resolution": (20000, 20000), "resolutionunit": 3}  # 0.5 µm
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images/a.tif", TRUTH, **fine)
    save(tmp_path / "labels/a.png", TRUTH)
    save(tmp_path / "found/a.png", FOUND)
    summary = evaluate(tmp_path / "found", tmp_path)
    scores = summary.cases[0].metrics[255]
    assert summary.unit == "mm2"
    assert scores["HD95"] == pytest.approx(3 * 0.0005)
    assert scores["reference_volume_ml"] == pytest.approx(50 * 0.0005**2)


def test_images_in_pixels_and_in_mm_have_no_common_mean(tmp_path: Path):
    for name, resolution in (("a", (20000, 20000)), ("b", (0, 0)), ("c", (0, 0))):
        (tmp_path / "images").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / f"images/{name}.tif", TRUTH, resolution=resolution, resolutionunit=3)
        save(tmp_path / f"labels/{name}.png", TRUTH)
        save(tmp_path / f"found/{name}.png", FOUND)
    summary = evaluate(tmp_path / "found", tmp_path)
    assert summary.unit == "mm2"
    assert [failure.case for failure in summary.failures] == ["b", "c"]
    assert "its lengths are in px, those of a in mm" in summary.failures[0].message


def test_colours_and_several_masks_of_the_truth_reach_scores_and_pictures(tmp_path: Path):
    other = np.zeros_like(TRUTH)
    other[15:18, 2:6] = 255
    data = tmp_path / "data"
    save(data / "a (1).png", TRUTH + 1)
    save(data / "a (1)_mask.png", TRUTH)
    save(data / "a (1)_mask_1.png", other)
    (data / "dataset.json").write_text(json.dumps({"colours": {"255": "cell", "0": "membrane"}}))
    with pytest.raises(DataError, match="overlaps another mask of its image"):
        evaluate(save(tmp_path / "found/a (1).png", FOUND // 255), data)  # black is a structure in both masks
    (data / "dataset.json").write_text(json.dumps({"colours": {"255": "cell"}}))
    summary = evaluate(tmp_path / "found", data)
    assert summary.labels == {1: "cell"}
    assert summary.cases[0].metrics[1]["n_ref"] == 62
    write_summary(summary, tmp_path / "found/summary.json")
    source = find_source(tmp_path / "found/summary.json")
    truth = read_case(source, source.summary.cases[0]).truth
    assert (truth.array == 1).sum() == 62
    assert find_dataset(data).cases[0].colours == {"255": 1}
