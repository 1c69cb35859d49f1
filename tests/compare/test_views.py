"""Slices and patches in one comparison: the cases are looked at once, and each row is trained in its own view."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fullscale.compare.comparison import load_comparison
from fullscale.compare.results import gather
from fullscale.compare.run import Job, run_comparison
from fullscale.compare.tables import notes
from fullscale.data.phantom import write_dataset
from fullscale.runfolder import RunFolder


@pytest.mark.slow
def test_rows_of_both_views_are_scored_on_the_same_cases(cache: Path, tmp_path: Path) -> None:
    data, output = tmp_path / "data", tmp_path / "out"
    list(write_dataset(data, 5, seed=1, size=24, slices=20))
    comparison = load_comparison(
        None,
        rows=[
            {"name": "slices", "settings": {"data.view": "slices", "network.name": "unet"}},
            {"name": "patches", "settings": {"data.view": "patches", "network.name": "strided-unet"}},
        ],
        folds=1,
        steps_each=2,
        settings={"network.width": 4, "data.workers": 0, "trainer.device": "cpu"},
    )
    job = Job(data, output, comparison, cache=cache)
    first = gather(comparison, run_comparison(job))
    assert [line.crop for line in first.lines] == [(32, 32), (20, 24, 24)]
    assert first.lines[0].by_case.keys() == first.lines[1].by_case.keys()
    assert "GMAC: one crop of 32x32 or 20x24x24" in notes(first)[0]
    views = [json.loads(RunFolder(output / name).plan.read_text())["view"]["value"] for name in ("slices", "patches")]
    assert views == ["slices", "patches"]
    again = gather(comparison, run_comparison(job))  # nothing is trained anew
    assert [line.by_case for line in again.lines] == [line.by_case for line in first.lines]
    side_by_side = replace(job, output=tmp_path / "jobs", jobs=2)
    both = gather(comparison, run_comparison(side_by_side))
    assert [line.by_case.keys() for line in both.lines] == [line.by_case.keys() for line in first.lines]
    assert not both.failed
