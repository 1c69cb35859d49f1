"""A run from its parts: what it leaves behind, how it goes on, what it refuses."""

import csv
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fullscale.bundle.card import read_card
from fullscale.config.load import load_config
from fullscale.config.schema import OptimizerConfig, TrainerConfig
from fullscale.data.label_plan import Choice
from fullscale.data.plan import read_plan
from fullscale.errors import DataError, FullscaleError, UsageError
from fullscale.losses import create_loss
from fullscale.losses.supervision import SupervisedLoss
from fullscale.scoring.statistics import steady_scores
from fullscale.training.budget import Budget
from fullscale.training.checkpoints import read_checkpoint
from fullscale.training.clock import LoaderTimes
from fullscale.training.prepare import resolve
from fullscale.training.request import TrainRequest
from fullscale.training.run import train
from tests.conftest import QUICK, Command

pytestmark = pytest.mark.whole

LOCK = """
import sys
from pathlib import Path
from fullscale.files import only_one

with only_one(Path(sys.argv[1]), "training"):
    print("locked", flush=True)
    sys.stdin.read()
"""


def request(data: Path, run: Path, cache: Path, *settings: str, **options: object) -> TrainRequest:
    return TrainRequest(data, run, config=load_config(None, [*QUICK, *settings]), cache=cache, **options)  # type: ignore[arg-type]


def test_a_run_folder_holds_all_that_the_design_promises(trained_run: Path) -> None:
    for name in ("config.yaml", "plan.json", "dataset.json", "splits.json", "environment.json"):
        assert (trained_run / name).stat().st_size > 10, name
    fold = trained_run / "fold_0"
    for name in ("last.ckpt", "best.ckpt", "metrics.csv", "progress.png", "validation/summary.json"):
        assert (fold / name).stat().st_size > 10, name
    for bundle in (trained_run / "bundle", fold / "bundle"):
        assert {p.name for p in bundle.iterdir()} == {"MODEL_CARD.md", "model.json", "model.safetensors"}
    digest = read_card(fold / "bundle" / "model.json").digest
    assert read_card(trained_run / "bundle" / "model.json").digest == digest
    rows = list(csv.DictReader((fold / "metrics.csv").open()))
    assert [row["step"] for row in rows] == ["4", "8"]
    assert all(0 <= float(row["val_dice_mean"]) <= 1 for row in rows)
    summary = json.loads((fold / "validation" / "summary.json").read_text())
    split = json.loads((trained_run / "splits.json").read_text())[0]
    assert summary["model"] == {"name": "fullscale unet3+", "digest": digest, "trained_on": []}
    of_run = json.loads((trained_run / "summary.json").read_text())
    assert of_run.pop("postprocess")["rules"] == []  # one case is too few to choose by
    assert summary == of_run
    assert [case["case"] for case in summary["metric_per_case"]] == sorted(split["val"])


def test_validation_masks_lie_on_the_grid_of_their_scans(trained_run: Path, phantoms: Path) -> None:
    masks = sorted((trained_run / "fold_0" / "validation").glob("*.nii.gz"))
    assert masks
    for path in masks:
        mask, scan = nib.load(path), nib.load(phantoms / "imagesTr" / path.name)
        assert mask.shape == scan.shape
        np.testing.assert_array_equal(mask.affine, scan.affine)
        assert set(np.unique(mask.dataobj)) <= {0, 1, 2}


def test_the_same_seed_gives_the_same_weights_and_another_does_not(phantoms: Path, cache: Path, tmp_path: Path) -> None:
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        settings = ("trainer.deterministic=true", f"trainer.seed={seed}", "trainer.max_epochs=1")
        train(request(phantoms, tmp_path / name, cache, *settings))
        weights.append(load_file(tmp_path / name / "bundle" / "model.safetensors"))
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert not all(torch.equal(weights[0][key], weights[2][key]) for key in weights[0])


