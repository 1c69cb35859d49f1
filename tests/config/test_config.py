"""Settings: read, overridden, refused with the nearest known key, and written back."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fullscale.config.load import dump_yaml, flatten, load_config
from fullscale.config.load import settings as all_settings
from fullscale.config.schema import Config
from fullscale.errors import UsageError
from fullscale.training.choices import check_choices


def test_a_command_line_setting_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("network: {width: 32}\ntrainer: {seed: 7}\n")
    config = load_config(file, ["network.width=48", "optimizer.learning_rate=1e-3", "data.patch_size=[48,64]"])
    assert config.network.options == {"width": 48}
    assert config.trainer.seed == 7
    assert config.optimizer.learning_rate == pytest.approx(0.001)
    assert config.data.patch_size == (48, 64)


@given(st.integers(1, 512), st.floats(1e-6, 1), st.booleans(), st.sampled_from(["adamw", "sgd"]))
@settings(max_examples=30, deadline=None)
def test_what_is_written_reads_back_the_same(width: int, rate: float, deep: bool, name: str) -> None:
    config = Config.model_validate(
        {
            "network": {"options": {"width": width, "deep_supervision": deep}},
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
        ("trainer.seed=-1", "trainer.seed=-1: Input should be greater than or equal to 0"),
        ("data.batch_size=wide", "data.batch_size='wide'"),
        ("network", "key.sub=value"),
        ("trainer.seed.more=1", "trainer.seed"),
        ("network.options=3", "network.options=3"),
        ("network=3", "network=3"),
        ("data.organ_share=0.5", "the setting 'data.organ_share' is called 'data.foreground_fraction' now"),
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


def test_a_mapping_on_the_command_line_changes_what_it_names_and_leaves_the_rest(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("network: {width: 4, encoder: plain}")
    config = load_config(tmp_path / "run.yaml", ["network.levels=3", "network={name: unet3+, options: {width: 8}}"])
    assert config.network.options == {"encoder": "plain", "levels": 3, "width": 8}
    labels = load_config(None, ["data.labels={1: liver}", "data.labels={2: spleen}"]).data.labels
    assert labels == {2: "spleen"}, "a setting whose value is a mapping is one value"


@pytest.mark.parametrize("override", ["network.width=8", "network.options.width=8", "network.options={width: 8}"])
def test_an_option_may_be_written_short_and_the_last_word_counts(tmp_path: Path, override: str) -> None:
    assert load_config(None, [override]).network.options == {"width": 8}
    assert load_config(None, ["network.width=4", override]).network.options == {"width": 8}
    for text in ("network: {width: 4}", "network: {options: {width: 4}}"):
        (tmp_path / "run.yaml").write_text(text)
        assert load_config(tmp_path / "run.yaml", [override]).network.options == {"width": 8}
        assert load_config(tmp_path / "run.yaml", ["network.width=null"]).network.options == {}


def test_an_option_of_two_values_in_one_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("network: {width: 4, options: {width: 8}}")
    with pytest.raises(UsageError, match=r"run\.yaml: network\.width is given twice"):
        load_config(tmp_path / "run.yaml")


def test_flat_settings_stand_side_by_side() -> None:
    flat = flatten(load_config(None, ["network.width=8", "data.patch_size=[16, 24]"]))
    assert flat["network.width"] == 8
    assert flat["data.patch_size"] == [16, 24]
    assert "network.options" not in flat


def test_a_precision_is_bits_as_the_command_line_and_yaml_have_them() -> None:
    assert load_config(None, ["trainer.precision=32"]).trainer.precision == "32"
    assert load_config(None, ["trainer.precision=bf16"]).trainer.precision == "bf16"
    with pytest.raises(UsageError, match=r"trainer\.precision"):
        load_config(None, ["trainer.precision=8"])


WRITTEN_BY_0_1 = """
network: {name: unet, encoder: plain, pretrained: false, width: 16, skip_channels: null, normalization: batch,
  deep_supervision: null, classification_guided: null, gate_in_training: null}
loss: {name: focal, options: {gamma: 1}, level_weights: [1.0], presence_weight: 0.1}
optimizer: {name: adamw, learning_rate: 0.003, weight_decay: 0.0001, momentum: 0.99, schedule: poly, warmup_steps: 20,
  clip_norm: 12.0}
augment: {probability: 0.5, rotate_degrees: 15.0, scale: 0.2, shift: 0.1, flip: 0.0, noise: 0.1, intensity: 0.2,
  gamma: 0.3}
data: {labels: null, folds: 5, validation: null, patch_size: [64, 48], batch_size: 4, organ_share: 0.5, workers: 2}
trainer: {max_minutes: null, max_epochs: 2, steps_per_epoch: 4, device: cpu, devices: 1, precision: auto,
  compile: false, seed: 0, deterministic: false, validation_cases: null}
"""


def test_a_configuration_that_0_1_wrote_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(WRITTEN_BY_0_1)
    config = load_config(tmp_path / "config.yaml")
    assert config.network.options == {"encoder": "plain", "pretrained": False, "width": 16, "normalization": "batch"}
    assert config.optimizer.options == {"weight_decay": 0.0001}
    assert config.augment.options["rotate_degrees"] == 15
    assert config.data.foreground_fraction == 0.5
    check_choices(config)
    (tmp_path / "again.yaml").write_text(dump_yaml(config))
    assert load_config(tmp_path / "again.yaml") == config


@pytest.mark.parametrize(
    "text",
    ["a: 2024-13-45", "? [1, 2]\n: 3", "[" * 5000, "\x00", "1: 2", "network: {1: 2}", "network: [1]", "trainer: null"],
)
def test_a_broken_file_is_named_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"run\.yaml") as caught:
        load_config(tmp_path / "run.yaml")
    assert "\n" not in str(caught.value)


def test_every_setting_has_a_line_of_help() -> None:
    found = dict(all_settings())
    assert len(found) > 25
    assert all(found.values())


def test_no_part_of_a_configuration_that_was_written_is_read_as_whole(tmp_path: Path) -> None:
    whole = dump_yaml(load_config(None, ["network.width=4", "trainer.seed=7"]))
    path = tmp_path / "config.yaml"
    for lines in range(1, whole.count("\n")):
        path.write_text("".join(whole.splitlines(keepends=True)[:lines]))
        with pytest.raises(UsageError, match=r"cut off|must hold"):
            load_config(path)
    path.write_text(whole)
    assert load_config(path).trainer.seed == 7
