"""Bundles: of one model and of several, of today and of 0.1, whole and damaged."""

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fullscale.bundle.card import EnsembleCard, ModelCard, read_card
from fullscale.bundle.store import load_bundle, save_bundle, save_ensemble
from fullscale.bundle.weights import read_weights
from fullscale.data.recipe import Intensity, Recipe
from fullscale.errors import DataError, UsageError
from fullscale.networks import create_network
from tests.outside import install


def card(**changes: object) -> ModelCard:
    values = {
        "network": "unet",
        "options": {"width": 2},
        "labels": {0: "background", 1: "liver", 2: "spleen"},
        "recipe": Recipe(intensity=Intensity(per="scan"), spacing_mm=None, neighbours=0),
        "modality": "CT",
    }
    return ModelCard.model_validate(values | changes)


def write(folder: Path, seed: int = 0, **changes: object) -> nn.Module:
    torch.manual_seed(seed)
    network = card(**changes).build().eval()
    save_bundle(folder, card(**changes), network.state_dict())
    return network


def logits(network: nn.Module) -> Tensor:
    with torch.inference_mode():
        return network(torch.linspace(-1, 1, 400).reshape(1, 1, 20, 20))  # type: ignore[no-any-return]


def test_a_bundle_of_one_model_comes_back(tmp_path: Path) -> None:
    network = write(tmp_path / "m", trained_on={"case": "abc"})
    bundle = load_bundle(tmp_path / "m")
    [member] = bundle.members
    assert torch.equal(logits(member.network), logits(network))
    assert bundle.card == member.card
    assert member.card.trained_on == {"case": "abc"}
    assert not member.network.training


def test_a_bundle_is_readable_by_whoever_may_read_other_new_files(tmp_path: Path) -> None:
    write(tmp_path / "m")
    (tmp_path / "plain_file").touch()
    modes = {path.stat().st_mode for path in (*(tmp_path / "m").iterdir(), tmp_path / "plain_file")}
    assert len(modes) == 1


@pytest.mark.whole
def test_loading_and_using_a_bundle_loads_no_compiler(tmp_path: Path) -> None:
    """Draws on the meta device do, and the first call of an operator of one's own: 1.5 s before each `predict`."""
    write(tmp_path / "bundle", network="unet3+", options={"width": 2, "skip_channels": 2})
    code = (
        "import sys, torch; from pathlib import Path\n"
        "from fullscale.bundle.store import load_bundle; from fullscale.networks.kernels.forms import set_form\n"
        f"network = load_bundle(Path({str(tmp_path / 'bundle')!r})).members[0].network; set_form(network, 'winograd')\n"
        "with torch.inference_mode(): network(torch.zeros(1, 1, 32, 32))\n"
        "print([n for n in ('torch._dynamo', 'sympy') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_other_weights_are_another_version(tmp_path: Path) -> None:
    write(tmp_path / "a", seed=0)
    write(tmp_path / "b", seed=1)
    versions = {load_bundle(tmp_path / name).card.algorithm.version for name in "ab"}
    assert len(versions) == 2


def test_an_ensemble_is_whole_where_its_members_are_gone(tmp_path: Path) -> None:
    networks = {f"fold_{k}": write(tmp_path / f"fold_{k}" / "bundle", seed=k) for k in range(2)}
    save_ensemble(tmp_path / "run" / "bundle", {name: tmp_path / name for name in networks})
    for name in networks:
        shutil.rmtree(tmp_path / name)
    shutil.move(tmp_path / "run", tmp_path / "elsewhere")
    bundle = load_bundle(tmp_path / "elsewhere")
    assert isinstance(bundle.card, EnsembleCard)
    assert [member.name for member in bundle.members] == ["fold_0", "fold_1"]
    for member in bundle.members:
        assert torch.equal(logits(member.network), logits(networks[member.name]))
    assert bundle.card.structures == {1: "liver", 2: "spleen"}
    assert load_bundle(tmp_path / "elsewhere" / "bundle" / "fold_1").members[0].name == "model"


def test_the_algorithm_of_an_ensemble_names_its_members(tmp_path: Path) -> None:
    for name, network in (("a", "unet"), ("b", "unet++")):
        write(tmp_path / name, network=network)
    save_ensemble(tmp_path / "both", {name: tmp_path / name for name in "ab"})
    algorithm = read_card(tmp_path / "both" / "model.json").algorithm
    assert algorithm.name == "fullscale unet, unet++"
    assert algorithm.version.endswith(": a b")
    assert len(algorithm.version) <= 64
    assert algorithm.members is not None
    of_a = read_card(tmp_path / "a" / "model.json")
    assert algorithm.members["a"] == f"unet model {of_a.digest[:12]}"
    many = {f"a_rather_long_name_{k}": tmp_path / "a" for k in range(7)}
    save_ensemble(tmp_path / "many", many)
    long = read_card(tmp_path / "many" / "model.json").algorithm
    assert long.version.endswith(" of 7")
    assert long.members is not None
    assert list(long.members) == list(many)


def test_members_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "labels", labels={0: "background", 1: "liver", 2: "kidney"})
    write(tmp_path / "modality", modality="MRI")
    write(tmp_path / "unknown", modality="unknown")
    for other, message in (("labels", "a and labels segment different labels"), ("modality", "CT and MRI")):
        with pytest.raises(UsageError, match=message):
            save_ensemble(tmp_path / "e", {"a": tmp_path / "a", other: tmp_path / other})
    with pytest.raises(UsageError, match="no members"):
        save_ensemble(tmp_path / "e", {})
    for name in ("../a", ".a", "", "a/b"):
        with pytest.raises(UsageError, match="cannot be a folder's name"):
            save_ensemble(tmp_path / "e", {name: tmp_path / "a"})
    assert not (tmp_path / "e").exists()
    save_ensemble(tmp_path / "e", {"u": tmp_path / "unknown", "a": tmp_path / "a"})
    assert read_card(tmp_path / "e" / "model.json").modality == "CT"
    with pytest.raises(UsageError, match="is an ensemble itself"):
        save_ensemble(tmp_path / "nested", {"e": tmp_path / "e"})


