"""The commands of docs/how-to/dicom.md, run as they stand there."""

import re
import shlex
import zipfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fullscale.cli.app import app
from fullscale.data.dicom.series import read_series
from fullscale.data.volume_files import write_volume
from fullscale.geometry.volume import Volume
from tests.dicom_slices import STEP_MM, slice_hu, slice_position, write_series, write_slice

pytestmark = pytest.mark.whole

PAGE = Path(__file__).resolve().parents[1] / "docs" / "how-to" / "dicom.md"


@pytest.fixture
def scene(trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything that the page speaks of."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").symlink_to(trained_run)
    write_series(tmp_path / "study")
    with zipfile.ZipFile("study.zip", "w") as archive:
        for file in Path("study").iterdir():
            archive.write(file)
    for name in ("thin", "thick"):
        write_series(tmp_path / "two-series" / name, SeriesDescription=name, SeriesInstanceUID=f"1.2.{len(name)}")
    write_phases(tmp_path / "two-phases", AcquisitionNumber=[1, 2])
    write_phases(tmp_path / "two-echoes", EchoTime=[2.3, 4.6])
    write_series(tmp_path / "holed", slices=[0, 1, 3, 4])
    (tmp_path / "tilted").mkdir()
    for k in range(5):
        sideways = np.array([0, np.tan(np.radians(12)) * STEP_MM * k, 0])
        write_slice(tmp_path / "tilted" / f"{k}.dcm", slice_hu(k), slice_position(k) + sideways)
    write_series(tmp_path / "anonymised", SOPInstanceUID="", StudyInstanceUID="")
    scan = read_series(tmp_path / "study")
    truth = np.zeros(scan.shape, np.uint8)
    truth[1:3, 1:3, 1:3] = 1
    write_volume(tmp_path / "truth" / "study.nii.gz", Volume(truth, scan.affine))
    return tmp_path


def write_phases(folder: Path, **tags: list[float]) -> None:
    """Write two phases of one series, told apart by one tag."""
    folder.mkdir()
    [(name, values)] = tags.items()
    for phase, value in enumerate(values):
        for k in range(5):
            write_slice(folder / f"{phase}-{k}.dcm", slice_hu(k) + phase, slice_position(k), **{name: value})


def test_every_command_of_the_page_runs_as_it_stands(scene: Path) -> None:
    commands = re.findall(r"^    fullscale (.+)$", PAGE.read_text(), re.MULTILINE)
    assert len(commands) >= 9
    for command in commands:
        result = CliRunner().invoke(app, shlex.split(command))
        assert result.exit_code == 0, f"{command}: {result.output} {result.exception}"
    written = {"study.dcm", "study.nii.gz", "holed.nii.gz", "tilted.nii.gz", "anonymised.dcm", "anonymised_dicom"}
    assert written <= {path.name for path in (scene / "masks").iterdir()}
    assert (scene / "picture.png").is_file()
