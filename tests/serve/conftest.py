"""One service for the tests that leave it as it was, and a study."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fullscale.data.volume_files import read_volume
from tests.dicom_slices import write_slice
from tests.serve.served import Served, served


@pytest.fixture(scope="package")
def service(trained_run: Path, phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serves the model `tiny` and the phantoms; uploads are at most 1 MiB and take at most 2 seconds."""
    state = tmp_path_factory.mktemp("service") / "state"
    bounds = ("--max-upload", 1 / 1024, "--upload-time", "2s")
    with served(state, f"tiny={trained_run}", "--data", phantoms, *bounds) as running:
        yield running


@pytest.fixture(scope="package")
def study(tmp_path_factory: pytest.TempPathFactory, phantoms: Path) -> Path:
    """A phantom as a DICOM series."""
    folder = tmp_path_factory.mktemp("dicom") / "study"
    folder.mkdir()
    voxels = read_volume(phantoms / "imagesTr" / "phantom_001.nii.gz").array
    who = {"PatientName": "Doe^Jane", "PatientID": "4711", "PatientBirthDate": "", "PatientSex": "", "StudyDate": ""}
    for k in range(voxels.shape[2]):
        tags = who | {"StudyTime": "", "StudyID": "", "AccessionNumber": "", "InstanceNumber": k + 1}
        write_slice(folder / f"{k}.dcm", voxels[:, :, k].T, (0, 0, 3.0 * k), SeriesDescription="venous", **tags)
    return folder