def test_an_ensemble_with_another_member_in_its_place_is_refused(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1), ("c", 2)):
        write(tmp_path / name, seed)
    save_ensemble(tmp_path / "e", {name: tmp_path / name for name in "ab"})
    shutil.rmtree(tmp_path / "e" / "b")
    with pytest.raises(DataError, match="cannot read the model card"):
        load_bundle(tmp_path / "e")
    shutil.copytree(tmp_path / "c", tmp_path / "e" / "b")
    with pytest.raises(DataError, match="is not the member"):
        load_bundle(tmp_path / "e")


def test_any_flipped_byte_of_the_weights_is_noticed(tmp_path: Path) -> None:
    write(tmp_path / "m")
    file = tmp_path / "m" / "model.safetensors"
    whole = file.read_bytes()
    for place in np.random.default_rng(0).integers(len(whole), size=40):
        broken = bytearray(whole)
        broken[place] ^= 0x10
        file.write_bytes(broken)
        with pytest.raises(DataError, match=r"cannot read the weights .*model\.safetensors"):
            load_bundle(tmp_path / "m")
    file.write_bytes(whole)
    load_bundle(tmp_path / "m")


@pytest.mark.parametrize("merged", [False, True])
def test_a_bundle_of_format_1_is_read(tmp_path: Path, merged: bool) -> None:
    network = write(tmp_path / "m", labels={1: "liver"})
    path = tmp_path / "m" / "model.json"
    old = json.loads(path.read_text())
    for newer in ("weights_sha256", "trained_on"):
        del old[newer]
    labels = {"0": "background", "1": "liver", "2": "liver"} if merged else {}
    old |= {"format": 1, "classes": 1, "labels": {"1": "liver"}, "trained_labels": labels}
    path.write_text(json.dumps(old))
    bundle = load_bundle(tmp_path / "m")
    assert bundle.card.structures == {1: "liver"}
    assert bundle.card.scheme.merged == ({0: 0, 1: 1, 2: 1} if merged else {0: 0, 1: 1})
    assert torch.equal(logits(bundle.members[0].network), logits(network))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "JSON"),
        ("[1]", "a JSON list"),
        ("{}", "labels"),
        ('{"format": 2, "members": {}, "labels": {"1": "a"}, "modality": "CT"}', "members"),
        ('{"format": 3, "labels": {"1": "a"}}', "format"),
        ('{"format": 2, "labels": {}, "modality": "CT"}', "labels: .*at least one structure"),
        ('{"format": 2, "labels": {"-1": "a"}, "modality": "CT"}', "labels: .*by its value from 1"),
    ],
)
def test_what_is_no_card_is_refused_in_one_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "model.json").write_text(content)
    with pytest.raises(DataError, match=rf"model\.json:? is not .*{message}") as caught:
        load_bundle(tmp_path)
    assert "\n" not in str(caught.value)


