"""Several folds of one run: each has its own model and is scored with it; together they are the model of the run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from safetensors.torch import load_file

from fullscale.bundle.card import EnsembleCard, ModelCard, read_card
from fullscale.bundle.store import load_bundle
from fullscale.config.load import load_config
from fullscale.data.identity import DigestIndex, case_digest
from fullscale.data.layouts.find import find_dataset
from fullscale.errors import DataError, UsageError
from fullscale.inference.predictor import Predictor
from fullscale.reporting.model_card.card import check_model_card
from fullscale.reporting.source import find_source
from fullscale.runfolder import RunFolder
from fullscale.scoring.summary import read_summary
from fullscale.training.prepare import find_inputs
from fullscale.training.request import TrainRequest
from fullscale.training.run import train
from tests.conftest import QUICK, Command, Once

pytestmark = pytest.mark.whole

SHORT = [*QUICK, "trainer.max_epochs=1", "trainer.steps_per_epoch=2", "data.folds=3"]


def request(data: Path, run: Path, cache: Path, *settings: str, folds: tuple[str, ...] = ("0",)) -> TrainRequest:
    return TrainRequest(data, run, folds, load_config(None, [*SHORT, *settings]), cache=cache)


@pytest.fixture(scope="module")
def two_folds(once: Once, phantoms: Path, cache: Path) -> RunFolder:
    return RunFolder(once("two_folds", lambda run: train(request(phantoms, run, cache, folds=("0", "1")))))


def test_words_of_people_in_the_model_card_outlive_the_renewal_of_the_model(
    two_folds: RunFolder, phantoms: Path, cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = RunFolder(Path(shutil.copytree(two_folds.path, tmp_path / "run")))
    assert check_model_card(run.path) == check_model_card(run.fold(1).path) == []
    card = run.bundle / "MODEL_CARD.md"
    mine = card.read_text().replace("**Contact:** not written yet.", "**Contact:** ward 7")
    card.write_text(mine.replace("## Splits", "## My splits"))
    (run.fold(1).bundle / "MODEL_CARD.md").unlink()
    shutil.rmtree(run.bundle / "fold_0")
    (run.bundle / "model.json").unlink()  # as a kill within the renewal would leave it
    run.summary.unlink()
    train(request(phantoms, run.path, cache, folds=("0", "1")))
    assert "ward 7" in card.read_text()
    [left] = check_model_card(run.path)
    assert left == "splits: the card says '## My splits', the run says '## Splits'"
    assert "somebody changed splits" in caplog.text
    assert check_model_card(run.fold(1).path) == []


def test_each_fold_is_scored_with_its_own_model(two_folds: RunFolder) -> None:
    weights = [load_file(two_folds.fold(k).bundle / "model.safetensors") for k in range(2)]
    assert not all((weights[0][key] == weights[1][key]).all() for key in weights[0])
    splits = json.loads(two_folds.splits.read_text())
    for k in range(2):
        summary = read_summary(two_folds.fold(k).summary)
        assert summary.model is not None
        assert summary.model.digest == read_card(two_folds.fold(k).bundle / "model.json").digest
        assert [case.case for case in summary.cases] == sorted(splits[k]["val"])
    pooled = read_summary(two_folds.summary)
    assert [case.case for case in pooled.cases] == sorted(splits[0]["val"] + splits[1]["val"])


def test_the_model_of_the_run_is_made_of_its_folds(two_folds: RunFolder, phantoms: Path) -> None:
    card = read_card(two_folds.bundle / "model.json")
    assert isinstance(card, EnsembleCard)
    assert list(card.members) == ["fold_0", "fold_1"]
    scan = phantoms / "imagesTs" / "phantom_006.nii.gz"
    _, together = Predictor.from_run(two_folds.path, "cpu").predict_probabilities(scan)
    each = [Predictor.from_run(two_folds.fold(k).path, "cpu").predict_probabilities(scan)[1] for k in range(2)]
    for structure, volume in together.items():
        mean = np.mean([soft[structure].array.astype(np.float64) for soft in each], axis=0)
        np.testing.assert_allclose(volume.array, mean, atol=1e-3)


def test_a_model_knows_what_it_was_trained_on_by_content(two_folds: RunFolder, phantoms: Path) -> None:
    digests = {case.id: case_digest(case, DigestIndex()).image for case in find_dataset(phantoms).cases}
    for k, split in enumerate(json.loads(two_folds.splits.read_text())[:2]):
        card = read_card(two_folds.fold(k).bundle / "model.json")
        assert isinstance(card, ModelCard)
        assert card.trained_on == {case: digests[case] for case in split["train"]}


def test_testing_on_training_cases_is_said_though_they_have_other_names(
    fullscale: Command, two_folds: RunFolder, phantoms: Path, tmp_path: Path
) -> None:
    splits = json.loads(two_folds.splits.read_text())
    seen, unseen = splits[0]["train"][0], splits[0]["val"][0]
    for case, name in ((seen, "other_name"), (unseen, "held_back")):
        for kind in ("imagesTr", "labelsTr"):
            (tmp_path / "data" / kind).mkdir(parents=True, exist_ok=True)
            shutil.copy(phantoms / kind / f"{case}.nii.gz", tmp_path / "data" / kind / f"{name}.nii.gz")
    found = {}
    for model in (two_folds.fold(0).path, two_folds.path):
        out = tmp_path / model.name
        done = fullscale("test", model, tmp_path / "data", "-o", out, "--device", "cpu")
        assert done.returncode == 0, done.stderr
        found[model.name] = json.loads((out / "summary.json").read_text())["model"]["trained_on"]
        assert f"trained on: {len(found[model.name])} of these cases, such as" in done.stderr
    assert found == {"fold_0": ["other_name"], two_folds.path.name: ["held_back", "other_name"]}


def test_scoring_masks_of_training_cases_is_said_where_the_model_is_named(
    fullscale: Command, two_folds: RunFolder, phantoms: Path, tmp_path: Path
) -> None:
    masks = two_folds.fold(0).validation
    for model, trained_on in ((two_folds.fold(0).path, []), (two_folds.fold(1).path, None)):
        done = fullscale("evaluate", masks, phantoms, "-o", tmp_path / "scores.json", "--model", model, "--json")
        found = json.loads(done.stdout)["model"]["trained_on"]
        held_back = json.loads(two_folds.splits.read_text())[0]["val"]
        assert found == (sorted(held_back) if trained_on is None else trained_on)


def test_a_hand_edited_fold_with_a_case_on_both_sides_is_refused(
    two_folds: RunFolder, phantoms: Path, cache: Path, tmp_path: Path
) -> None:
    run = RunFolder(Path(shutil.copytree(two_folds.path, tmp_path / "run")))
    splits = json.loads(run.splits.read_text())
    splits[2]["train"].append(splits[2]["val"][0])
    run.splits.write_text(json.dumps(splits))
    with pytest.raises(DataError, match=r"splits\.json: fold 2 trains and validates on"):
        train(request(phantoms, run.path, cache, folds=("2",)))


def test_a_copy_in_another_file_is_on_the_same_side_of_every_split(phantoms: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for folder in ("images", "labels"):
        (data / folder).mkdir(parents=True)
    for scan in sorted((phantoms / "imagesTr").iterdir()):
        shutil.copy(scan, data / "images" / scan.name)
        shutil.copy(phantoms / "labelsTr" / scan.name, data / "labels" / scan.name)
    first = sorted((data / "images").iterdir())[0]
    image = nib.load(first)
    copy = nib.Nifti1Image(np.asarray(image.dataobj).astype(np.float32), image.affine)
    nib.save(copy, data / "images" / "renamed.nii")
    shutil.copy(data / "labels" / first.name, data / "labels" / "renamed.nii.gz")
    inputs = find_inputs(
        TrainRequest(data, tmp_path / "run", config=load_config(None, QUICK), cache=tmp_path / "cache")
    )
    patients = {case.id: case.group for case in inputs.cases}
    assert patients["renamed"] == patients[first.name.removesuffix(".nii.gz")]
    assert len(set(patients.values())) == len(patients) - 1


def test_the_same_command_again_does_nothing(two_folds: RunFolder, phantoms: Path, cache: Path, tmp_path: Path) -> None:
    run = RunFolder(Path(shutil.copytree(two_folds.path, tmp_path / "run")))
    files = [run.fold(k).path / name for k in range(2) for name in ("bundle/model.json", "validation/summary.json")]
    before = [file.stat().st_mtime_ns for file in files]
    summary = train(request(phantoms, run.path, cache, folds=("0", "1")))
    assert [file.stat().st_mtime_ns for file in files] == before
    assert len(summary.cases) == 4


def test_a_fold_of_all_cases_is_not_mixed_with_the_others(
    two_folds: RunFolder, phantoms: Path, cache: Path, tmp_path: Path
) -> None:
    run = RunFolder(Path(shutil.copytree(two_folds.path, tmp_path / "run")))
    summary = train(request(phantoms, run.path, cache, folds=("all",)))
    assert summary.model is not None
    assert len(summary.model.trained_on) == len(summary.cases) == 6
    card = read_card(run.bundle / "model.json")
    assert isinstance(card, EnsembleCard)
    assert list(card.members) == ["fold_0", "fold_1"]
    assert list(find_source(run.path).folds) == ["0", "1"]
    assert len(load_bundle(run.fold("all").path).members) == 1


def test_a_run_whose_labels_were_swapped_is_refused_and_left_as_it_is(
    phantoms: Path, cache: Path, two_folds: RunFolder, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(phantoms, tmp_path / "data"))
    run = RunFolder(Path(shutil.copytree(two_folds.path, tmp_path / "run")))
    first, second = (data / "labelsTr" / f"phantom_00{k}.nii.gz" for k in (1, 4))
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)
    with pytest.raises(DataError, match=r"2 of 6 cases .*: phantom_001 \(labels\), phantom_004 \(labels\)"):
        train(request(data, run.path, cache))
    scan = data / "imagesTr" / "phantom_002.nii.gz"
    scan.write_bytes((data / "imagesTr" / "phantom_003.nii.gz").read_bytes())
    with pytest.raises(DataError, match=r"3 of 6 cases .*phantom_002 \(scan\)"):
        train(request(data, run.path, cache))
    assert run.config.read_bytes() == two_folds.config.read_bytes()


def test_a_run_of_the_first_version_is_not_gone_on_with(
    two_folds: RunFolder, phantoms: Path, cache: Path, tmp_path: Path
) -> None:
    run = RunFolder(Path(shutil.copytree(two_folds.path, tmp_path / "run")))
    record = json.loads(run.dataset.read_text())
    del record["digests"]
    for facts in record["facts"]:
        facts |= facts.pop("channels")["image"]
    run.dataset.write_text(json.dumps(record))
    with pytest.raises(UsageError, match=r"begun by fullscale 0\.1.*network\.init=") as caught:
        train(request(phantoms, run.path, cache))
    assert "\n" not in str(caught.value)
    run.dataset.write_text("{")
    with pytest.raises(DataError, match=r"dataset\.json: is not JSON"):
        train(request(phantoms, run.path, cache))


@pytest.mark.slow
def test_two_folds_trained_at_once_by_two_processes_do_not_touch_each_other(
    phantoms: Path, cache: Path, two_folds: RunFolder, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    command = [sys.executable, "-m", "fullscale", "train", phantoms, "-o", run.path, "--cache", cache, *SHORT]
    both = [
        subprocess.Popen([*map(str, command), "--fold", fold], stderr=subprocess.PIPE, text=True, env=os.environ.copy())
        for fold in ("0", "1")
    ]
    for process in both:
        _, errors = process.communicate(timeout=400)
        assert process.returncode == 0, errors
    card = read_card(run.bundle / "model.json")
    assert isinstance(card, EnsembleCard)
    assert list(card.members) == ["fold_0", "fold_1"]
    for k in range(2):
        alone, here = (load_file(r.fold(k).bundle / "model.safetensors") for r in (two_folds, run))
        assert all(np.allclose(alone[key].float(), here[key].float(), atol=1e-5) for key in alone)
        assert [c.case for c in read_summary(run.fold(k).summary).cases] == [
            c.case for c in read_summary(two_folds.fold(k).summary).cases
        ]
