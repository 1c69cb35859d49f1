"""What tells groups of cases apart: the scanner of a DICOM study, unless a column of the list says it."""

from dataclasses import replace
from pathlib import Path

import pytest

from fullscale.data.case import Case
from fullscale.data.phantom import write_dataset
from fullscale.data.subgroups import subgroups_of
from tests.dicom_slices import write_series, zipped


@pytest.mark.parametrize(
    ("tags", "scanner"),
    [
        ({"Manufacturer": "ACME ", "ManufacturerModelName": "One|two"}, {"scanner": "ACME One|two"}),
        ({"Manufacturer": "ACME"}, {"scanner": "ACME"}),
        ({"Manufacturer": "", "ManufacturerModelName": None}, {}),
    ],
)
def test_the_scanner_of_a_study_is_told_from_a_folder_and_from_a_zip(
    tmp_path: Path, tags: dict[str, str | None], scanner: dict[str, str]
) -> None:
    study = write_series(tmp_path / "study", **tags)
    (study / ".hidden").write_text("no DICOM")
    (study / "0").write_text("a letter")
    case = Case.of_image("a", study)
    assert subgroups_of(case) == subgroups_of(Case.of_image("a", zipped(study, tmp_path / "study.zip"))) == scanner
    listed = replace(case, subgroups={"scanner": "B", "site": "north"})
    assert subgroups_of(listed) == {"scanner": "B", "site": "north"}


def test_other_files_tell_no_scanner(tmp_path: Path) -> None:
    list(write_dataset(tmp_path, 1, size=16, slices=2, seed=0, test_cases=0))
    [scan] = (tmp_path / "imagesTr").iterdir()
    assert subgroups_of(Case.of_image("a", scan)) == {}
