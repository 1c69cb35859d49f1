"""A true mask in colours is drawn by a table: that of its data set, or one that is given."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fullscale.data.layouts.images import table_beside
from fullscale.data.mask_images import parse_colours
from fullscale.errors import UsageError
from tests.conftest import Command

COLOURS = {"#ff0000": "artery", "#0000ff": "vein"}
GIVEN = "#ff0000=1,#0000ff=2"


def write(folder: Path) -> list[Path]:
    """An image, the label map of a prediction, and the truth in colours, which says the same."""
    labels = np.zeros((24, 32), np.uint8)
    labels[4:9, 4:20], labels[12:18, 6:14] = 1, 2
    drawn = np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255)], np.uint8)[labels]
    rng = np.random.default_rng(0)
    files = [folder / "set/images/a.png", folder / "found/a.png", folder / "set/masks/a.png"]
    for file, array in zip(files, (rng.integers(0, 255, (24, 32)).astype(np.uint8), labels, drawn), strict=True):
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(file)
    return files


def test_a_truth_in_colours_is_drawn_as_its_label_map_is(tmp_path: Path, fullscale: Command) -> None:
    scan, mask, truth = write(tmp_path)
    again = tmp_path / "truth.png"
    again.write_bytes(mask.read_bytes())
    plain = fullscale("overlay", scan, mask, again, "-o", tmp_path / "plain.png")
    assert plain.returncode == 0, plain.stderr
    refused = fullscale("overlay", scan, mask, truth, "-o", tmp_path / "refused.png")
    assert (refused.returncode, refused.stderr.count("\n")) == (3, 1)
    assert "is a mask in colours (#ff0000, #0000ff, #000000)" in refused.stderr
    assert "evaluate and overlay also take --colours '#ff0000=1'" in refused.stderr
    assert not (tmp_path / "refused.png").exists()
    table = tmp_path / "table.json"
    table.write_text(json.dumps({"folder": "set", "colours": COLOURS}))
    for name, given in (("given", GIVEN), ("apart", table)):
        shown = fullscale("overlay", scan, mask, truth, "-o", tmp_path / f"{name}.png", "--colours", given)
        assert shown.returncode == 0, shown.stderr
    (tmp_path / "set/dataset.json").write_text(json.dumps({"colours": COLOURS}))
    assert table_beside(truth) == {"#ff0000": 1, "#0000ff": 2}
    beside = fullscale("overlay", scan, mask, truth, "-o", tmp_path / "beside.png")
    assert beside.returncode == 0, beside.stderr
    expected = np.asarray(Image.open(tmp_path / "plain.png"))
    for name in ("given", "apart", "beside"):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / f"{name}.png")), expected)


def test_a_truth_in_colours_is_scored_as_its_label_map_is(tmp_path: Path, fullscale: Command) -> None:
    _, mask, truth = write(tmp_path)
    worse = np.asarray(Image.open(mask)).copy()
    worse[4:6] = 0
    found = tmp_path / "worse/a.png"
    found.parent.mkdir()
    Image.fromarray(worse).save(found)
    refused = fullscale("evaluate", found, truth)
    assert (refused.returncode, refused.stderr.count("\n")) == (3, 1)
    table = tmp_path / "table.json"
    table.write_text(json.dumps({"folder": "set", "colours": COLOURS}))
    scores = []
    for reference, options in (
        (mask, []),
        (truth, ["--colours", GIVEN]),
        (truth, ["--colours", table]),
        (truth.parent, ["--colours", GIVEN]),
    ):
        scored = fullscale("evaluate", found, reference, *options, "--json")
        assert scored.returncode == 0, scored.stderr
        scores.append(json.loads(scored.stdout)["metric_per_case"][0]["metrics"])
    assert scores[0]["1"]["Dice"] == pytest.approx(2 * 48 / (48 + 80))
    assert scores[0]["2"]["Dice"] == 1.0
    assert all(score == scores[0] for score in scores[1:])
    (tmp_path / "set/dataset.json").write_text(json.dumps({"colours": COLOURS}))
    beside = fullscale("evaluate", found, truth, "--json")
    assert json.loads(beside.stdout)["metric_per_case"][0]["metrics"] == scores[0], beside.stderr


def test_a_data_set_without_a_table_gives_none(tmp_path: Path, fullscale: Command) -> None:
    scan, mask, truth = write(tmp_path)
    refused = fullscale("evaluate", mask, truth, "--colours", scan.parent.parent)
    assert (refused.returncode, refused.stderr.count("\n")) == (3, 1)


@pytest.mark.parametrize("text", ["#ff0000", "#ff=1", "red=1", "#ff0000=x", "", "70000=1", "no/such/set"])
def test_a_table_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is neither a data set nor of the form"):
        parse_colours(text)
