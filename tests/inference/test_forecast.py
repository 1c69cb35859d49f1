"""What a scan is expected to cost, said before the work; and fewer slices at once where memory is short."""

import copy
import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fullscale.bundle.card import ModelCard
from fullscale.bundle.rules import PostprocessRule
from fullscale.data.recipe import Intensity, Recipe
from fullscale.data.volume_files import read_volume
from fullscale.errors import DataError
from fullscale.geometry.volume import Volume
from fullscale.inference import forecast
from fullscale.inference.batch import find_scans, predict_scans
from fullscale.inference.forecast import Cost, cost_of, describe_forecast, fitted
from fullscale.inference.memory import needed_memory
from fullscale.inference.predictor import Predictor, view_of
from fullscale.inference.trust.watch import Probabilities, Uncertainty


def test_where_memory_is_short_fewer_slices_are_computed_at_once_and_the_mask_is_the_same(
    predictor: Predictor, scan: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    height, width = predictor._prepared({"image": scan})[0].shape[2:]
    cost = Cost(seconds=(1e-6,), maps=1000.0)
    needed = needed_memory(scan, [predictor.card])  # type: ignore[list-item]
    monkeypatch.setattr(forecast, "available_memory", lambda: needed + 3 * height * width * 1000 + 1)
    smaller = fitted(predictor, scan, cost)
    assert (smaller.batch_size, predictor.batch_size) == (3, None)
    assert str(describe_forecast(smaller, scan, cost)).endswith("GiB of memory, 3 slices at once")
    np.testing.assert_array_equal(smaller.predict(scan).array, predictor.predict(scan).array)
    monkeypatch.setattr(forecast, "available_memory", lambda: needed)
    assert fitted(predictor, scan, cost).batch_size == 1, "one always: what the machine needs is not known to the byte"
    monkeypatch.setattr(forecast, "available_memory", lambda: needed + (1 << 40))
    assert fitted(predictor, scan, cost) is predictor
    assert fitted(predictor, scan, None) is predictor


def test_the_first_scan_is_forecast_in_a_line_and_no_other(
    predictor: Predictor, phantoms: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    [scan] = find_scans([phantoms / "imagesTs"])[0]
    scans = [scan, replace(scan, name="another")]
    with caplog.at_level(logging.INFO, "fullscale"):
        predict_scans(predictor, scans, tmp_path, tell=True)
        [line] = [record.getMessage() for record in caplog.records]
        predict_scans(predictor, scans, tmp_path)
    assert len(caplog.records) == 1
    shape = "x".join(map(str, read_volume(scan.path).shape))
    assert re.fullmatch(rf"{re.escape(str(scan.path))}: {shape} voxels, about \d+ s( and \d+\.\d GiB of memory)?", line)


def test_seconds_grow_with_the_voxels_and_the_members_and_a_box_takes_less(
    predictor: Predictor, trained_run: Path, scan: Volume
) -> None:
    voxels = predictor._prepared({"image": scan})[0].size
    one, two = Cost((100 / voxels,), None), Cost((100 / voxels, 50 / voxels), None)
    assert str(describe_forecast(predictor, scan, one)).endswith("voxels, about 100 s")
    both = Predictor(predictor.card, [*predictor.members, *predictor.members])
    assert str(describe_forecast(both, scan, two)).endswith("about 150 s")
    coarse = Predictor.from_run(trained_run, device="cpu", region="coarse")
    assert str(describe_forecast(coarse, scan, one)).endswith("about at most 100 s")


def test_of_tiles_each_voxel_counts_as_often_as_it_is_shown(scan: Volume) -> None:
    card = ModelCard(
        network="unet",
        options={"levels": 2, "width": 2, "spatial_dims": 3},
        labels={1: "structure"},
        recipe=Recipe(intensity=Intensity(per="scan"), spacing_mm=None, view="patches", neighbours=0),
        tile_size=(16, 24, 32),
        modality="CT",
    )
    predictor = Predictor.from_network(card, card.build(), "cpu")
    cost = cost_of(predictor)
    assert cost is not None
    assert 0 < cost.seconds[0] < 1e-3
    shown = []

    def count(image: Tensor) -> Tensor:
        shown.append(image.numel())
        return image

    for _ in view_of(card).maps(count, predictor._prepared({"image": scan})[0], torch.device("cpu")):
        pass
    said = describe_forecast(predictor, scan, Cost((1e-3,), None))
    assert said is not None
    assert said.endswith(f"about {round(sum(shown) * 1e-3)} s")
    smaller = copy.copy(predictor)
    smaller.batch_size = 1
    assert str(describe_forecast(smaller, scan, Cost((1e-3,), 1.0))).endswith("GiB of memory, 1 tile at once")


def test_post_processing_is_counted(predictor: Predictor, scan: Volume) -> None:
    name = next(iter(predictor.card.scheme.structures.values()))
    ruled = copy.copy(predictor)
    ruled.card = predictor.card.model_copy(update={"labels": {300: name}})
    ruled.rules = (PostprocessRule(structure=name, action="keep_largest"),)
    cost = cost_of(ruled)
    assert cost is not None
    assert cost.rules > 0
    said = describe_forecast(ruled, scan, Cost((0.0,), None, rules=100 / scan.array.size))
    assert str(said).endswith("about 100 s")


def test_a_model_is_measured_once(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    cost = cost_of(predictor)
    assert cost is not None
    assert 0 < cost.seconds[0] < 1e-3
    monkeypatch.setattr(forecast, "_measure", None)
    assert cost_of(predictor) is cost


def test_probabilities_are_counted_before_the_work(
    predictor: Predictor, scan: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two maps of float16 for each structure, and once more when they are put together."""
    scheme, needed = predictor.card.scheme, needed_memory(scan, [predictor.card])  # type: ignore[list-item]
    maps = 4 * len(scheme.structures) * scan.array.size
    monkeypatch.setattr("fullscale.inference.memory.available_memory", lambda: needed + maps - 1)
    predictor.predict(scan)
    with pytest.raises(DataError, match="leave out --probabilities and --uncertainty"):
        predictor.predict_probabilities(scan)
    assert Uncertainty(scheme, None).kept == 4
    assert Probabilities(scheme, None).kept == 4 * len(scheme.structures)


def test_what_post_processing_loads_is_not_counted(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[float] = []
    clock = iter((1.0, 1.5))
    monkeypatch.setattr(forecast, "apply_rules", lambda *_: begun.append(0.0))
    monkeypatch.setattr(forecast.time, "perf_counter", lambda: begun.append(1.0) or next(clock))
    ruled = copy.copy(predictor)
    ruled.rules = (PostprocessRule(structure="liver", action="keep_largest"),)
    assert forecast._seconds_of_rules(ruled) == pytest.approx(0.5 / (128 * 128 * 16))
    assert begun == [0.0, 1.0, 0.0, 1.0], "once before the clock starts"
