"""The command as a user runs it: the whole way, and every way in which it can go wrong."""

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fullscale.outputs import RECORD
from tests.conftest import QUICK, Command
from tests.dicom_slices import write_series

pytestmark = pytest.mark.whole

DONE, FAILED, USAGE, DATA, PARTIAL, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 4, 130, 143
ENDINGS = {
    signal.SIGINT: (INTERRUPTED, "fullscale: interrupted"),
    signal.SIGTERM: (TERMINATED, "fullscale: terminated"),
}


def one_line(result: "subprocess.CompletedProcess[str]", code: int, *words: str) -> None:
    """An error is one line that says what, where and what to do, and has its exit code."""
    assert result.returncode == code, result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("fullscale: ")
    for word in words:
        assert word in last
    assert "Traceback" not in result.stderr


def folders_of(path: Path) -> list[str]:
    return sorted(str(p.relative_to(path)) for p in path.rglob("*"))


@pytest.mark.slow
def test_from_a_folder_of_scans_to_scores(fullscale: Command, process: Command, phantoms: Path, tmp_path: Path) -> None:
    run, masks = tmp_path / "run", tmp_path / "masks"
    inspected = fullscale("inspect", phantoms, "--json")
    assert json.loads(inspected.stdout)["usable_cases"] == 6
    trained = process("train", phantoms, "-o", run, "--cache", tmp_path / "cache", *QUICK, "--json")
    assert trained.returncode == DONE, trained.stderr
    assert 0 <= json.loads(trained.stdout)["foreground_mean"]["Dice"] <= 1
    predicted = process("predict", run, phantoms / "imagesTs", "-o", masks, "--probabilities")
    assert predicted.returncode == DONE, predicted.stderr
    assert "liver" in predicted.stdout
    names = {path.name for path in masks.glob("[!.]*")}
    volumes = {f"phantom_006{x}.nii.gz" for x in ("", "_liver_probability", "_spleen_probability")}
    assert names == volumes | {"predictions.json"}
    scored = fullscale("evaluate", masks, phantoms / "labelsTs")
    assert scored.returncode == DONE, scored.stderr
    summary = json.loads((masks / "summary.json").read_text())
    assert summary["mean"].keys() == {"1", "2"}
    spleen = fullscale("evaluate", masks, phantoms / "labelsTs", "--labels", "2=spleen", "-o", tmp_path / "spleen.json")
    assert spleen.returncode == DONE, spleen.stderr
    alone = json.loads((tmp_path / "spleen.json").read_text())
    assert alone["mean"] == {"2": summary["mean"]["2"]}
    strict = fullscale("evaluate", masks, phantoms / "labelsTs", "--tolerance-mm", "1=8,2=0", "--json")
    assert json.loads(strict.stdout)["tolerance_mm"] == {"1": 8, "2": 0}
    assert json.loads(strict.stdout)["mean"]["1"]["NSD"] >= summary["mean"]["1"]["NSD"]
    for wrong in ("1=8,2", "-1", "1=-1", "liver"):
        one_line(fullscale("evaluate", masks, phantoms / "labelsTs", f"--tolerance-mm={wrong}"), USAGE, "tolerance")
    one_line(fullscale("evaluate", masks, phantoms / "labelsTs", "--tolerance-mm=2=1"), USAGE, "label 1 is None")
    drawn = fullscale(
        "overlay",
        phantoms / "imagesTs" / "phantom_006.nii.gz",
        masks / "phantom_006.nii.gz",
        phantoms / "labelsTs" / "phantom_006.nii.gz",
        "-o",
        tmp_path / "picture.png",
        "--window=-150,250",
        "--labels=2=spleen",
    )
    assert drawn.returncode == DONE, drawn.stderr
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    again = fullscale("train", phantoms, "-o", tmp_path / "again", "--config", run / "config.yaml")
    assert again.returncode == DONE, again.stderr