def test_weights_to_start_from_are_read_from_whatever_holds_them(tmp_path: Path) -> None:
    network = write(tmp_path / "run" / "fold_0" / "bundle")
    save_ensemble(tmp_path / "run" / "bundle", {"fold_0": tmp_path / "run" / "fold_0"})
    torch.save({"state_dict": network.state_dict()}, tmp_path / "own.pth")
    for path in (tmp_path / "run", tmp_path / "run" / "fold_0", tmp_path / "own.pth"):
        found = read_weights(path)
        assert found.state.keys() == network.state_dict().keys()
        assert all(torch.equal(found.state[key], value) for key, value in network.state_dict().items())
    assert (found.network, found.options, found.card) == (None, None, None)
    assert read_weights(tmp_path / "run").network == "unet"
    assert read_weights(tmp_path / "run").options == {"width": 2}
    save_ensemble(tmp_path / "two", dict.fromkeys("ab", tmp_path / "run" / "fold_0"))
    with pytest.raises(UsageError, match=r"ensemble of 2 models: training starts from one, such as .*two/a"):
        read_weights(tmp_path / "two")
    with pytest.raises(UsageError, match="cannot start from an exported model"):
        read_weights(tmp_path / "m.onnx")
    with pytest.raises(DataError, match="does not exist"):
        read_weights(tmp_path / "nowhere")


def test_imported_weights_say_which_network_they_are(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    network = create_network("unet", 1, 1, width=2)
    save_file(network.state_dict(), tmp_path / "w.safetensors", {"network": "unet", "options": '{"width": 2}'})
    found = read_weights(tmp_path / "w.safetensors")
    assert (found.network, found.options) == ("unet", {"width": 2})


@pytest.mark.parametrize("name", ["../other", "/etc", "..", "a/b", "", "a\0b"])
def test_a_member_that_leads_out_of_the_bundle_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path / "m")
    save_ensemble(tmp_path / "e", {"fold_0": tmp_path / "m"})
    content = json.loads((tmp_path / "e" / "model.json").read_text())
    content["members"] = {name: content["members"]["fold_0"]}
    (tmp_path / "e" / "model.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"member name .* cannot be a folder's name"):
        load_bundle(tmp_path / "e")


OUTSIDE = """
from pathlib import Path
from fullscale.networks.unet import UNet
Path(__file__).with_name("was_imported").touch()
class Net(UNet):
    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__(in_channels, classes, width=2)
"""


def test_a_model_imports_no_module_that_only_its_file_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("strange_one", "strange_two"):
        install(tmp_path / "site", package.replace("_", "-"), {f"{package}/nets.py": OUTSIDE})
    plugin = "[fullscale.losses]\nanything = plugin_pack.losses:Loss\n"
    install(tmp_path / "site", "plugin-pack", {"plugin_pack/nets.py": OUTSIDE}, plugin)
    monkeypatch.syspath_prepend(tmp_path / "site")
    stranger = card(network="strange_one.nets:Net", options={})
    with pytest.raises(UsageError, match=r"importing strange_one\.nets would run it: set FULLSCALE_TRUST=strange_one"):
        stranger.build()
    assert not (tmp_path / "site" / "strange_one" / "was_imported").exists()
    card(network="plugin_pack.nets:Net", options={}).build()
    monkeypatch.setenv("FULLSCALE_TRUST", "other, strange_one")
    stranger.build()
    monkeypatch.delenv("FULLSCALE_TRUST")
    stranger.build()  # imported by now
    importlib.import_module("strange_two.nets")
    card(network="strange_two.nets:Net", options={}).build()
    with pytest.raises(UsageError, match="no module 'absent'"):
        card(network="absent.nets:Net", options={}).build()
