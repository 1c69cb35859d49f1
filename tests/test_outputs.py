"""What is written never replaces what is read, nor what someone else wrote."""

import hashlib
import shutil
from pathlib import Path

import pytest

from fullscale.errors import UsageError
from fullscale.outputs import RECORD, claim, claimed, record
from tests.conftest import Command


def digests(folder: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def test_the_same_command_may_replace_what_it_wrote_and_nothing_else(tmp_path: Path) -> None:
    scan, mask = tmp_path / "in" / "a.nii.gz", tmp_path / "out" / "a.nii.gz"
    scan.parent.mkdir()
    scan.write_text("scan")
    claim([mask], [scan], "predict")
    mask.write_text("mask")
    claim([mask], [scan], "predict")  # a killed command goes on
    with claimed([mask], [scan], "predict"):
        mask.write_text("another mask")
    with pytest.raises(KeyboardInterrupt), claimed([mask], [scan], "predict"):
        raise KeyboardInterrupt
    with pytest.raises(UsageError, match="was written by fullscale predict"):
        claim([mask], [scan], "test")
    mask.write_text("mask, corrected by hand")
    with pytest.raises(UsageError, match="was not written by fullscale"):
        claim([mask], [scan], "predict")
    claim([mask], [scan], "predict", overwrite=True)


def test_what_was_not_written_in_the_end_is_not_ours_later(tmp_path: Path) -> None:
    mask = tmp_path / "a.nii.gz"
    claim([mask], [], "predict")
    record([mask], "predict")
    mask.write_text("of someone else")
    with pytest.raises(UsageError, match="was not written by fullscale"):
        claim([mask], [], "predict")


def test_two_commands_at_once_do_not_forget_each_others_files(tmp_path: Path) -> None:
    one, other = tmp_path / "one.png", tmp_path / "other.png"
    with claimed([one], [], "overlay"):
        with claimed([other], [], "overlay"):
            other.write_text("other")
        one.write_text("one")
    claim([one, other], [], "overlay")


def test_nothing_is_left_where_nothing_was_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the work"), claimed([tmp_path / "a" / "b" / "c.png"], [], "overlay"):
        raise ValueError("the work")
    with pytest.raises(ValueError, match="the work"), claimed([tmp_path / "c.png"], [], "overlay"):
        raise ValueError("the work")
    assert list(tmp_path.iterdir()) == []


def test_inputs_are_never_replaced_under_any_name(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for folder in ("imagesTr", "labelsTr"):
        (data / folder).mkdir(parents=True)
        (data / folder / "a.nii.gz").write_text(folder)
    (data / "dataset.json").write_text("{}")
    (tmp_path / "link").symlink_to(data / "labelsTr")
    for given in (data, data / "imagesTr", data / "imagesTr" / "a.nii.gz"):
        for output in (data / "labelsTr", data / "imagesTr", tmp_path / "link"):
            with pytest.raises(UsageError, match=r"belongs to the input|is an input"):
                claim([output / "a.nii.gz"], [given], "predict", overwrite=True)
    claim([data / "predictions" / "a.nii.gz"], [data], "predict")


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"\xff\x00", b'{"a.nii.gz": 1}', b'{"name": "a.nii.gz", "by": "predict", "state": 1}']
)
def test_a_damaged_record_makes_every_file_someone_elses(content: bytes, tmp_path: Path) -> None:
    (tmp_path / RECORD).write_bytes(content)
    (tmp_path / "a.nii.gz").write_text("mask")
    with pytest.raises(UsageError, match="was not written by fullscale"):
        claim([tmp_path / "a.nii.gz"], [], "predict")


def test_a_torn_line_of_the_record_costs_its_own_file_alone(tmp_path: Path) -> None:
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for file in files:
        with claimed([file], [], "overlay"):
            file.write_text("x")
    content = (tmp_path / RECORD).read_bytes()
    (tmp_path / RECORD).write_bytes(content[: content.rindex(b'"state"')] + b"\n")
    claim([files[0]], [], "overlay")
    record([files[0]], "overlay")
    (tmp_path / RECORD).write_bytes(content[: content.rindex(b'{"name": "b.png"')])
    claim(files, [], "overlay")  # killed between writing the file and its last line


