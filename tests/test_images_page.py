"""The commands of docs/how-to/images.md, run as they stand there, with a training of a few steps."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import QUICK, Command
from tests.test_docs import commands_in

PAGE = Path(__file__).resolve().parents[1] / "docs" / "how-to" / "images.md"


@pytest.mark.slow
def test_the_page_on_images_does_what_it_says(
    fullscale: Command, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = PAGE.read_text()
    monkeypatch.chdir(tmp_path)
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], {})  # type: ignore[index]
    said = {}
    for words in commands_in(page):
        further = [*QUICK, "--cache", cache] if words[1] == "train" else []
        done = fullscale(*words[1:], *further)
        assert done.returncode == 0, (words, done.stderr)
        said[words[1]] = done.stdout + done.stderr
    assert "channels: red, green, blue" in said["inspect"]
    assert "spacing in px" in said["inspect"]
    assert "median px" in said["inspect"]
    assert re.search(r"disc\s+[\d,.]+ px", said["predict"])
    assert "HD95 px" in said["evaluate"]
    assert "Distances in px" in said["evaluate"]
    summary = json.loads(Path("scores/summary.json").read_text())
    for case in summary["metric_per_case"]:
        mask = np.asarray(Image.open(f"masks/{case['case']}.png"))
        truth = np.asarray(Image.open(f"DATA/masks/{case['case']}.png"))
        assert mask.shape == truth.shape == (96, 128)
        assert set(np.unique(mask)) <= {0, 255}
        scores = case["metrics"]["255"]
        assert scores["reference_volume_ml"] == (truth > 0).sum()  # pixels
        both = 2 * ((mask > 0) & (truth > 0)).sum() / ((mask > 0).sum() + (truth > 0).sum())
        assert scores["Dice"] == pytest.approx(both)
    report = Path("run/report.html").read_text()
    assert "HD95 px" in report
    assert " ml" not in report
    assert "Patient right" not in report


def test_the_tables_of_the_page_are_json() -> None:
    tables = re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert [set(json.loads(table)) for table in tables] == [{"colours"}, {"folder", "colours"}]
