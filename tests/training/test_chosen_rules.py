"""Post-processing from validation to prediction: chosen once, recorded in the run's model, applied and left out."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fullscale.bundle.card import CARD, read_card
from fullscale.bundle.rules import ChosenRules, Evidence, PostprocessRule
from fullscale.bundle.store import copy_bundle, save_ensemble
from fullscale.bundle.trust import Trust
from fullscale.config.load import load_config
from fullscale.data.labels import LabelScheme
from fullscale.errors import DataError
from fullscale.inference.guided import predict_guided
from fullscale.inference.postprocess import CaseMasks, apply_rules
from fullscale.inference.predictor import Predictor
from fullscale.runfolder import RunFolder
from fullscale.scoring.summary import read_summary
from fullscale.training import postprocess
from fullscale.training.prepare import find_inputs
from fullscale.training.request import TrainRequest
from fullscale.training.run import close_run, train
from tests.conftest import QUICK, Command

EVIDENCE = Evidence(dice_before=0.5, dice_after=0.75, cases=7, better=5, worse=1)
Load = Callable[[], CaseMasks]


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> RunFolder:
    """A finished run that has not looked at post-processing yet."""
    copied = RunFolder(shutil.copytree(trained_run, tmp_path / "run"))
    summary = json.loads(copied.summary.read_text())
    assert summary.pop("postprocess")["rules"] == []
    copied.summary.write_text(json.dumps(summary))
    return copied


@pytest.fixture
def chosen(run: RunFolder, phantoms: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[CaseMasks]:
    """Let the run choose a rule for its last structure; returns the masks that it looked at."""
    seen: list[CaseMasks] = []

    def choose(cases: Sequence[Load], scheme: LabelScheme) -> list[PostprocessRule]:
        seen.extend(load() for load in cases)
        *_, last = scheme.structures.values()
        return [PostprocessRule(structure=last, action="keep_largest", evidence=EVIDENCE)]

    monkeypatch.setattr(postprocess, "choose_rules", choose)
    train(TrainRequest(phantoms, run.path, config=load_config(None, QUICK), cache=cache))
    return seen


def test_the_masks_of_the_validation_cases_and_their_truths_are_looked_at(
    run: RunFolder, chosen: list[CaseMasks]
) -> None:
    scored = read_summary(run.fold(0).summary).cases
    assert len(chosen) == len(scored) > 0
    for case, scores in zip(chosen, scored, strict=True):
        for value, metrics in scores.metrics.items():
            assert (case.truth == value).sum() == metrics["n_ref"]
            assert (case.prediction == value).sum() == metrics["n_pred"]
            volume = metrics["reference_volume_ml"]
            assert volume == pytest.approx((case.truth == value).sum() * case.voxel_ml)


@pytest.mark.usefixtures("chosen")
def test_the_model_of_the_run_records_it_and_those_of_the_folds_do_not(run: RunFolder) -> None:
    card = read_card(run.bundle / CARD)
    [rule] = card.postprocess
    assert (rule.action, rule.evidence) == ("keep_largest", EVIDENCE)
    fold = read_card(run.fold(0).bundle / CARD)
    assert fold.postprocess == ()
    assert card.digest != fold.digest
    recorded = ChosenRules.model_validate(json.loads(run.summary.read_text())["postprocess"])
    assert recorded == ChosenRules(members={"fold_0": fold.digest}, rules=(rule,), trust=Trust())
    assert read_summary(run.fold(0).summary).postprocess is None
    assert read_summary(run.summary).foreground_mean() == read_summary(run.fold(0).summary).foreground_mean()


@pytest.mark.usefixtures("chosen")
def test_it_is_chosen_once(run: RunFolder, phantoms: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postprocess, "choose_rules", None)
    before = (run.bundle / CARD).read_bytes()
    train(TrainRequest(phantoms, run.path, config=load_config(None, QUICK), cache=cache))
    assert (run.bundle / CARD).read_bytes() == before
    assert postprocess.recorded_choice(run, [run.fold(0)]) is not None
    summary = json.loads(run.summary.read_text())
    summary["postprocess"]["members"]["fold_0"] = "another model"
    run.summary.write_text(json.dumps(summary))
    assert postprocess.recorded_choice(run, [run.fold(0)]) is None


def test_a_run_that_was_killed_after_its_last_scores_is_closed_as_it_would_have_been(
    run: RunFolder, trained_run: Path, phantoms: Path, cache: Path
) -> None:
    shutil.rmtree(run.bundle)
    run.summary.unlink()
    inputs = find_inputs(TrainRequest(phantoms, run.path, config=load_config(None, QUICK), cache=cache))
    close_run(run, inputs)
    whole = RunFolder(trained_run)
    assert json.loads(run.summary.read_text()) == json.loads(whole.summary.read_text())
    assert (run.bundle / CARD).read_bytes() == (whole.bundle / CARD).read_bytes()
    written = run.summary.stat().st_mtime_ns
    close_run(run, inputs)
    assert run.summary.stat().st_mtime_ns == written


def test_a_mask_that_is_gone_is_said_and_stops_nothing(
    run: RunFolder, phantoms: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for mask in run.fold(0).validation.glob("*.nii.gz"):
        mask.unlink()
    train(TrainRequest(phantoms, run.path, config=load_config(None, QUICK), cache=cache))
    assert "no post-processing is chosen" in caplog.text
    assert read_card(run.bundle / CARD).postprocess == ()


@pytest.mark.usefixtures("chosen")
def test_predict_applies_it_says_so_and_leaves_it_out(
    run: RunFolder, phantoms: Path, tmp_path: Path, fullscale: Command
) -> None:
    scan = next((phantoms / "imagesTr").glob("*.nii.gz"))
    predictor, raw = (Predictor.from_run(run.path, "cpu", postprocess=wanted) for wanted in (True, False))
    *_, last = predictor.card.structures.values()
    assert predictor.describe().endswith(f"; post-processing: {last}: largest part kept")
    assert "post-processing" not in raw.describe() + Predictor.from_run(run.path, "cpu", quick=True).describe()
    plain = raw.predict(scan)
    expected = apply_rules(plain.array, plain.voxel_ml, predictor.card.scheme, predictor.rules)
    assert (expected != plain.array).any(), "the phantom's mask shows nothing"
    np.testing.assert_array_equal(predictor.predict(scan).array, expected)
    np.testing.assert_array_equal(predict_guided(predictor, scan)[0].array, expected)
    np.testing.assert_array_equal(predictor.predict_probabilities(scan)[0].array, expected)
    np.testing.assert_array_equal(Predictor.from_run(run.fold(0).path, "cpu").predict(scan).array, plain.array)

    told = fullscale("predict", run.path, scan, "-o", tmp_path / "masks", "--device", "cpu")
    assert "post-processing:" in told.stderr
    left_out = fullscale("predict", run.path, scan, "-o", tmp_path / "raw", "--device", "cpu", "--no-postprocess")
    assert left_out.returncode == told.returncode == 0
    assert "post-processing" not in left_out.stderr


@pytest.mark.usefixtures("chosen")
def test_an_ensemble_has_rules_of_its_own_and_a_copy_those_of_its_source(run: RunFolder, tmp_path: Path) -> None:
    (rule,) = read_card(run.bundle / CARD).postprocess
    save_ensemble(tmp_path / "two", {"a": run.bundle, "b": run.fold(0).bundle})
    assert read_card(tmp_path / "two" / CARD).postprocess == ()
    save_ensemble(tmp_path / "two", {"a": run.bundle, "b": run.fold(0).bundle}, [rule])
    assert Predictor.from_run(tmp_path / "two", "cpu").rules == (rule,)
    copy_bundle(run.bundle, tmp_path / "copy")
    assert read_card(tmp_path / "copy" / CARD).postprocess == (rule,)
    copy_bundle(run.bundle, tmp_path / "copy", ())
    assert read_card(tmp_path / "copy" / CARD).postprocess == ()


@pytest.mark.usefixtures("chosen")
def test_a_card_may_hold_rules_for_its_own_structures_alone_and_need_hold_none(run: RunFolder) -> None:
    file = run.bundle / CARD
    values = json.loads(file.read_text())
    values["postprocess"][0]["structure"] = "spleen of another"
    file.write_text(json.dumps(values))
    with pytest.raises(DataError, match="postprocess is for 'spleen of another'"):
        read_card(file)
    del values["postprocess"]
    file.write_text(json.dumps(values))
    earlier = read_card(file)
    assert earlier.postprocess == ()
    assert earlier.digest == read_card(run.fold(0).bundle / CARD).digest


def test_masks_of_images_are_looked_at_in_a_run_whose_cases_have_numbers_for_names(
    cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    rng = np.random.default_rng(0)
    for number in range(4):
        mask = np.zeros((32, 32), np.uint8)
        mask[8:20, 6 + number : 20] = 255
        grey = (mask // 4 + rng.integers(0, 60, mask.shape)).astype(np.uint8)
        for folder, pixels in (("images", grey), ("masks", mask)):
            (tmp_path / "set" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "set" / folder / f"{number}.png")

    config = load_config(None, [*QUICK, "trainer.max_epochs=1"])
    run = RunFolder(tmp_path / "run")
    train(TrainRequest(tmp_path / "set", run.path, config=config, cache=cache, anonymise=tmp_path / "key.csv"))

    assert "no post-processing is chosen" not in caplog.text
    assert read_summary(run.summary).postprocess is not None
