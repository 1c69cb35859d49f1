"""Settings: read, overridden, refused with the nearest known key, and written back."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fullscale.config.load import dump_yaml, load_config
from fullscale.config.load import settings as all_settings
from fullscale.config.schema import Config
from fullscale.errors import UsageError


def test_a_command_line_setting_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("network: {width: 32}\ntrainer: {seed: 7}\n")
    config = load_config(file, ["network.width=48", "optimizer.learning_rate=1e-3", "data.patch_size=[48,64]"])
    assert config.network.width == 48
    assert config.trainer.seed == 7
    assert config.optimizer.learning_rate == pytest.approx(0.001)
    assert config.data.patch_size == (48, 64)


@given(st.integers(1, 512), st.floats(1e-6, 1), st.booleans(), st.sampled_from(["adamw", "sgd"]))
@settings(max_examples=30, deadline=None)
def test_what_is_written_reads_back_the_same(width: int, rate: float, deep: bool, name: str) -> None:
    config = Config.model_validate(
        {
            "network": {"width": width, "deep_supervision": deep},
            "optimizer": {"name": name, "learning_rate": rate},
            "loss": {"level_weights": [1, 0.5, 0.5, 0.1, 0] if deep else [2]},
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.yaml"
        path.write_text(dump_yaml(config))
        assert load_config(path) == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.max_minuts=3", r"unknown setting 'trainer.max_minuts'; did you mean 'trainer.max_minutes'\?"),
        ("trainr.seed=3", "unknown setting 'trainr"),
        ("network.width=-1", "network.width=-1: Input should be greater than 0"),
        ("network.width=wide", "network.width='wide'"),
        ("augment.flip=2", "augment.flip=2"),
        ("network", "key.sub=value"),
        ("network.width.more=1", "network.width"),
        ("network=[1, 2", "cannot be read"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load_config(None, [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[1, 2]", "{a", "just words"])
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"run\.yaml"):
        load_config(file)
    with pytest.raises(UsageError, match="No such file"):
        load_config(tmp_path / "absent.yaml")


def test_every_setting_has_a_line_of_help() -> None:
    found = dict(all_settings())
    assert len(found) > 30
    assert all(found.values())
