"""Names that come from data: file names that lead nowhere else, and text that is shown as it is."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fullscale.data.discover import Scan
from fullscale.data.volume_files import read_volume
from fullscale.errors import UsageError
from fullscale.files import LONGEST_NAME, require_inside, safe_name
from fullscale.inference.batch import find_scans, predict_scans
from fullscale.inference.naming import OutputOptions, planned_outputs, probability_name
from fullscale.inference.predictor import Predictor
from fullscale.text import printable
from tests.conftest import Command

HOSTILE = ["[red]x[/red]", "case[1]", "[/]", ":smile: [link=x]y[/link]"]


@pytest.mark.parametrize("name", ["case_1", "volume-7", "liver 2", "1.2.840.113619.2", "Lebermetastase größer", "[1]"])
def test_an_ordinary_name_stays(name: str) -> None:
    assert safe_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../../precious", "/etc/passwd", "a/b", "a\\b", "a\0b", "a\nb", ".hidden", "con", "NUL.x"),
        *("x" * 300, "ü" * 200, '"' + "ü" * 58, "." + "x" * 119, "a ", "a.", "C:x", "\ud800"),
    ],
)
def test_any_other_becomes_a_plain_file_name(name: str, tmp_path: Path) -> None:
    safe = safe_name(name)
    assert safe not in (name, safe_name(name + "x"), "")
    file = require_inside(tmp_path, tmp_path / f"{safe}.nii.gz")
    file.touch()
    assert [path.name for path in tmp_path.iterdir()] == [f"{safe}.nii.gz"]
    assert len(safe.encode()) <= LONGEST_NAME
    assert safe_name(safe) == safe


@given(st.text(max_size=300), st.text(max_size=300))
def test_different_names_stay_different_and_a_safe_name_stays(one: str, other: str) -> None:
    assert (safe_name(one) == safe_name(other)) == (one == other) or other in (safe_name(one), one)
    assert safe_name(safe_name(one)) == safe_name(one)


@pytest.mark.parametrize("structure", ["../../liver", "/etc/passwd", "..", "[red]a/b", "a\0b", "a\nb", ""])
def test_the_probability_of_a_hostile_structure_lies_beside_its_mask(structure: str, tmp_path: Path) -> None:
    scan = Scan("scan", tmp_path / "scan.nii.gz")
    [mask, soft] = planned_outputs([scan], tmp_path / "out", OutputOptions(probabilities=True), [structure])
    assert mask == tmp_path / "out" / "scan.nii.gz"
    assert require_inside(mask.parent, soft).parent == mask.parent
    assert soft.name == printable(soft.name)
    assert soft.name == probability_name("scan", structure, ".nii.gz")


def test_a_path_outside_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    assert require_inside(folder, folder / "sub" / "x") == folder / "sub" / "x"
    for path in (folder / ".." / "x", tmp_path / "x", folder / "link" / "x", folder / "..", Path("/x")):
        with pytest.raises(UsageError, match="lies outside"):
            require_inside(folder, path)


def test_control_characters_are_spelled_out() -> None:
    assert printable("a\x1b[2Jb\tc\nd\u202e é 日") == "a\\x1b[2Jb c d\\u202e é 日"


@pytest.fixture
def listed(phantoms: Path, tmp_path: Path) -> Path:
    """A list whose cases are named to lead out of any folder, and to look like markup."""
    names = ["../../precious", str(tmp_path / "absolute"), *HOSTILE[:2]]
    scans = sorted((phantoms / "imagesTr").iterdir())
    cases = [
        {"case": name, "image": str(scan), "label": str(phantoms / "labelsTr" / scan.name)}
        for name, scan in zip(names, scans, strict=False)
    ]
    file = tmp_path / "a" / "b" / "list.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(cases))
    return file


def test_masks_of_hostile_names_stay_in_the_output_folder(
    fullscale: Command, trained_run: Path, listed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a" / "b" / "out"
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    done = fullscale("test", trained_run, listed, "-o", out)
    assert done.returncode == 0, done.stderr
    written = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert len(written) == 6
    assert all(path.parent == out for path in written)
    for name in HOSTILE[:2]:
        assert f" {name} " in done.stdout
    more = tmp_path / "a" / "b" / "more"
    scans, _ = find_scans([listed])
    results = predict_scans(Predictor.from_run(trained_run), scans, more, OutputOptions(probabilities=True))
    assert [result.error for result in results] == [None] * 4
    assert len(list(more.iterdir())) == 4 * 3
    again = fullscale("evaluate", more, listed, "--json")
    assert again.returncode == 0, again.stderr
    cases = [case["case"] for case in json.loads(again.stdout)["metric_per_case"]]
    assert sorted(cases) == sorted(["../../precious", str(tmp_path / "absolute"), *HOSTILE[:2]])


def test_a_table_shows_names_as_they_are(fullscale: Command, phantoms: Path, tmp_path: Path) -> None:
    labels = phantoms / "labelsTr"
    [first, *_] = sorted(labels.iterdir())
    values = np.unique(read_volume(first).array)
    assert set(values) == {0, 1, 2}
    done = fullscale("evaluate", first, first, "--labels", "1=[red]x[/red],2=[/]")
    assert done.returncode == 0, done.stderr
    assert " [red]x[/red] " in done.stdout
    assert " [/] " in done.stdout
    settings = fullscale("settings")
    assert settings.returncode == 0
    assert "[" in settings.stdout
    failed = fullscale("evaluate", tmp_path / "[bold]no[/bold]", first)
    assert "[bold]no[/bold]" in failed.stderr
