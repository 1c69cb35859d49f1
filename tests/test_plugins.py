"""The package of docs/how-to/plugins.md: it keeps the contract, trains and predicts by name and by place."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.outside import install

pytestmark = pytest.mark.whole

PAGE = Path(__file__).resolve().parents[1] / "docs" / "how-to" / "plugins.md"
QUICK = [
    "network.width=4",
    "data.patch_size=[32,32]",
    "data.batch_size=4",
    "data.workers=1",
    "trainer.steps_per_epoch=2",
    "trainer.max_epochs=1",
    "trainer.device=cpu",
]
BY_NAME = ["network.name=tiny", "loss.name=tversky", "augment.name=mirror"]
BY_PLACE = [
    "network.name=tiny_plugins.networks:TinyNet",
    "loss.name=tiny_plugins.losses:TverskyLoss",
    "augment.name=tiny_plugins.augmentations:Mirror",
    "optimizer.name=torch.optim:RAdam",
]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package of the page, as an installer leaves it."""
    modules = {text.splitlines()[0].removeprefix("# "): text for text in blocks("python")}
    [project] = blocks("toml")
    groups = tomllib.loads(project)["project"]["entry-points"]
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in groups.items()]
    return install(tmp_path_factory.mktemp("site"), "tiny-plugins", modules, "".join(lines))


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package where this process finds it, until the test ends."""
    monkeypatch.syspath_prepend(site)
    yield site
    for name in [name for name in sys.modules if name.partition(".")[0] == "tiny_plugins"]:
        del sys.modules[name]


def test_the_package_keeps_the_contract_as_the_page_checks_it(site: Path) -> None:
    code = "import runpy; runpy.run_path('tests/test_tiny_plugins.py')['test_they_keep_the_contract']()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=site,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_each_of_the_page_s_classes_is_about_twenty_lines() -> None:
    for text in blocks("python")[:3]:
        assert len(text.partition("class ")[2].splitlines()) <= 25


@pytest.mark.usefixtures("installed")
def test_the_options_of_an_outside_network_are_listed_with_their_help(fullscale: Command) -> None:
    done = fullscale("settings", *BY_NAME, "--json")
    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout)
    rows = {row["key"]: row for row in listed["settings"]}
    assert rows["loss.missed"] == {
        "key": "loss.missed",
        "value": 0.7,
        "help": "weight of a missed pixel, from 0 to 1; an invented one has the rest",
    }
    assert rows["network.width"]["value"] is None
    assert "tiny" in listed["names"]["network.name"]
    wrong = fullscale("settings", *BY_NAME, "loss.mised=1")
    assert wrong.returncode == 2
    assert wrong.stderr == "fullscale: loss 'tversky' has no option 'mised'; did you mean 'missed'?\n"


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("names", [BY_NAME, BY_PLACE], ids=["by name", "by place"])
def test_a_package_of_somebody_else_trains_and_predicts_where_it_is_and_is_named_where_it_is_not(
    fullscale: Command, process: Command, phantoms: Path, cache: Path, tmp_path: Path, names: list[str]
) -> None:
    run, scans = tmp_path / "run", phantoms / "imagesTs"
    trained = fullscale("train", phantoms, "-o", run, "--cache", cache, *QUICK, *names)
    assert trained.returncode == 0, trained.stderr
    cards = [json.loads(path.read_text()) for path in run.rglob("model.json")]
    assert {card["package"] for card in cards if "package" in card} == {
        "tiny-plugins" if names is BY_NAME else "tiny_plugins"
    }
    predicted = fullscale("predict", run, scans, "-o", tmp_path / "masks")
    assert predicted.returncode == 0, predicted.stderr
    assert len(list((tmp_path / "masks").glob("*.nii.gz"))) == 1
    without = process("predict", run, scans, "-o", tmp_path / "more")
    assert without.returncode == 2
    [line] = without.stderr.splitlines()
    assert "tiny-plugins" in line if names is BY_NAME else "tiny_plugins" in line
    assert "install" in line
