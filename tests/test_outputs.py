"""What is written never replaces what is read, nor what someone else wrote."""

import hashlib
import shutil
from pathlib import Path

import pytest

from fullscale.errors import UsageError
from fullscale.outputs import RECORD, claim, claimed, record, require_not_read
from tests.conftest import Command


def digests(folder: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def test_the_same_command_may_replace_what_it_wrote_and_nothing_else(tmp_path: Path) -> None:
    scan, mask = tmp_path / "in" / "a.nii.gz", tmp_path / "out" / "a.nii.gz"
    scan.parent.mkdir()
    scan.write_text("scan")
    claim(tmp_path / "out", [mask], [scan])
    mask.write_text("mask")
    claim(tmp_path / "out", [mask], [scan])  # a killed command goes on
    with claimed(tmp_path / "out", [mask], [scan]):
        mask.write_text("another mask")
    with pytest.raises(KeyboardInterrupt), claimed(tmp_path / "out", [mask], [scan]):
        raise KeyboardInterrupt
    mask.write_text("mask, corrected by hand")
    with pytest.raises(UsageError, match="was not written by fullscale"):
        claim(tmp_path / "out", [mask], [scan])
    claim(tmp_path / "out", [mask], [scan], overwrite=True)


def test_what_was_not_written_in_the_end_is_not_ours_later(tmp_path: Path) -> None:
    mask = tmp_path / "a.nii.gz"
    claim(tmp_path, [mask], [])
    record(tmp_path, [mask])
    mask.write_text("of someone else")
    with pytest.raises(UsageError, match="was not written by fullscale"):
        claim(tmp_path, [mask], [])


def test_inputs_are_never_replaced_under_any_name(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for folder in ("imagesTr", "labelsTr"):
        (data / folder).mkdir(parents=True)
        (data / folder / "a.nii.gz").write_text(folder)
    (data / "dataset.json").write_text("{}")
    (tmp_path / "link").symlink_to(data / "labelsTr")
    for given in (data, data / "imagesTr"):
        for output in (data / "labelsTr", data / "imagesTr", tmp_path / "link"):
            with pytest.raises(UsageError, match="belongs to the input"):
                claim(output, [output / "a.nii.gz"], [given], overwrite=True)
    claim(data / "predictions", [data / "predictions" / "a.nii.gz"], [data])


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\x00", b'{"a.nii.gz": 1}'])
def test_a_damaged_record_makes_every_file_someone_elses(content: bytes, tmp_path: Path) -> None:
    (tmp_path / RECORD).write_bytes(content)
    (tmp_path / "a.nii.gz").write_text("mask")
    with pytest.raises(UsageError, match="was not written by fullscale"):
        claim(tmp_path, [tmp_path / "a.nii.gz"], [])


def test_an_output_that_is_an_input(tmp_path: Path) -> None:
    scan = tmp_path / "a.nii.gz"
    scan.write_text("scan")
    (tmp_path / "hard.nii.gz").hardlink_to(scan)
    (tmp_path / "soft.nii.gz").symlink_to(scan)
    for name in ("a.nii.gz", "hard.nii.gz", "soft.nii.gz", "../" + tmp_path.name + "/a.nii.gz"):
        with pytest.raises(UsageError, match="which it would replace"):
            require_not_read(tmp_path / name, [None, scan])
    require_not_read(tmp_path / "new", [scan])
    require_not_read(None, [scan])


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
            assert "choose another folder" in refused.stderr
    assert digests(data) == before
    for _ in range(2):
        done = fullscale("predict", trained_run, data / "imagesTs", "-o", tmp_path / "out")
        assert done.returncode == 0, done.stderr
    truth = data / "labelsTr" / "phantom_000.nii.gz"
    overlaid = fullscale("overlay", data / "imagesTr" / "phantom_000.nii.gz", truth, "-o", truth)
    scored = fullscale("evaluate", truth, truth, "-o", truth)
    assert (overlaid.returncode, scored.returncode) == (2, 2)
    assert digests(data) == before
