"""Two channels from the data set to the mask, in slices and in patches."""

import json
from pathlib import Path

import numpy as np
import pytest

from fullscale.config.load import load_config
from fullscale.data.phantom import make_case
from fullscale.data.read import read_image
from fullscale.data.volume_files import write_volume
from fullscale.errors import UsageError
from fullscale.inference.predictor import Predictor
from fullscale.runfolder import RunFolder
from fullscale.scoring.summary import read_summary
from fullscale.training.request import TrainRequest
from fullscale.training.run import train
from tests.conftest import Command, Once
from tests.dicom_slices import write_series

SETTINGS = [
    *("network.width=4", "data.batch_size=1", "data.workers=0", "data.folds=2"),
    *("trainer.steps_per_epoch=2", "trainer.max_epochs=1", "trainer.device=cpu"),
]


def write_two_channels(root: Path) -> None:
    """Phantoms in nnU-Net's layout: the CT, and the same upside down in intensity."""
    for number in range(5):
        scan, label = make_case(number, size=24, slices=20)
        folder = "Tr" if number < 4 else "Ts"
        for channel, array in enumerate((scan.array, -scan.array)):
            write_volume(root / f"images{folder}" / f"case_{number}_000{channel}.nii.gz", scan.with_array(array))
        write_volume(root / f"labels{folder}" / f"case_{number}.nii.gz", label)
    described = {"channel_names": {"0": "CT", "1": "inverse"}, "labels": {"background": 0, "liver": 1, "spleen": 2}}
    (root / "dataset.json").write_text(json.dumps(described))


@pytest.fixture(scope="module")
def two_channels(once: Once) -> Path:
    return once("two_channels", write_two_channels)


@pytest.fixture(scope="module", params=["slices", "patches"])
def run(once: Once, two_channels: Path, cache: Path, request: pytest.FixtureRequest) -> RunFolder:
    def make(folder: Path) -> None:
        config = load_config(None, [*SETTINGS, f"data.view={request.param}"])
        train(TrainRequest(two_channels, folder, config=config, cache=cache))

    return RunFolder(once(f"two_channels_{request.param}", make))


@pytest.mark.slow
def test_a_scan_is_segmented_from_its_files_and_from_its_channels(
    run: RunFolder, two_channels: Path, tmp_path: Path, fullscale: Command
) -> None:
    files = {
        "inverse": two_channels / "imagesTs" / "case_4_0001.nii.gz",
        "CT": two_channels / "imagesTs" / "case_4_0000.nii.gz",
    }
    predictor = Predictor.from_run(run.path, "cpu")
    expected = predictor.predict(files).array
    volumes = {name: read_image(file) for name, file in files.items()}
    np.testing.assert_array_equal(predictor.predict(volumes).array, expected)
    swapped = {"CT": volumes["inverse"], "inverse": volumes["CT"]}
    assert (predictor.predict(swapped).array != expected).any()
    done = fullscale("predict", run.path, two_channels / "imagesTs", "-o", tmp_path / "masks")
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(read_image(tmp_path / "masks" / "case_4.nii.gz").array, expected)
    assert [case.case for case in read_summary(run.summary).cases]


def test_missing_and_unknown_channels_are_refused(run: RunFolder, two_channels: Path) -> None:
    predictor = Predictor.from_run(run.path, "cpu")
    scan = two_channels / "imagesTs" / "case_4_0000.nii.gz"
    with pytest.raises(UsageError, match=r"the model takes 2 channels \(CT, inverse\): give each by its name"):
        predictor.predict(scan)
    with pytest.raises(UsageError, match="the channels CT, T2 are given, the model takes CT, inverse"):
        predictor.predict({"CT": scan, "T2": scan})
    array = np.stack([read_image(scan).array] * 2)
    assert predictor.predict(array, spacing_mm=(10, 10, 10)).shape == array.shape[1:]


def test_a_folder_without_one_channel_of_a_case_ends_with_its_name(
    run: RunFolder, two_channels: Path, tmp_path: Path, fullscale: Command
) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "x_0000.nii.gz").write_bytes((two_channels / "imagesTs" / "case_4_0000.nii.gz").read_bytes())
    done = fullscale("predict", run.path, tmp_path / "scans", "-o", tmp_path / "masks")
    assert done.returncode == 3
    assert "x: has no file of the channel inverse; the model takes CT, inverse" in done.stderr
    assert not (tmp_path / "masks").exists()


def test_the_series_of_a_study_are_channels_where_they_are_named(
    run: RunFolder, tmp_path: Path, fullscale: Command
) -> None:
    study = tmp_path / "study"
    for number, name in enumerate(("AX CT", "AX other")):
        uids = {"SeriesInstanceUID": f"1.2.3.{number}", "SOPInstanceUID": None}
        write_series(study / name, SeriesDescription=name, RescaleIntercept=-1024 + 3 * number, **uids)
    chosen = ("--series", "inverse=AX other", "--series", "ct=1.2.3.0")
    done = fullscale("predict", run.path, study, "-o", tmp_path / "masks", *chosen)
    assert done.returncode == 0, done.stderr
    channels = {"CT": study / "AX CT", "inverse": study / "AX other"}
    expected = Predictor.from_run(run.path, "cpu").predict(channels)
    found = read_image(tmp_path / "masks" / "study.nii.gz")
    np.testing.assert_array_equal(found.array, expected.array)
    np.testing.assert_allclose(found.affine, read_image(study / "AX CT").affine, atol=1e-4)
    done = fullscale("predict", run.path, study, "-o", tmp_path / "other", "--series", "CT=1.2.3.0")
    assert done.returncode == 2
    assert "--series says nothing of the channel inverse" in done.stderr
    assert not (tmp_path / "other").exists()
