"""The expected Dice of a mask, the width of its boundary, and how predict tells them."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from fullscale.bundle.card import CARD, read_card
from fullscale.bundle.trust import Calibration, Evaluated, Quality, Trust
from fullscale.data.labels import LabelScheme
from fullscale.data.read import read_image, read_label
from fullscale.inference.predictor import Predictor
from fullscale.inference.trust import quality as module
from fullscale.inference.trust.assess import assess, boundary_mm
from fullscale.inference.trust.calibration import BINS, bins_of, entropy_bits
from fullscale.inference.trust.counts import Counting
from fullscale.inference.trust.quality import OTHERS, UNUSUAL, Features, expected_dice, features_of, fit_quality
from fullscale.inference.trust.shape import Shape, shape_of, shapes_of
from tests.conftest import Command


def ball(size: int, radius: float, spacing: tuple[float, float, float]) -> np.ndarray:
    """Signed distance to the surface of a ball, positive within."""
    axes = [(np.arange(round(size / step)) + 0.5) * step - size / 2 for step in spacing]
    return radius - np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 0.8, 1.0)])
def test_the_surface_of_a_ball_is_that_of_the_formula(spacing: tuple[float, float, float]) -> None:
    shape = shape_of(ball(50, 20.0, spacing) > 0, spacing)
    assert shape.area_mm2 == pytest.approx(4 * math.pi * 20**2, rel=0.03)
    assert shape.voxels * shape.voxel_mm3 == pytest.approx(4 / 3 * math.pi * 20**3, rel=0.01)
    disc = np.hypot(*np.mgrid[-24.5:25, -24.5:25]) < 20
    assert shape_of(disc[None], (3.0, 1.0, 1.0), flat=True).area_mm2 == pytest.approx(2 * math.pi * 20 * 3, rel=0.03)


def test_shapes_of_all_structures_come_from_their_own_voxels() -> None:
    scheme = LabelScheme({1: "edge", 2: "core"}, {"whole": (1, 2), "core": (2,)})
    classes = np.zeros((4, 6, 6), dtype=np.uint8)
    classes[0:2, 0:3, 0:2], classes[3, 5, 5] = 1, 1
    whole, core = shapes_of(classes, scheme, (2.0, 1.0, 1.0))
    assert core is None
    assert whole == Shape(13, 2.0, (2 * 6 * 1 + 2 * 8 + 2 * 12 + 2 + 4 * 2) / 1.5, 12 / 13)


@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_a_boundary_is_as_wide_as_it_was_drawn(temperature: float) -> None:
    for sharpness in (0.7, 1.5):
        odds = ball(60, 20.0, (1.0, 1.0, 1.0)) / sharpness
        probabilities = expit(odds)
        counts = np.zeros((2, BINS), dtype=np.int64)
        np.add.at(counts, ((odds > 0).astype(int).ravel(), bins_of(probabilities.ravel())), 1)
        found = boundary_mm(counts, shape_of(odds > 0, (1.0, 1.0, 1.0)), temperature)
        assert found == pytest.approx(2 * math.log(3) * sharpness * temperature, rel=0.05)


def drawn(cases: int, seed: int, noise: float = 0.01) -> tuple[list[Features], np.ndarray]:
    rng = np.random.default_rng(seed)
    soft, size = rng.uniform(0.8, 0.95, cases), rng.normal(0, 1, cases)
    rows = [Features(s, (rng.normal(), v, rng.normal(), 0.0)) for s, v in zip(soft, size, strict=True)]
    return rows, soft - 0.06 + 0.02 * size + rng.normal(0, noise, cases)


def test_the_expected_dice_ranks_and_holds_cases_that_it_was_not_learned_from() -> None:
    rows, dice = drawn(60, seed=1)
    quality = fit_quality(rows, dice, 1.0)
    assert quality is not None
    assert quality.evaluated.spearman is not None
    assert quality.evaluated.spearman > 0.9
    assert quality.evaluated.mean_error < 0.4 * quality.evaluated.spread
    new, truth = drawn(500, seed=2)
    told = np.array([expected_dice(quality, row) for row in new])
    assert np.abs(told[:, 0] - truth).mean() < 0.011
    assert (told[:, 1] <= told[:, 0]).all()
    assert Quality.model_validate_json(quality.model_dump_json()) == quality
    assert fit_quality(rows[:19], dice[:19], 1.0) is None
    assert fit_quality(rows[:20], dice[:20], 1.0) is not None


def test_the_interval_holds_the_share_that_it_promises_over_many_trainings() -> None:
    held, said = [], []
    for seed in range(30):
        quality = fit_quality(*drawn(40, seed), 1.0)
        assert quality is not None
        said.append(quality.evaluated.coverage)
        for row, dice in zip(*drawn(50, seed + 1000), strict=True):
            _, low, high = expected_dice(quality, row)
            held.append(low <= dice <= high)
    assert np.mean(held) == pytest.approx(0.9, abs=0.03)
    assert np.mean(said) == pytest.approx(31 / 33, abs=0.02)  # of the errors of 32 cases, the outermost on each side


def test_it_falls_with_the_soft_dice_below_all_that_was_learned_from() -> None:
    quality = fit_quality(*drawn(60, seed=1), 1.0)
    assert quality is not None
    told = [expected_dice(quality, Features(soft, (0.0, 0.0, 0.0, 0.0))) for soft in (0.9, 0.5, 0.2)]
    assert [one[0] for one in told] == pytest.approx([0.84, 0.44, 0.14], abs=0.02)
    widths = [high - low for _, low, high in told]
    assert widths == sorted(widths)  # so does the interval widen


def test_cases_left_out_in_closed_form_are_those_of_a_fit_without_them() -> None:
    rng = np.random.default_rng(0)
    design, target = rng.normal(size=(12, 3)), rng.normal(size=12)
    found = module._left_out(design, target, 2.0)
    for case in range(12):
        others = np.arange(12) != case
        centre = design[others].mean(axis=0)
        a, b = design[others] - centre, target[others] - target[others].mean()
        weights = np.linalg.solve(a.T @ a + 2 * np.eye(3), a.T @ b)
        assert found[case] == pytest.approx(target[others].mean() + (design[case] - centre) @ weights)


def test_features_by_hand() -> None:
    counts = np.zeros((2, BINS), dtype=np.int64)
    inside, outside = int(bins_of(np.array([0.9]))[0]), int(bins_of(np.array([0.2]))[0])
    counts[1, inside], counts[0, outside] = 10, 5
    found = features_of(counts, Shape(10, 2.0, 30.0, 0.9), 1.0)
    assert found.soft_dice == pytest.approx(2 * 9 / (9 + 1 + 10), rel=0.01)
    bits = 10 * entropy_bits(np.array([0.9]))[0] + 5 * entropy_bits(np.array([0.2]))[0]
    assert found.others[0] == pytest.approx(math.log(bits * 2 / 30), abs=0.03)
    assert found.others[1:] == pytest.approx((math.log(20), math.log(30 / (6 * 20 ** (2 / 3))), 0.1))


@pytest.fixture
def bundle(trained_run: Path, tmp_path: Path) -> Path:
    """The model of `trained_run`, which knows a temperature and an expected Dice of its first structure."""
    folder = Path(shutil.copytree(trained_run / "bundle", tmp_path / "bundle"))
    card = read_card(folder / CARD)
    name, *_ = card.structures.values()
    zeros, ones = (0.0,) * 5, (1.0,) * 5
    quality = Quality(
        features=(*OTHERS, UNUSUAL),
        mean=zeros,
        scale=ones,
        weights=zeros,
        intercept=-0.05,
        interval=(-0.5, 0.5),
        level=0.9,
        review_below=0.99,
        present=1.0,
        cases=20,
        evaluated=Evaluated(spearman=0.5, mean_error=0.02, coverage=0.9, spread=0.03),
    )
    warm = Calibration(temperature=2.0, cases=20, ece_before=0.1, ece_after=0.01)
    trust = Trust(calibration={name: warm}, quality={name: quality})
    values = json.loads((folder / CARD).read_text()) | {"trust": trust.model_dump(mode="json")}
    (folder / CARD).write_text(json.dumps(values))
    return folder


def test_predict_tells_it_and_keeps_it_beside_the_masks(
    fullscale: Command, bundle: Path, trained_run: Path, phantoms: Path, tmp_path: Path
) -> None:
    [scan] = (phantoms / "imagesTs").iterdir()
    out = tmp_path / "masks"
    done = fullscale("predict", bundle, scan, "-o", out, "--uncertainty", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    [told] = json.loads((out / "predictions.json").read_text())["predictions"]
    predictor = Predictor.from_run(bundle, "cpu")
    name, other = predictor.card.structures.values()
    counting, lean = Counting(predictor.card.scheme), Counting(predictor.card.scheme, full_size=False)
    mask = predictor.watched({"image": read_image(scan)}, [counting])
    assert (predictor.watched({"image": read_image(scan)}, [lean]).array == mask.array).all()
    trust = assess(counting, predictor.card.trust)
    assert told["trust"] == {name: one.as_dict() for name, one in trust.items()}
    assert trust[name].expected_dice == pytest.approx(assess(lean, predictor.card.trust)[name].expected_dice, abs=0.01)
    assert trust[other].expected_dice is None
    assert f"expected Dice: {name} {trust[name].expected_dice:.2f} (" in done.stdout
    assert f"width of the boundary in mm: {name} {trust[name].boundary_mm:.1f}" in done.stdout
    assert f"review: {scan}: {name}: expected Dice" in done.stderr
    assert len(told["review"]) >= 1
    written = read_label(out / told["mask"], scan)
    assert (written.array == mask.array).all()
    assert (written.array == Predictor.from_run(trained_run, "cpu").predict(scan).array).all()
    _, soft = predictor.predict_probabilities(scan)
    entropy = np.max([entropy_bits(one.array.astype(np.float32)) for one in soft.values()], axis=0)
    doubt = read_image(out / told["uncertainty"])
    assert np.abs(doubt.array - entropy).max() < 5e-3
    assert 0 <= doubt.array.min() < doubt.array.max() <= 1
    _predict_again(fullscale, bundle, phantoms, out)


def _predict_again(fullscale: Command, bundle: Path, phantoms: Path, out: Path) -> None:
    """Other scans join the file; a scan that is segmented anew is told anew, with --quick without expected Dice."""
    second = next((phantoms / "imagesTr").iterdir())
    [scan] = (phantoms / "imagesTs").iterdir()
    for path in (second, scan):
        done = fullscale("predict", bundle, path, "-o", out, "--quick", "--device", "cpu")
        assert done.returncode == 0, done.stderr
        assert "expected Dice" not in done.stdout + done.stderr
    told = json.loads((out / "predictions.json").read_text())["predictions"]
    places = {(out / entry["scan"]).resolve(): entry["trust"] for entry in told}
    assert places == {second.resolve(): {}, scan.resolve(): {}}
    assert not any(Path(entry["scan"]).is_absolute() or "seconds" in entry for entry in told)


def test_a_mask_that_lacks_what_nearly_every_case_holds_is_to_be_looked_at(bundle: Path) -> None:
    card = read_card(bundle / CARD)
    assert card.trust is not None
    name, other = card.structures.values()
    counting = Counting(card.scheme)
    counting.shapes = [None, None]
    told = assess(counting, card.trust)
    assert told[name].review == "nothing was found, and 100% of the validation cases hold it"
    assert told[other].review is None


def test_learned_of_other_features_it_is_not_told_and_a_note_says_so(
    fullscale: Command, bundle: Path, phantoms: Path, tmp_path: Path
) -> None:
    text = (bundle / CARD).read_text().replace("log_area", "roundness")
    (bundle / CARD).write_text(text)
    [scan] = (phantoms / "imagesTs").iterdir()
    done = fullscale("predict", bundle, scan, "-o", tmp_path / "masks", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "no expected Dice of" in done.stderr
    assert "expected Dice:" not in done.stdout
