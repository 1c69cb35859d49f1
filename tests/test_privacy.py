"""Results tell neither where the data lie nor, if asked, how cases are called."""

import csv
import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest
import timm
import torch

from fullscale.data.anonymise import NameKey, anonymised, open_key, without_files
from fullscale.data.case import Case
from fullscale.data.layouts.find import find_dataset
from fullscale.data.places import PLACES, find_place, place_of, remember_place
from fullscale.errors import DataError, UsageError
from tests.conftest import QUICK, Command

PATIENT = "Mueller_Hans_1950"
CASES = ["Schmidt Eva", "Weber-Jan", "Kruse.Ole", "Lang_Ida", "Wolfgang", "Hubertus"]
"""Long enough not to occur by chance in the pictures of a report."""


def holding(folder: Path, text: str) -> list[str]:
    """List the files below a folder that hold a text in their name or their bytes, unpacked where they are packed."""
    found = []
    for path in folder.rglob("*"):
        if text in path.relative_to(folder).as_posix():
            found.append(str(path))
        if not path.is_file():
            continue
        parts = [path.read_bytes()]
        if zipfile.is_zipfile(path):  # checkpoints of torch
            with zipfile.ZipFile(path) as archive:
                parts = [archive.read(name) for name in archive.namelist()]
        if any(text.encode() in part for part in parts):
            found.append(str(path))
    return found


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, as on the machine of one user."""
    monkeypatch.setenv("FULLSCALE_CACHE", str(tmp_path / "home" / "cache"))
    return tmp_path / "home"


@pytest.fixture
def data(phantoms: Path, tmp_path: Path) -> Path:
    """A data set in a folder named after a patient, whose cases are named after others."""
    data = tmp_path / PATIENT / "set"
    for folder in ("images", "labels"):
        (data / folder).mkdir(parents=True)
    for name, scan in zip(CASES, sorted((phantoms / "imagesTr").iterdir()), strict=True):
        shutil.copy(scan, data / "images" / f"{name}.nii.gz")
        shutil.copy(phantoms / "labelsTr" / scan.name, data / "labels" / f"{name}.nii.gz")
    shutil.copy(next((phantoms / "imagesTs").iterdir()), data / "images" / "Unlabelled Una.nii.gz")
    return data


@pytest.mark.slow
def test_nothing_that_is_written_tells_where_the_data_lie(
    fullscale: Command, data: Path, shallow_bundle: Path, machine: Path, tmp_path: Path
) -> None:
    out, start = tmp_path / "out", shutil.copytree(shallow_bundle, tmp_path / "start")
    train = ("train", data, "-o", out / "run", *QUICK, "network.levels=3", f"network.init={start}")
    for command in (
        train,
        ("test", out / "run", data, "-o", out / "tested"),
        ("evaluate", out / "tested", data, "-o", out / "scores" / "summary.json", "--against", out / "tested"),
        ("report", out / "run"),
        ("report", out / "tested"),
        ("report", out / "scores"),
        ("export", out / "run", "-o", out / "model.onnx"),
    ):
        done = fullscale(*command)
        assert done.returncode == 0, done.stderr
        assert "no picture" not in done.stderr
    for hidden in (str(tmp_path), PATIENT, str(machine)):
        assert holding(out, hidden) == []
    again = fullscale(*train)
    assert again.returncode == 0, again.stderr
    moved = shutil.move(data, tmp_path / "elsewhere")
    again = fullscale("train", moved, *train[2:])
    assert again.returncode == 0, again.stderr
    refused = fullscale("train", moved, "-o", out / "more", "--config", out / "run" / "config.yaml")
    assert "a run keeps the digest of its first weights alone; give their path" in refused.stderr
    shutil.rmtree(machine)
    alone = fullscale("report", out / "tested")
    assert alone.stderr.count("no picture of") == 3
    assert fullscale("report", out / "tested", "--data", moved).stderr == ""


@pytest.mark.slow
def test_an_anonymised_run_tells_no_name_and_goes_on(fullscale: Command, data: Path, tmp_path: Path) -> None:
    out, key = tmp_path / "out", tmp_path / "key.csv"
    inside = fullscale("train", data, "-o", out / "run", "--anonymise", out / "run" / "key.csv", *QUICK)
    assert (inside.returncode, out.exists()) == (2, False)
    assert "keep it apart" in inside.stderr
    (data / "labels" / f"{CASES[0]}.nii.gz").write_bytes(b"damaged")
    for command in (
        ("train", data, "-o", out / "run", "--drop-bad-cases", *QUICK),
        ("train", data, "-o", out / "run", "--drop-bad-cases", *QUICK, "trainer.max_epochs=3"),
        ("report", out / "run"),
    ):
        done = fullscale(*command, "--anonymise", key)
        assert done.returncode == 0, done.stderr
        assert not any(name in done.stdout for name in CASES)
        assert "no picture" not in done.stderr
    assert fullscale("test", out / "run", data, "-o", out / "tested", "--anonymise", key).returncode == 4
    assert fullscale("report", out / "tested", "--anonymise", key).returncode == 0
    assert fullscale("evidence", out / "run", "-o", out / "evidence").returncode == 0
    assert "case_0001" in (out / "evidence" / "run" / "dataset.json").read_text()
    shutil.rmtree(out / "evidence" / "licences")  # their authors are called like some of the patients here
    for hidden in (*CASES, "Unlabelled Una", "Schmidt", PATIENT, str(tmp_path)):
        assert holding(out, hidden) == []
    with key.open() as stream:
        numbers = {row["case"]: row["number"] for row in csv.DictReader(stream)}
    assert set(numbers) == {*CASES, "Unlabelled Una"}
    assert (out / "tested" / f"{numbers['Wolfgang']}.nii.gz").is_file()
    assert "set" not in json.loads((out / "run" / "plan.json").read_text())["dataset"].split("_")
    without = fullscale("train", data, "-o", out / "run", "--drop-bad-cases", *QUICK)
    assert without.returncode == 3
    assert "with --anonymise if that was given then" in without.stderr


def test_a_key_among_the_results_is_refused_whatever_writes_them(
    fullscale: Command, data: Path, trained_run: Path, tmp_path: Path
) -> None:
    out, run = tmp_path / "out", Path(shutil.copytree(trained_run, tmp_path / "run"))
    for command, key in (
        (("train", data, "-o", out), out / "key.csv"),
        (("train", data, "-o", out, "--views", "slices,patches"), out / "key.csv"),
        (("train", data, "-o", out, "--views", "slices,patches"), out / "slices" / "key.csv"),
        (("compare", data, "-o", out, "--networks", "unet", "--steps-each", "1"), out / "unet" / "key.csv"),
        (("test", run, data, "-o", out), out / "key.csv"),
        (("evaluate", data / "labels", data, "-o", out / "s.json"), out / "key.csv"),
        (("report", run, "-o", out / "page.html"), run / "key.csv"),
        (("report", run, "-o", out / "page.html"), out / "key.csv"),
    ):
        refused = fullscale(*command, "--anonymise", key)
        assert (refused.returncode, out.exists(), key.exists()) == (2, False, False), refused.stderr
        assert "keep it apart" in refused.stderr


@pytest.mark.long
@pytest.mark.slow
def test_results_have_a_digest_in_place_of_the_path_of_first_weights(
    fullscale: Command, data: Path, trained_run: Path, tmp_path: Path
) -> None:
    out, weights = tmp_path / "out", tmp_path / PATIENT / "backbone.pth"
    torch.save(timm.create_model("mobilenetv3_small_050").state_dict(), weights)
    start = shutil.copytree(trained_run, tmp_path / PATIENT / "start")
    quick, one = (*QUICK, "trainer.max_epochs=1", "trainer.steps_per_epoch=1"), tmp_path / PATIENT / "rows.yaml"
    pretrained = {"network.options": {"encoder": "mobilenetv3_small_050", "pretrained": str(weights)}}
    one.write_text(json.dumps({"rows": [{"name": "unet", "settings": pretrained}]}))
    shared = [text for text in quick if not text.startswith(("trainer.max_epochs", "trainer.steps_per_epoch"))]
    compare = ("compare", data, "-o", out / "compared", "--folds", "1", "--steps-each", "1", *shared)
    commands = [
        (
            "train",
            data,
            "-o",
            out / "run",
            *quick,
            "network.encoder=mobilenetv3_small_050",
            f"network.pretrained={weights}",
        ),
        (*compare, "--networks", "unet3+", f"network.init={start}"),
        (*(word if word != out / "compared" else out / "rows" for word in compare), "--rows", one),
    ]
    for command in (*commands, *commands):  # and it is the same work when it is repeated
        done = fullscale(*command)
        assert done.returncode == 0, done.stderr
    for hidden in (str(tmp_path), PATIENT):
        assert holding(out, hidden) == []
    timm_again = fullscale("train", data, "-o", out / "more", "--config", out / "run" / "config.yaml")
    assert "a run keeps the digest of its first weights alone; give their path" in timm_again.stderr
    torch.save(timm.create_model("mobilenetv3_small_050").state_dict(), weights)
    for command in (commands[0], commands[2]):
        refused = fullscale(*command)
        assert (refused.returncode, "choose another" in refused.stderr) == (2, True), refused.stderr


def test_the_report_of_a_named_run_is_anonymised(fullscale: Command, trained_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained_run, tmp_path / "run")
    page, key = tmp_path / "shown" / "page.html", tmp_path / "keys" / "key.csv"
    done = fullscale("report", run, "-o", page, "--anonymise", key, "--case", "phantom_000")
    if done.returncode:  # it is no validation case
        assert "there is no scored case" in done.stderr
        done = fullscale("report", run, "-o", page, "--anonymise", key)
    assert done.returncode == 0, done.stderr
    assert "phantom_0" not in page.read_text()
    assert "case_0001" in page.read_text()


def test_evaluated_masks_are_called_by_numbers(fullscale: Command, data: Path, tmp_path: Path) -> None:
    masks, key = tmp_path / "masks", tmp_path / "key.csv"
    shutil.copytree(data / "labels", masks)
    (masks / f"{CASES[1]}.nii.gz").unlink()
    done = fullscale("evaluate", masks, data, "-o", tmp_path / "out" / "s.json", "--anonymise", key)
    assert done.returncode == 4, done.stderr
    assert "has no prediction" in done.stderr
    text = (tmp_path / "out" / "s.json").read_text()
    assert not any(name in text + done.stdout for name in CASES)
    scores = json.loads(text)
    assert [case["reference_file"] for case in scores["metric_per_case"]] == [
        case["case"] for case in scores["metric_per_case"]
    ]
    assert scores["failures"][0]["case"] not in [case["case"] for case in scores["metric_per_case"]]


def test_the_same_key_gives_the_same_numbers_and_new_cases_new_ones(tmp_path: Path) -> None:
    key = open_key(tmp_path / "key.csv", ["b", "a, with comma", "c\nd"])
    assert key.numbers == {"a, with comma": "case_0001", "b": "case_0002", "c\nd": "case_0003"}
    more = open_key(tmp_path / "key.csv", ["0", "b"])
    assert more.numbers == {**key.numbers, "0": "case_0004"}
    for content in ("", "number,case\n1\n", "a,b\n1,2\n", "number,case\n1,a\n1,b\n"):
        (tmp_path / "other.csv").write_text(content)
        with pytest.raises(DataError, match="is no key of case names"):
            open_key(tmp_path / "other.csv", ["a"])
        assert (tmp_path / "other.csv").read_text() == content
    with pytest.raises(UsageError, match="keep it apart"):
        open_key(tmp_path / "out" / "x" / "key.csv", ["a"], tmp_path / "out")


def test_names_are_taken_out_of_a_text_where_they_stand_for_themselves() -> None:
    key = NameKey({"Eva": "case_0001", "Eva Maria": "case_0002", "a": "case_0003"})
    assert key.hide("/x/Eva Maria: Eva, Evaluation of a") == "case_0002: case_0001, Evaluation of case_0003"
    assert key.hide("/home/Eva/scan.nii.gz: is cut") == "(file): is cut"
    case = Case.of_image("case_0001", Path("/d/Eva Lang.nii.gz"), Path("/d/l/Lang, Eva.nii.gz"))
    assert without_files("/d/Eva Lang.nii.gz and Lang, Eva.nii.gz differ", case) == "its scan and its label map differ"


def test_patients_and_problems_are_numbered_too(data: Path, tmp_path: Path) -> None:
    rows = "".join(f"images/{c}.nii.gz,labels/{c}.nii.gz,{c},patient of {CASES[n // 2]}\n" for n, c in enumerate(CASES))
    (data / "list.csv").write_text(f"image,label,case,patient\n{rows}gone/Petra.nii.gz,,Petra,\n")
    found = anonymised(find_dataset(data / "list.csv"), tmp_path / "key.csv")
    assert sorted(case.id for case in found.cases) == [f"case_000{n}" for n in (1, 2, 3, 5, 6, 7)]
    assert len({case.group for case in found.cases}) == 3
    assert not any(name in str([found.problems, *(c.group for c in found.cases)]) for name in (*CASES, "Petra"))
    assert found.name == "data set"


def test_a_place_is_remembered_by_this_machine_alone(machine: Path, tmp_path: Path) -> None:
    place = place_of(tmp_path / "a")
    assert find_place(place) is None
    for _ in range(2):
        remember_place(tmp_path / "a")
    assert find_place(place) == tmp_path / "a"
    assert len((machine / "cache" / PLACES).read_text().split()) == 2
    (machine / "cache" / PLACES).write_text(f'["{place}"]\n{place}\n["{place}", 3]\n')
    assert find_place(place) is None
    if os.getuid() == 0:
        return
    (machine / "cache").chmod(0o500)
    remember_place(tmp_path / "b")