def test_a_long_record_is_shortened(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    for _ in range(600):
        claim([file], [], "overlay")
    file.write_text("x")
    record([file], "overlay")
    claim([file], [], "overlay")
    assert (tmp_path / RECORD).stat().st_size < 60_000


def test_an_output_that_is_an_input(tmp_path: Path) -> None:
    scan = tmp_path / "a.nii.gz"
    with claimed([scan], [], "predict"):
        scan.write_text("scan")
    (tmp_path / "hard.nii.gz").hardlink_to(scan)
    (tmp_path / "soft.nii.gz").symlink_to(scan)
    for name in ("a.nii.gz", "hard.nii.gz", "soft.nii.gz", "../" + tmp_path.name + "/a.nii.gz"):
        with pytest.raises(UsageError, match="is an input"):
            claim([tmp_path / name], [None, scan], "predict", overwrite=True)
    claim([tmp_path / "new"], [scan], "predict")


def test_a_folder_is_replaced_only_where_it_is_empty_or_ours(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    with claimed([], [], "import-weights", folders=[bundle]):
        (bundle / "model.json").write_text("{}")
    claim([], [], "import-weights", folders=[bundle])
    record([bundle], "import-weights")
    (bundle / "notes.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="is a folder whose files"):
            claim([], [], "import-weights", overwrite, folders=[bundle])
    with pytest.raises(UsageError, match=r"is a folder"):
        claim([bundle], [], "overlay", overwrite=True)


def test_predictions_never_replace_the_truth(
    fullscale: Command, trained_run: Path, phantoms: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(phantoms, data)
    before = digests(data)
    for verb, given in (("predict", data), ("predict", data / "imagesTr"), ("test", data)):
        for more in ([], ["--overwrite"]):
            refused = fullscale(verb, trained_run, given, "-o", data / "labelsTr", *more)
            assert refused.returncode == 2, refused.stderr
            assert "choose another place" in refused.stderr
    assert digests(data) == before
    (tmp_path / "list.csv").write_text("case,image\nphantom_000,data/imagesTr/phantom_000.nii.gz\n")
    for command in (
        ("predict", trained_run, data / "imagesTr", "--archive"),
        ("predict", trained_run, tmp_path / "list.csv", "--archive"),
        ("test", trained_run, data, "--shard", "1/1"),
    ):
        for place in (data / "labelsTr", data / "imagesTr"):
            refused = fullscale(*command, "-o", place, "--device", "cpu", "--overwrite")
            assert refused.returncode == 2, refused.stderr
            assert "; choose an" in refused.stderr
    now = digests(data)
    assert {name: now[name] for name in before} == before  # a ledger is beside them
    before = now
    for _ in range(2):
        done = fullscale("predict", trained_run, data / "imagesTs", "-o", tmp_path / "out")
        assert done.returncode == 0, done.stderr
    truth = data / "labelsTr" / "phantom_000.nii.gz"
    overlaid = fullscale("overlay", data / "imagesTr" / "phantom_000.nii.gz", truth, "-o", truth)
    scored = fullscale("evaluate", truth, truth, "-o", truth)
    assert (overlaid.returncode, scored.returncode) == (2, 2)
    assert digests(data) == before


@pytest.fixture
def masks(phantoms: Path, tmp_path: Path) -> Path:
    """Masks of their own, which are the truth."""
    return Path(shutil.copytree(phantoms / "labelsTr", tmp_path / "masks"))


@pytest.mark.slow
def test_no_command_replaces_what_it_did_not_write_without_leave(
    fullscale: Command, trained_run: Path, phantoms: Path, masks: Path, tmp_path: Path
) -> None:
    scan, mask = phantoms / "imagesTr" / "phantom_000.nii.gz", masks / "phantom_000.nii.gz"
    outputs = {
        "s.json": ("evaluate", mask, mask, "-o"),
        "o.png": ("overlay", scan, mask, "--slices", "1", "-o"),
        "p.json": ("plan", phantoms, "-o"),
        "r.html": ("report", trained_run, "-o"),
    }
    for name, command in outputs.items():
        file = tmp_path / "out" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("mine")
        refused = fullscale(*command, file)
        assert (refused.returncode, file.read_text()) == (2, "mine"), refused.stderr
        assert f"{file} is there and was not written by fullscale" in refused.stderr
        for more in (("--overwrite",), ()):  # and what it wrote itself, it may write again
            done = fullscale(*command, file, *more)
            assert done.returncode == 0, done.stderr
        file.write_text(file.read_text(errors="replace") + "edited")
        assert fullscale(*command, file).returncode == 2
    refused = fullscale("export", trained_run, "-o", tmp_path / "out" / "p.onnx")
    assert f"{tmp_path / 'out' / 'p.json'} was not" in refused.stderr or "is there" in refused.stderr
    assert not (tmp_path / "out" / "p.onnx").exists()


def test_evaluate_replaces_no_summary_but_its_own(
    fullscale: Command, trained_run: Path, phantoms: Path, masks: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(trained_run, tmp_path / "run"))
    before = digests(run)
    validation = run / "fold_0" / "validation"
    refused = fullscale("evaluate", validation, phantoms, "--overwrite")
    assert refused.returncode == 2
    assert "it belongs to the input" in refused.stderr
    assert digests(run) == before
    assert fullscale("evaluate", validation, phantoms, "-o", tmp_path / "scores.json").returncode in (0, 4)
    (masks / "summary.json").write_text("of nnU-Net")
    assert fullscale("evaluate", masks, phantoms).returncode == 2
    (masks / "summary.json").unlink()
    for _ in range(2):
        assert fullscale("evaluate", masks, phantoms).returncode == 0


def test_outputs_that_cannot_be_written_are_refused_before_the_work(
    fullscale: Command, phantoms: Path, masks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder").mkdir()
    mask = masks / "phantom_000.nii.gz"

    def work(*_: object, **__: object) -> None:
        raise AssertionError("the work began")

    monkeypatch.setattr("fullscale.scoring.evaluate.evaluate", work)
    monkeypatch.setattr("fullscale.data.checks.inspect_dataset", work)
    in_the_way = {
        ("evaluate", mask, mask): (tmp_path / "file", tmp_path / "folder.json"),
        ("plan", phantoms): (tmp_path / "folder",),
    }
    (tmp_path / "folder.json").mkdir()
    for command, outputs in in_the_way.items():
        for output in (*outputs, tmp_path / "file" / "below", tmp_path / ("x" * 300)):
            done = fullscale(*command, "-o", output)
            assert done.returncode in (1, 2), done.stderr
            assert done.stderr.count("\n") == 1
            assert "unexpected" not in done.stderr