def test_plan_and_prepare_ahead_of_training(fullscale: Command, phantoms: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    assert fullscale("plan", phantoms, "-o", plan, "--device", "cpu").returncode == DONE
    content = json.loads(plan.read_text())
    assert content["labels"]["value"] == {"0": "background", "1": "liver", "2": "spleen"}
    prepared = fullscale("prepare", phantoms, "--plan", plan, "--cache", tmp_path / "cache", "--json")
    assert json.loads(prepared.stdout)["slices"] == 6 * 14
    one_line(fullscale("prepare", phantoms, "--plan", tmp_path / "no.json"), DATA, "no.json")


def test_a_bad_scan_does_not_stop_the_others(
    fullscale: Command, trained_run: Path, phantoms: Path, tmp_path: Path
) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    good = phantoms / "imagesTs" / "phantom_006.nii.gz"
    shutil.copy(good, scans / "good.nii.gz")
    (scans / "cut.nii.gz").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    (scans / "text.nii.gz").write_text("not a scan")
    image = nib.load(good)
    voxels = np.asarray(image.dataobj, dtype=np.float32)
    nib.save(nib.Nifti1Image(np.stack([voxels, voxels], axis=3), image.affine), scans / "four.nii.gz")
    voxels[0, 0, 0] = np.nan
    nib.save(nib.Nifti1Image(voxels, image.affine), scans / "nan.nii.gz")
    nib.save(nib.Nifti1Image(np.nan_to_num(voxels)[:, :, :1], image.affine), scans / "thin.nii.gz")
    result = fullscale("predict", trained_run, scans, "-o", tmp_path / "masks")
    one_line(result, PARTIAL, "4 of 6 scans failed")
    for name in ("cut", "text", "four", "nan"):
        [line] = [x for x in result.stderr.splitlines() if x.startswith(f"failed: {scans / name}")]
        assert len(line) < 400
    assert {p.name for p in (tmp_path / "masks").glob("[!.]*")} == {"good.nii.gz", "thin.nii.gz", "predictions.json"}


def test_wrong_requests_get_one_line_and_leave_nothing(
    fullscale: Command, trained_run: Path, phantoms: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    out = tmp_path / "out"
    scan = phantoms / "imagesTs"
    one_line(fullscale("inspect", tmp_path / "absent"), DATA, "absent")
    one_line(fullscale("inspect", empty), DATA, "empty")
    one_line(fullscale("train", empty, "-o", out), DATA, "empty")
    one_line(fullscale("train", phantoms, "-o", out, "trainer.max_minuts=1"), USAGE, "trainer.max_minutes")
    one_line(fullscale("train", phantoms, "-o", out, "network.name=unet3", *QUICK), USAGE, "unet3+")
    one_line(fullscale("train", phantoms, "-o", out, "loss.name=hybrd", *QUICK), USAGE, "hybrid")
    one_line(fullscale("predict", empty, scan, "-o", out), DATA, "holds no model")
    one_line(fullscale("predict", trained_run, empty, "-o", out), DATA, "holds no scan")
    one_line(fullscale("predict", trained_run, tmp_path / "absent.nii.gz", "-o", out), DATA, "absent.nii.gz")
    one_line(fullscale("predict", trained_run, scan, "-o", out, "--device", "cuda:9"), USAGE, "cuda:9")
    one_line(fullscale("evaluate", empty, phantoms / "labelsTr"), DATA, "empty")
    one_line(fullscale("phantom", scan), USAGE, "not empty")
    one_line(fullscale("import-weights", scan / "phantom_006.nii.gz", "-o", out / "m.safetensors"), DATA, "phantom_006")
    assert fullscale("nonsense").returncode == USAGE
    assert fullscale("predict", trained_run, scan).returncode == USAGE
    assert not (out / "m.safetensors").exists()
    assert not list(out.rglob("*.nii.gz"))


def test_a_mask_of_another_shape_or_label_is_told_by_case(fullscale: Command, phantoms: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(phantoms, tmp_path / "data"))
    first, second = (nib.load(data / "labelsTr" / f"phantom_00{i}.nii.gz") for i in (0, 1))
    nib.save(nib.Nifti1Image(np.asarray(first.dataobj)[1:], first.affine), data / "labelsTr" / "phantom_000.nii.gz")
    strange = np.asarray(second.dataobj).copy()
    strange[0, 0, 0] = 9
    nib.save(nib.Nifti1Image(strange, second.affine), data / "labelsTr" / "phantom_001.nii.gz")
    content = gzip.decompress((data / "imagesTr" / "phantom_002.nii.gz").read_bytes())
    (data / "imagesTr" / "phantom_002.nii.gz").write_bytes(gzip.compress(content)[:-2000])
    report = json.loads(fullscale("inspect", data, "--json").stdout)
    problems = {problem["case"]: problem["message"] for problem in report["problems"]}
    assert "different grids" in problems["phantom_000"]
    assert "[9]" in problems["phantom_001"]
    assert "phantom_002" in problems["phantom_002"]
    assert report["usable_cases"] == 3
    one_line(fullscale("train", data, "-o", tmp_path / "run", *QUICK), DATA, "phantom_000", "--drop-bad-cases")
    assert not (tmp_path / "run" / "bundle").exists()


def start(*arguments: object, **options: object) -> "subprocess.Popen[str]":
    command = [Path(sys.executable).with_name("fullscale"), *map(str, arguments)]

    def hear_ctrl_c() -> None:  # a shell starts what it puts in the background deaf to it, and children inherit that
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, preexec_fn=hear_ctrl_c, **pipes, **options)  # type: ignore[call-overload, no-any-return]


def wait_for(condition: object, process: "subprocess.Popen[str]", seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "the condition was never met"
        time.sleep(0.05)


# kill -9 and Ctrl-C come at random moments in tests/faults.
@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGTERM])
def test_a_run_that_is_ended_goes_on_with_the_same_command(
    fullscale: Command, phantoms: Path, cache: Path, tmp_path: Path, ending: signal.Signals
) -> None:
    run = tmp_path / "run"
    command = ("train", phantoms, "-o", run, "--cache", cache, *QUICK, "trainer.max_epochs=6")
    process = start(*command)
    wait_for((run / "fold_0" / "last.ckpt").is_file, process)
    process.send_signal(ending)
    _, errors = process.communicate(timeout=60)
    if ending in ENDINGS:
        assert (process.returncode, errors.strip().splitlines()[-1]) == ENDINGS[ending], errors
    assert not (run / "bundle").exists()
    again = fullscale(*command)
    assert again.returncode == DONE, again.stderr
    assert "going on from" in again.stderr
    epochs = [line.split(",")[0] for line in (run / "fold_0" / "metrics.csv").read_text().splitlines()[1:]]
    assert epochs == [str(epoch) for epoch in range(6)]
    assert (run / "bundle" / "model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "ending"),
    [
        ("inspect", signal.SIGINT),
        *[(verb, ending) for verb in ("phantom", "predict") for ending in ENDINGS],
    ],
)
def test_ctrl_c_and_sigterm_end_any_verb_quietly(
    trained_run: Path, phantoms: Path, tmp_path: Path, verb: str, ending: signal.Signals
) -> None:
    many = tmp_path / "many"
    (many / "imagesTr").mkdir(parents=True)
    (many / "labelsTr").mkdir()
    for i in range(400):
        for kind in ("imagesTr", "labelsTr"):
            os.link(phantoms / kind / "phantom_000.nii.gz", many / kind / f"c{i:03d}.nii.gz")
    arguments = {
        "inspect": ("inspect", many),
        "phantom": ("phantom", tmp_path / "new", "--cases", 400),
        "predict": ("predict", trained_run, many / "imagesTr", "-o", tmp_path / "masks"),
    }[verb]
    process = start(*arguments)
    busy = {
        "inspect": lambda: True,
        "phantom": lambda: (tmp_path / "new" / RECORD).is_file(),
        "predict": lambda: any((tmp_path / "masks").glob("*.nii.gz")) if (tmp_path / "masks").is_dir() else False,
    }[verb]
    wait_for(busy, process)
    time.sleep(0.6 if verb == "inspect" else 0.1)
    process.send_signal(ending)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == ENDINGS[ending][0], errors
    assert "Traceback" not in errors
    for folder in (tmp_path / "new", tmp_path / "masks"):
        for path in folder.rglob("*.nii.gz"):
            assert not path.name.startswith("."), "a half-written file was left"
            np.asarray(nib.load(path).dataobj)
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(not Path("/dev/full").exists() or os.geteuid() != 0, reason="needs root to mount a tiny disk")
@pytest.mark.long
def test_a_full_disk_is_one_line_and_leaves_no_half_file(
    fullscale: Command, process: Command, trained_run: Path, phantoms: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=False).returncode:
        pytest.skip("cannot mount a tiny disk here")
    try:
        with suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
            while filler.write(bytes(1024)):
                pass
        result = fullscale("predict", trained_run, phantoms / "imagesTs", "-o", disk / "masks")
        one_line(result, FAILED, "cannot write", "No space left")
        assert not list(disk.rglob("*.nii.gz"))
        one_line(fullscale("phantom", disk / "new", "--cases", 3, "--size", 48), FAILED, "No space left")
        result = process("train", phantoms, "-o", disk / "run", "--cache", tmp_path / "cache", *QUICK)
        one_line(result, FAILED, "No space left")
        result = process("prepare", phantoms, "--cache", disk / "cache")
        one_line(result, FAILED, "No space left")
    finally:
        subprocess.run(["umount", disk], check=True)