def test_a_longer_budget_goes_on_and_the_same_one_is_done(
    phantoms: Path, cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "fullscale")
    train(request(phantoms, tmp_path / "run", cache, "trainer.max_epochs=1"))
    train(request(phantoms, tmp_path / "run", cache, "trainer.max_epochs=3"))
    rows = list(csv.DictReader((tmp_path / "run" / "fold_0" / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert "going on from" in caplog.text
    before = (tmp_path / "run" / "fold_0" / "last.ckpt").stat().st_mtime_ns
    train(request(phantoms, tmp_path / "run", cache, "trainer.max_epochs=3", "data.workers=3"))  # another machine
    assert (tmp_path / "run" / "fold_0" / "last.ckpt").stat().st_mtime_ns == before


def test_the_best_epoch_is_that_of_the_highest_mean_of_three(phantoms: Path, cache: Path, tmp_path: Path) -> None:
    train(request(phantoms, tmp_path / "run", cache, "trainer.max_epochs=2"))
    train(request(phantoms, tmp_path / "run", cache, "trainer.max_epochs=5"))  # goes on with the scores before
    fold = tmp_path / "run" / "fold_0"
    dice = [float(row["val_dice_mean"]) for row in csv.DictReader((fold / "metrics.csv").open())]
    steady = steady_scores(dice)
    best = read_checkpoint(fold / "best.ckpt")
    assert len(dice) == 5
    assert best["epoch"] == steady.index(max(steady))
    assert best["callbacks"]["Checkpoints"]["best_score"] == pytest.approx(max(steady), abs=1e-6)


def test_an_epoch_that_does_not_improve_is_kept_too(
    phantoms: Path, cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "fullscale")
    # An instance norm, because the running statistics of a batch norm go on changing what is predicted.
    settings = ("optimizer.learning_rate=1e-12", "trainer.max_epochs=3", "network.normalization=instance")
    train(request(phantoms, tmp_path / "run", cache, *settings))
    best, last = (read_checkpoint(tmp_path / "run" / "fold_0" / name) for name in ("best.ckpt", "last.ckpt"))
    assert (best["epoch"], last["epoch"]) == (0, 2)
    assert last["global_step"] == 12
    train(request(phantoms, tmp_path / "run", cache, *settings))
    assert "going on from" not in caplog.text


def test_a_run_folder_of_other_settings_data_or_plan_is_refused(
    trained_run: Path, phantoms: Path, cache: Path, tmp_path: Path
) -> None:
    config = (trained_run / "config.yaml").read_bytes()
    with pytest.raises(UsageError, match=r"was begun with network.width=4, not 8"):
        train(request(phantoms, trained_run, cache, "network.width=8"))
    few = [{"image": str(phantoms / f"{kind}Tr" / "phantom_000.nii.gz")} for kind in ("images", "labels")]
    (tmp_path / "few.json").write_text(json.dumps([few[0] | {"label": few[1]["image"]}]))
    with pytest.raises(
        DataError, match=r"5 cases that .* began with are not in .*, such as phantom_001: give the data"
    ):
        train(request(tmp_path / "few.json", trained_run, cache))
    plan = read_plan(trained_run / "plan.json").model_dump(mode="json")
    plan["spacing_mm"]["value"] = 9.0
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(UsageError, match="begun with another plan"):
        train(request(phantoms, trained_run, cache, plan=tmp_path / "plan.json"))
    with pytest.raises(UsageError, match="no fold '9'"):
        train(request(phantoms, trained_run, cache, folds=("9",)))
    assert (trained_run / "config.yaml").read_bytes() == config


def test_labels_that_are_set_take_the_place_of_the_plans(phantoms: Path, cache: Path, tmp_path: Path) -> None:
    both = "data.labels={1: structure, 2: structure}"
    summary = train(request(phantoms, tmp_path / "run", cache, both))
    assert summary.labels == {1: "structure"}
    plan = tmp_path / "run" / "plan.json"
    assert read_plan(plan).labels.value == {0: "background", 1: "structure", 2: "structure"}
    assert train(request(phantoms, tmp_path / "run", cache, both, plan=plan)).labels == {1: "structure"}
    with pytest.raises(UsageError, match=r"was begun with data\.labels="):
        train(request(phantoms, tmp_path / "run", cache))
    with pytest.raises(UsageError, match=r"data\.labels names 7, which .* does not have; it has 1 \(liver\), 2"):
        train(request(phantoms, tmp_path / "other", cache, "data.labels={7: kidney}"))
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("wrong", ["{1: background}", "{liver: 1}", "{0: liver}", "{-1: liver}", "{}"])
def test_labels_that_name_no_structure_are_refused(wrong: str) -> None:
    with pytest.raises(UsageError, match="a structure's name by label value"):
        load_config(None, [f"data.labels={wrong}"])


def test_background_among_the_labels_is_passed_over() -> None:
    assert load_config(None, ["data.labels={0: background, 2: liver}"]).data.labels == {2: "liver"}


def test_a_loss_that_explodes_stops_in_one_line_and_keeps_the_last_checkpoint(
    phantoms: Path, cache: Path, tmp_path: Path
) -> None:
    settings = ("optimizer.name=sgd", "optimizer.learning_rate=1e30", "optimizer.clip_norm=1e20")
    with pytest.raises(FullscaleError, match=r"the loss became (nan|inf) at step") as caught:
        train(request(phantoms, tmp_path / "run", cache, *settings, "optimizer.warmup_steps=0"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "bundle").exists()


def test_a_damaged_checkpoint_is_named_and_the_run_left_as_it_is(trained_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained_run, tmp_path / "run")
    last = run / "fold_0" / "last.ckpt"
    whole = last.read_bytes()
    for torn in (b"", whole[: len(whole) // 2], b"no checkpoint", pickle.dumps({"state_dict": 1})):
        last.write_bytes(torn)
        with pytest.raises(DataError, match="cannot read the checkpoint"):
            Budget(TrainerConfig(max_minutes=1), OptimizerConfig(), LoaderTimes(0)).spent_in(last)
        assert last.read_bytes() == torn


def test_a_fold_that_another_process_trains_is_left_alone(phantoms: Path, cache: Path, tmp_path: Path) -> None:
    train(request(phantoms, tmp_path / "run", cache))
    other = subprocess.Popen(
        [sys.executable, "-c", LOCK, str(tmp_path / "run" / "fold_0")], stdin=PIPE, stdout=PIPE, text=True
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(UsageError, match=r"another process is training in .*fold_0"):
            train(request(phantoms, tmp_path / "run", cache))
        other.kill()
    train(request(phantoms, tmp_path / "run", cache))
    assert (tmp_path / "run" / "bundle").is_dir()


@pytest.mark.slow
def test_two_devices_train_together_and_one_process_hands_over(
    process: Command, phantoms: Path, cache: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    done = process("train", phantoms, "-o", run, "--cache", cache, *QUICK, "trainer.devices=2", "trainer.device=cpu")
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).count("model: ") == 1
    rows = list(csv.DictReader((run / "fold_0" / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert (run / "fold_0" / "validation" / "summary.json").is_file()


def test_one_case_trains_only_on_all(phantoms: Path, cache: Path, tmp_path: Path) -> None:
    listed = tmp_path / "one.csv"
    image, label = (phantoms / kind / "phantom_000.nii.gz" for kind in ("imagesTr", "labelsTr"))
    listed.write_text(f"image,label\n{image},{label}\n")
    with pytest.raises(DataError, match="--fold all"):
        train(request(listed, tmp_path / "run", cache))
    summary = train(request(listed, tmp_path / "run", cache, folds=("all",)))
    assert len(summary.cases) == 1


def test_unusable_cases_stop_the_run_unless_dropped(
    phantoms: Path, cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        f"{phantoms}/imagesTr/phantom_00{i}.nii.gz,{phantoms}/labelsTr/phantom_00{j}.nii.gz"
        for i, j in ((0, 0), (1, 1), (2, 3))
    ]
    listed = tmp_path / "some.csv"
    listed.write_text("image,label\n" + "\n".join(rows))
    with pytest.raises(DataError, match=r"1 problem in the data.*phantom_002.*--drop-bad-cases"):
        train(request(listed, tmp_path / "run", cache))
    train(request(listed, tmp_path / "run", cache, drop_bad_cases=True))
    assert caplog.text.count("left out: phantom_002: ") == 1
    assert json.loads((tmp_path / "run" / "dataset.json").read_text())["used"] == ["phantom_000", "phantom_001"]


@pytest.mark.parametrize(
    "settings",
    [
        ("network.deep_supervision=false",),
        ("network.classification_guided=false",),
        ("network.gate_in_training=true", "loss.name=hybrid"),
        ("optimizer.name=sgd", "optimizer.schedule=cosine", "trainer.precision=bf16"),
        ("network.encoder=resnet18", "network.skip_channels=4"),
        ("network.name=unet", "network.normalization=batch"),
        ("network.name=unet++",),
        ("network.name=attention-unet",),
        ("network.name=pspnet", "network.encoder=resnet18"),
        ("network.name=deeplabv2", "network.encoder=resnet18", "network.width=null"),
        ("network.name=deeplabv3", "network.encoder=resnet18"),
        ("network.name=deeplabv3+", "network.encoder=resnet18"),
    ],
    ids=lambda s: s[0],
)
def test_every_kind_of_run_trains_and_predicts(
    phantoms: Path, cache: Path, tmp_path: Path, settings: tuple[str, ...]
) -> None:
    quick = ("trainer.max_epochs=1", "trainer.steps_per_epoch=2")
    summary = train(request(phantoms, tmp_path / "run", cache, *quick, *settings))
    assert not summary.failures


def test_the_budget_ends_by_whichever_comes_first_and_sets_the_rate() -> None:
    config = load_config(None, ["optimizer.warmup_steps=0", "optimizer.learning_rate=1"]).optimizer
    times, hundred_steps = LoaderTimes(0), {"max_epochs": 10, "steps_per_epoch": 10}
    budget = Budget(TrainerConfig(**hundred_steps), config, times)
    assert [budget.progress(step) for step in (0, 50, 200)] == [0, 0.5, 1]
    budget.load_state_dict({"elapsed_s": 45})
    assert Budget(TrainerConfig(max_minutes=1), config, times).progress(10_000) == 0
    timed = Budget(TrainerConfig(max_minutes=1, **hundred_steps), config, times)
    timed.load_state_dict({"elapsed_s": 45})
    assert timed.progress(10) == pytest.approx(0.75)
    assert timed.progress(90) == pytest.approx(0.9)


def test_what_the_configuration_leaves_open_comes_from_the_plan(trained_run: Path) -> None:
    plan = read_plan(trained_run / "plan.json")
    filled = resolve(load_config(), plan)
    assert filled.network.options["width"] == plan.width.value
    assert filled.data.patch_size == plan.patch_size.value
    assert filled.trainer.max_epochs is not None
    assert filled.loss.level_weights == (1, 0.5, 0.25, 0.125, 0.0625)
    assert filled.loss.presence_weight == SupervisedLoss(create_loss(filled.loss.name)).presence_weight
    assert resolve(filled, plan) == filled
    assert plan.network.value.items() <= filled.network.options.items()
    of_the_network = plan.model_copy(update={"network": Choice(value={}, reason="a GPU: the network's own")})
    assert resolve(load_config(None, ["network.width=7"]), of_the_network).network.options["skip_channels"] == 7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["network.name=unet3"], r"network 'unet3' is unknown; did you mean 'unet3\+'\?"),
        (
            ["network.name=unet", "network.skip_channels=8"],
            "network 'unet' has no option 'skip_channels'",
        ),
        (["network.name=deeplabv3+", "network.encoder=plain"], "encoder 'plain' cannot be dilated"),
        (["network.name=unet++", "network.encoder=resnet_18"], "did you mean 'resnet18'"),
        (["network.classification_guided=false", "network.gate_in_training=true"], "gate_in_training=True needs"),
        (["loss.level_weights=[1,1]"], "loss.level_weights has 2 values for 5 supervised outputs"),
        (["network.name=unet++", "loss.level_weights=[1]"], "has 1 values for 4 supervised outputs"),
    ],
)
def test_a_network_that_cannot_be_is_refused_before_anything_is_written(
    trained_run: Path, settings: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        resolve(load_config(None, settings), read_plan(trained_run / "plan.json"))
    assert "\n" not in str(caught.value)


def test_every_network_is_given_the_options_it_has_and_no_others(trained_run: Path) -> None:
    plan = read_plan(trained_run / "plan.json")
    filled = resolve(load_config(None, ["network.name=unet++"]), plan).network
    assert filled.options == {
        "encoder": "plain",
        "width": plan.width.value,
        "normalization": "none",
        "deep_supervision": True,
        "pretrained": False,
        "spatial_dims": 2,
        "levels": 5,
        "max_width": None,
        "strides": None,
    }
    assert resolve(load_config(None, ["network.name=deeplabv2"]), plan).network.options["encoder"] == "resnet101"


LEARNING = (
    "network.width=8",
    "data.batch_size=8",
    "optimizer.learning_rate=3e-3",
    "trainer.steps_per_epoch=60",
)


@pytest.mark.slow
def test_a_short_training_finds_the_liver_of_phantoms_it_has_not_seen(
    phantoms: Path, cache: Path, tmp_path: Path
) -> None:
    summary = train(request(phantoms, tmp_path / "run", cache, *LEARNING))
    assert (summary.mean(1)["Dice"] or 0) > 0.75


def test_verify_reads_the_prepared_cases_again_too(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def noted(*_: object, verify: bool = False, **__: object) -> list[object]:
        asked.append(verify)
        raise KeyboardInterrupt

    monkeypatch.setattr("fullscale.training.prepare.prepare_cases", noted)
    for verify in (False, True):
        with pytest.raises(KeyboardInterrupt):
            train(request(phantoms, tmp_path / f"run{verify}", tmp_path / "cache", verify=verify))
    assert asked == [False, True]


def test_an_edited_plan_of_other_data_does_not_train_what_is_ignored_or_overlaps_as_structures(
    phantoms: Path, cache: Path, tmp_path: Path, fullscale: Command
) -> None:
    data = tmp_path / "data"
    shutil.copytree(phantoms, data)
    assert fullscale("plan", data, "-o", tmp_path / "plan.json").returncode == 0
    description = json.loads((data / "dataset.json").read_text())
    for labels in ({"0": "background", "1": "liver", "2": "ignore"}, {"whole": [1, 2], "spleen": [2]}):
        (data / "dataset.json").write_text(json.dumps(description | {"labels": labels}))
        done = fullscale(
            *("train", data, "-o", tmp_path / "run", "--plan", tmp_path / "plan.json", "--drop-bad-cases"),
            *("--cache", cache, *QUICK),
        )
        assert done.returncode == 2, done.stderr
        assert "'ignore'" in done.stderr or "structures overlap" in done.stderr
        assert not (tmp_path / "run").exists()
