"""What a command does not use of a data set, it names."""

import shutil
from pathlib import Path

from tests.conftest import Command


def test_plan_and_prepare_name_each_case_that_they_leave_out(
    fullscale: Command, phantoms: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(phantoms, tmp_path / "data"))
    (data / "imagesTr" / "phantom_001.nii.gz").write_text("junk")
    (data / "labelsTr" / "phantom_002.nii.gz").write_text("junk")
    plan, cache = tmp_path / "plan.json", tmp_path / "cache"
    planned = fullscale("plan", data, "-o", plan, "--device", "cpu")
    assert planned.returncode == 0, planned.stderr
    prepared = fullscale("prepare", data, "--plan", plan, "--cache", cache)
    assert prepared.returncode == 4, prepared.stderr
    assert "fullscale: 2 cases cannot be used; the others are prepared" in prepared.stderr
    assert "\n4 cases, " in prepared.stderr
    for done in (planned, prepared):
        for case in ("phantom_001", "phantom_002"):
            assert done.stderr.count(f"left out: {case}: ") == 1, done.stderr
        assert "note: not used: 1 case without labels, such as phantom_006" in done.stderr


def test_a_path_that_is_not_there_is_not_called_a_file_of_another_kind(fullscale: Command, tmp_path: Path) -> None:
    for name in ("nowhere", "nowhere.nii.gz", "nowhere.dcm"):
        done = fullscale("bench", "scan", tmp_path / name)
        assert done.returncode == 3
        assert f"{tmp_path / name}: no such file" in done.stderr
