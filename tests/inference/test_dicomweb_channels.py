"""Studies of a DICOMweb server whose series are the channels of a model."""

from pathlib import Path

import numpy as np
import pytest

from fullscale.data.dicom.web import Query, RemoteSeries
from fullscale.data.dicom.web_study import RemoteStudy
from fullscale.errors import DataError
from tests.conftest import Command
from tests.dicom_slices import write_slice
from tests.orthanc import orthanc
from tests.training.test_channels_run import SETTINGS, write_two_channels

NAMED = ("--series", "CT=plain", "--series", "inverse=dark")


def write_study(folder: Path, k: int, **series: str) -> None:
    """A study with a series of each name, darker one after the other."""
    pixels = np.random.default_rng(k).integers(-200, 300, (6, 32, 32))
    for number, (uid, description) in enumerate(series.items()):
        (folder / f"{k}" / uid).mkdir(parents=True)
        named = {"StudyInstanceUID": f"1.2.{k}", "SeriesInstanceUID": f"1.2.{k}.{number}", "PixelSpacing": [2.0, 2.0]}
        for z, plane in enumerate(pixels):
            file = folder / f"{k}" / uid / f"{z}"
            write_slice(file, plane - 100 * number, (0, 0, 3 * z), SeriesDescription=description, **named)


@pytest.mark.slow
@pytest.mark.whole
def test_a_study_gives_the_mask_that_its_folder_gives(fullscale: Command, cache: Path, tmp_path: Path) -> None:
    write_two_channels(tmp_path / "data")
    trained = fullscale("train", tmp_path / "data", "-o", tmp_path / "run", "--cache", cache, *SETTINGS)
    assert trained.returncode == 0, trained.stderr
    write_study(tmp_path / "studies", 1, a="plain", b="dark", c="other")
    write_study(tmp_path / "studies", 2, a="plain", b="other")
    write_study(tmp_path / "studies", 3, a="other")
    command = ("predict", tmp_path / "run", "--device", "cpu", *NAMED)
    local = fullscale(*command, tmp_path / "studies" / "1", "-o", tmp_path / "local")
    assert local.returncode == 0, local.stderr
    [mask] = (tmp_path / "local").glob("*.nii.gz")
    with orthanc(tmp_path / "orthanc") as server:
        server.store(tmp_path / "studies")
        done = fullscale(*command, server.url, "-o", tmp_path / "out")
        assert done.returncode == 4, done.stderr
        assert "studies/1.2.2: has 0 series for the channel inverse, expected one" in done.stderr
        assert "1.2.3" not in done.stderr
        [made] = (tmp_path / "out").glob("*.nii.gz")
        assert (made.name, made.read_bytes()) == ("1.2.1.nii.gz", mask.read_bytes())
        again = fullscale(*command, f"{server.url}/studies/1.2.1", "-o", tmp_path / "out")
        assert again.returncode == 0, again.stderr
        assert "done already: 1 case" in again.stderr
        without = fullscale("predict", tmp_path / "run", server.url, "-o", tmp_path / "none")
        assert without.returncode == 2
        assert "give studies, and --series CT=DESCRIPTION --series inverse=DESCRIPTION" in without.stderr


def test_a_channel_without_its_one_series_is_refused_by_name() -> None:
    def one(uid: str) -> RemoteSeries:
        return RemoteSeries("http://x", "1.2", uid, instances=3)

    study = RemoteStudy("1.2", {"t1": (one("1"),), "flair": (one("2"), one("3"))})
    with pytest.raises(DataError, match=r"has 2 series for the channel flair, expected one \(2, 3\): name one"):
        study.content({})


def test_a_study_is_known_by_what_its_channels_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    held = {"1": "a", "2": "b"}
    monkeypatch.setattr(RemoteSeries, "content", lambda series, _: {"seen": "", "content": held[series.series]})
    parts = {name: (RemoteSeries("http://x", "1.2", uid),) for name, uid in (("t1", "1"), ("flair", "2"))}
    before = RemoteStudy("1.2", parts).content({})
    assert RemoteStudy("1.2", parts).content(before) == before
    held["2"] = "c"
    assert RemoteStudy("1.2", parts).content(before)["content"] != before["content"]
    assert Query.parse("http://x/studies/1.2").study == "1.2"
