"""Calibration: what is counted, the temperature that is fitted on it, and that no mask changes by it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from fullscale.bundle.card import CARD, read_card
from fullscale.bundle.trust import Calibration, Trust
from fullscale.data.labels import IGNORED, LabelScheme
from fullscale.data.recipe import Intensity, Recipe, slice_geometry
from fullscale.errors import DataError
from fullscale.geometry.volume import Volume
from fullscale.inference.combine import Combination
from fullscale.inference.predictor import Predictor
from fullscale.inference.trust.calibration import BINS, CENTRES, bins_of, calibrated, entropy_bits, fit_calibration
from fullscale.inference.trust.counts import LEAST, SEEN, Counting
from fullscale.inference.trust.evidence import Evidence
from fullscale.inference.trust.shape import Shape
from fullscale.inference.trust.watch import Slab
from fullscale.runfolder import RunFolder
from fullscale.scoring.summary import read_summary
from fullscale.training.postprocess import recorded_choice

RECIPE = Recipe(intensity=Intensity(per="scan"), spacing_mm=None, neighbours=0)
SCHEMES = {
    "one": LabelScheme({1: "liver"}),
    "classes": LabelScheme({1: "liver", 2: "spleen"}),
    "regions": LabelScheme({1: "edge", 2: "core"}, {"whole": (1, 2), "core": (2,)}),
}


@given(st.floats(0, 1, width=32), st.floats(0.2, 5))
def test_a_temperature_divides_the_log_odds_and_keeps_the_side_of_one_half(probability: float, by: float) -> None:
    found = float(calibrated(np.array([probability]), by)[0])
    assert found == pytest.approx(expit(logit(probability) / by), abs=1e-9)
    assert (found > 0.5) == (probability > 0.5)
    for fixed in (0.0, 0.5, 1.0):
        assert calibrated(np.array([fixed], dtype=np.float32), by)[0] == fixed


def test_entropy_is_a_bit_where_nothing_is_known_and_none_where_all_is() -> None:
    found = entropy_bits(np.array([0.0, 0.25, 0.5, 1.0], dtype=np.float32))
    assert found == pytest.approx([0, 0.811278, 1, 0], abs=1e-6)


def drawn(cases: int, temperature: float, seed: int = 0) -> np.ndarray:
    """Count voxels whose log-odds are `temperature` times too large: `[cases, truth, BINS]`."""
    rng = np.random.default_rng(seed)
    counts = np.zeros((cases, 2, BINS), dtype=np.int64)
    for case in counts:
        bins = rng.integers(20, BINS - 20, 20_000)
        truth = rng.random(len(bins)) < expit(CENTRES[bins] / temperature)
        np.add.at(case, (truth.astype(int), bins), 1)
    return counts


def test_the_temperature_that_voxels_were_drawn_with_is_found_and_the_error_falls() -> None:
    for temperature in (0.6, 1.0, 2.5):
        found = fit_calibration(drawn(10, temperature))
        assert found is not None
        assert found.temperature == pytest.approx(temperature, rel=0.02)
        assert found.ece_after < 0.006
        if temperature != 1:
            assert found.ece_before > 5 * found.ece_after
        assert sum(one.share for one in found.after) == pytest.approx(1)
        assert all(abs(one.predicted - one.observed) < 0.03 for one in found.after)
    assert fit_calibration(drawn(4, 2.0)) is None
    assert fit_calibration(np.concatenate([drawn(4, 2.0), np.zeros((3, 2, BINS), dtype=np.int64)])) is None


def test_each_case_counts_alike_however_many_voxels_it_has() -> None:
    counts = np.concatenate([drawn(5, 1.0), drawn(5, 3.0, seed=1)])
    found, larger = fit_calibration(counts), fit_calibration(counts * np.array([100] * 5 + [1] * 5)[:, None, None])
    assert found is not None
    assert found == larger


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("members", [1, 2])
def test_what_is_counted_is_what_a_loop_over_all_voxels_counts(name: str, members: int) -> None:
    scheme, rng = SCHEMES[name], np.random.default_rng(5)
    logits = [torch.tensor(rng.normal(0, 5, (6, scheme.channels, 9, 8)), dtype=torch.float32) for _ in range(members)]
    truth = np.zeros((6, 9, 8), dtype=np.uint8)
    truth[1:3, 3:5, 2:4] = scheme.classes - 1
    truth[4, 4, 4] = 1
    truth[5, :2] = IGNORED
    counting = Counting(scheme, truth, (5.0, 5.0, 5.0))
    counting.slab(_slab(scheme, [one[:4] for one in logits], slice(0, 4)))
    counting.slab(_slab(scheme, [one[2:] for one in logits], slice(2, 6)))  # a box that grew: slices 2, 3 once more
    counting.slab(_slab(scheme, [one[:2] for one in logits], slice(0, 2)))
    whole = _slab(scheme, logits, slice(0, 6))
    soft = scheme.of_structures(whole.combined.probabilities()).numpy()
    holding, classes = scheme.membership, whole.decided.numpy()
    expected = np.zeros_like(counting.together)
    for k, held in enumerate(holding):
        places = np.argwhere(held[np.where(truth == IGNORED, 0, truth)])
        low, high = places.min(axis=0) - 2, places.max(axis=0) + 2  # 10 mm
        for at in np.ndindex(truth.shape):
            p = soft[at[0], k, at[1], at[2]]
            near = all(a <= here <= b for a, here, b in zip(low, at, high, strict=True))
            if truth[at] != IGNORED and (near or p >= LEAST):
                expected[k, int(held[truth[at]]), int(held[classes[at]]), bins_of(np.array([p]))[0]] += 1
            if p >= LEAST:
                expected[k, SEEN, int(held[classes[at]]), bins_of(np.array([p]))[0]] += 1
    assert expected.sum() > 200
    assert np.abs(counting.together - expected).sum() <= 4  # a voxel on the edge of a bin may round to its neighbour
    assert (counting.together.sum(axis=-1) == expected.sum(axis=-1)).all()
    with_members = Counting(scheme)
    for number, one in enumerate(logits):
        with_members.member(slice(0, 6), number, one)
    alone, geometry = Counting(scheme), slice_geometry(Volume(np.zeros((8, 18, 6)), np.eye(4)), RECIPE)
    alone.slab(_slab(scheme, logits[:1], slice(0, 6)))
    for counting in (with_members, alone):
        counting.done(np.ones((6, 18, 8), dtype=np.uint8), geometry)
        [found, size], *_ = counting.of_members
        assert (found == alone.together).all()
        assert size == 2  # the members see half as many rows as the scan has


def _slab(scheme: LabelScheme, logits: list[torch.Tensor], where: slice) -> Slab:
    combined = Combination(scheme)
    for one in logits:
        combined.add(one)
    return Slab(where, combined, combined.decide())


def test_evidence_is_read_as_it_was_written_and_gives_the_dice_of_the_mask(tmp_path: Path) -> None:
    counts = np.zeros((2, 3, 2, BINS), dtype=np.int64)
    counts[0, 1, 1, 150], counts[0, 1, 0, 60], counts[0, 0, 1, 120], counts[0, 0, 0, 3] = 30, 10, 20, 1000
    evidence = Evidence(counts, [Shape(50, 2.0, 90.0, 0.8), None], [True, False])
    evidence.save(tmp_path / "evidence", "a case")
    found = Evidence.load(tmp_path / "evidence", "a case")
    assert (found.counts == counts).all()
    assert (found.shapes, found.known) == (evidence.shapes, evidence.known)
    assert (found.dice(0), found.dice(1)) == (60 / 90, 1.0)
    with pytest.raises(DataError, match="cannot read"):
        Evidence.load(tmp_path / "evidence", "another")
    [file] = (tmp_path / "evidence").iterdir()
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(DataError, match="delete it to learn from the other cases"):
        Evidence.load(tmp_path / "evidence", "a case")


def test_a_run_keeps_evidence_of_its_validation_cases_whose_dice_is_that_of_the_scores(trained_run: Path) -> None:
    fold = RunFolder(trained_run).fold(0)
    names = list(read_card(fold.bundle / CARD).structures)
    for case in read_summary(fold.summary).cases:
        evidence = Evidence.load(fold.evidence, case.case)
        for k, value in enumerate(names):
            assert evidence.dice(k) == pytest.approx(case.metrics[value]["Dice"])
            assert evidence.counts[k, 1].sum() == case.metrics[value]["n_ref"]
    recorded = recorded_choice(RunFolder(trained_run), [fold])
    assert recorded is not None
    assert recorded.trust == Trust()  # so few cases teach nothing
    assert read_card(trained_run / "bundle" / CARD).trust is None


def test_calibrated_probabilities_leave_every_mask_as_it_is(trained_run: Path, phantoms: Path, tmp_path: Path) -> None:
    shutil.copytree(trained_run / "bundle", tmp_path / "bundle")
    card = json.loads((tmp_path / "bundle" / CARD).read_text())
    names = list(read_card(tmp_path / "bundle" / CARD).structures.values())
    by = {name: 0.5 + k for k, name in enumerate(names)}
    fitted = {name: Calibration(temperature=t, cases=9, ece_before=0.2, ece_after=0.1) for name, t in by.items()}
    card["trust"] = Trust(calibration=fitted).model_dump(mode="json")
    (tmp_path / "bundle" / CARD).write_text(json.dumps(card))
    [scan] = (phantoms / "imagesTs").iterdir()
    plain, soft = Predictor.from_run(trained_run, "cpu").predict_probabilities(scan)
    same, warm = Predictor.from_run(tmp_path / "bundle", "cpu").predict_probabilities(scan)
    assert (plain.array == same.array).all()
    for name, temperature in by.items():
        expected = expit(logit(soft[name].array.astype(float)) / temperature)
        assert warm[name].array == pytest.approx(expected, abs=2e-3)
    card["trust"]["calibration"]["elbow"] = card["trust"]["calibration"][names[0]]
    (tmp_path / "bundle" / CARD).write_text(json.dumps(card))
    with pytest.raises(DataError, match="trust is for 'elbow'"):
        read_card(tmp_path / "bundle" / CARD)