def test_the_version_and_the_command_as_a_module(process: Command) -> None:
    shown = process("--version")
    assert (shown.returncode, shown.stdout.strip()) == (DONE, version("fullscale"))
    as_module = subprocess.run(
        [sys.executable, "-m", "fullscale", "--version"], capture_output=True, text=True, check=True
    )
    assert as_module.stdout == shown.stdout
    usage = subprocess.run([sys.executable, "-m", "fullscale", "--help"], capture_output=True, text=True, check=True)
    assert usage.stdout == process("--help").stdout


def test_help_is_quick_to_load_and_names_every_verb(process: Command) -> None:
    shown = process("--help").stdout
    for verb in ("demo", "inspect", "plan", "prepare", "train", "predict", "evaluate", "import-weights"):
        assert verb in shown
    listing = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import fullscale.cli.app"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {line.split("|")[-1].strip() for line in listing.stderr.splitlines()}
    assert not {"torch", "numpy", "monai", "lightning", "nibabel"} & loaded


def test_a_dicom_study_from_its_listing_to_its_segmentation(
    fullscale: Command, trained_run: Path, tmp_path: Path
) -> None:
    study, out = tmp_path / "study", tmp_path / "out"
    write_series(study / "thin", SeriesDescription="thin")
    write_series(study / "holed", slices=[0, 1, 3, 4], SeriesDescription="holed", SeriesInstanceUID="1.2.9")
    listed = json.loads(fullscale("inspect", study, "--json").stdout)["series"]
    assert [(series["description"], series["problem"] is None) for series in listed] == [
        ("thin", True),
        ("holed", False),
    ]
    assert "slices that seem to be missing: 1" in listed[1]["problem"]
    shown = fullscale("inspect", study)
    assert shown.returncode == DONE
    assert "1.25 x 0.5 x 3" in shown.stdout
    one_line(fullscale("inspect", study / "holed"), DATA, "--allow-gaps")
    predict = ("predict", trained_run, study, "-o", out, "--format", "seg")
    result = fullscale(*predict)
    one_line(result, PARTIAL, "1 of 1 scans failed")
    assert "choose one by its UID (--series)" in result.stderr
    assert not out.exists()
    filled = fullscale(*predict, "--series", "holed", "--allow-gaps", "--seg-type", "binary")
    assert filled.returncode == DONE, filled.stderr
    assert "gaps filled: 1 of 5 slices" in filled.stderr
    assert sorted(path.name for path in out.glob("[!.]*")) == ["predictions.json", "study.dcm"]
    one_line(fullscale("inspect", out), DATA, "a DICOM segmentation")
