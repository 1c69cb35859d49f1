"""What a configuration names is held against its signature before any data are read."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fullscale.config.load import load_config
from fullscale.config.schema import OptimizerConfig
from fullscale.errors import UsageError
from fullscale.losses import list_losses
from fullscale.networks import list_networks
from fullscale.training.choices import check_choices, filled_options, setting_rows
from fullscale.training.optimizers import create_optimizer
from tests.outside import install


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("network.name=unet3", "network 'unet3' is unknown; did you mean 'unet3+'?"),
        ("network.encoder_name=resnet18", "network 'unet3+' has no option 'encoder_name'; did you mean 'encoder'?"),
        ("optimizer.learning_rat=1", "optimizer 'adamw' has no option 'learning_rat'; did you mean 'learning_rate'?"),
        ("optimizer.momentum=0.9", "optimizer 'adamw' has no option 'momentum'"),
        ("optimizer.name=torch.optim:Radam", "torch.optim has no 'Radam'; did you mean 'RAdam'?"),
        ("optimizer.name=torch.nn:Linear", "is no class derived from torch.optim.Optimizer"),
        ("optimizer.weight_decay=-1", "optimizer 'adamw' cannot be made with weight_decay=-1"),
        ("network.width=wide", "network.width='wide': Input should be a valid integer"),
        ("network.deep_supervision=perhaps", "network.deep_supervision='perhaps': Input should be a valid boolean"),
        ("loss.gamma=1", "loss 'ce+dice' has no option 'gamma'"),
        ("loss.smooth=0", "smooth"),
        ("augment.flip=2", "flip is 2: expected a number from 0 to 1"),
        ("augment.scale=1", "scale is 1: expected a number of at least 0 and below 1"),
        ("augment.rotate=3", "augmentation 'default' has no option 'rotate'; did you mean 'rotate_degrees'?"),
        ("augment.name=tiny", "augmentation 'tiny' is unknown; known: default"),
    ],
)
def test_a_wrong_choice_is_refused_in_one_line(override: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_choices(load_config(None, [override]))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_paper_s_settings_and_a_class_of_torch_are_taken() -> None:
    check_choices(
        load_config(None, ["loss.name=hybrid", "network.gate_in_training=true", "optimizer.name=sgd", "loss.gamma=1"])
    )
    check_choices(load_config(None, ["optimizer.name=torch.optim:RAdam", "optimizer.betas=[0.9, 0.99]"]))


@pytest.mark.parametrize(
    ("config", "kind", "group"),
    [
        (OptimizerConfig(), torch.optim.AdamW, {"lr": 3e-3, "weight_decay": 1e-4, "betas": (0.9, 0.999)}),
        (
            OptimizerConfig(name="sgd"),
            torch.optim.SGD,
            {"lr": 1e-2, "weight_decay": 1e-4, "momentum": 0.99, "nesterov": True},
        ),
        (OptimizerConfig(name="sgd", options={"momentum": 0}), torch.optim.SGD, {"momentum": 0, "nesterov": False}),
        (OptimizerConfig(name="torch.optim:RAdam"), torch.optim.RAdam, {"lr": 1e-3, "weight_decay": 0}),
        (OptimizerConfig(name="torch.optim:RAdam", learning_rate=0.5), torch.optim.RAdam, {"lr": 0.5}),
    ],
)
def test_optimisers_are_what_they_say(config: OptimizerConfig, kind: type, group: dict[str, object]) -> None:
    optimizer = create_optimizer(config, [torch.nn.Parameter(torch.zeros(1))])
    assert type(optimizer) is kind
    assert {key: optimizer.param_groups[0][key] for key in group} == group


def test_an_optimiser_without_a_rate_of_its_own_asks_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "import torch\n\ndef needy(params, lr):\n    return torch.optim.SGD(params, lr=lr)\n"
    install(tmp_path, "needy", {"needy/optim.py": text}, "[fullscale.optimizers]\nneedy = needy.optim:needy\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=r"'needy' has no learning rate by default: set optimizer\.learning_rate"):
        check_choices(load_config(None, ["optimizer.name=needy"]))
    check_choices(load_config(None, ["optimizer.name=needy", "optimizer.learning_rate=0.1"]))


def test_what_yaml_cannot_hold_is_left_to_the_class() -> None:
    config = load_config(None, ["loss.name=hybrid", "loss.gamma=1", "optimizer.name=torch.optim:RAdam"])
    assert filled_options(config, "loss") == {
        "weights": [1.0, 1.0, 1.0],
        "gamma": 1,
        "alpha": None,
        "variant": "paper",
        "smooth": 1.0,
    }
    assert filled_options(config, "optimizer")["betas"] == [0.9, 0.999]
    check_choices(config)


@pytest.mark.parametrize(
    "name", [f"network.name={n}" for n in list_networks()] + [f"loss.name={n}" for n in list_losses()]
)
def test_every_option_of_ours_has_a_line_of_help(name: str) -> None:
    rows = list(setting_rows(load_config(None, [name])))
    assert all(text and "\n" not in text for _, _, text in rows), [key for key, _, text in rows if not text]
    assert len({key for key, _, _ in rows}) == len(rows)
    assert not [key for key, _, text in rows if text.startswith("see ")]


def test_a_width_that_the_plan_chooses_is_shown_as_automatic() -> None:
    rows = {key: value for key, value, _ in setting_rows(load_config(None, ["network.width=8"]))}
    assert (rows["network.width"], rows["network.skip_channels"], rows["augment.flip"]) == (8, None, 0)


def test_a_typing_error_is_told_before_the_data_are_looked_at(tmp_path: Path) -> None:
    from fullscale.training.run import TrainRequest, train

    with pytest.raises(UsageError, match="has no option 'widht'; did you mean 'width'"):
        train(TrainRequest(tmp_path / "nowhere", tmp_path / "run", config=load_config(None, ["network.widht=3"])))


@pytest.mark.slow
def test_settings_are_listed_and_checked_without_what_only_training_needs() -> None:
    code = "import sys; from fullscale.config.load import load_config; from fullscale.training.choices import *; "
    code += "check_choices(load_config()); list(setting_rows(load_config())); "
    code += "sys.exit(bool({'monai', 'lightning', 'torchvision'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
