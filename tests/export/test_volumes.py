"""Networks of volumes as ONNX graphs and as programs: they compute what PyTorch computes, at any size."""

from pathlib import Path
from typing import Any

import pytest
import torch

from fullscale.bundle.card import ModelCard
from fullscale.data.recipe import Intensity, Recipe
from fullscale.errors import UsageError
from fullscale.inference.export import onnx, parity, program
from fullscale.inference.export.parity import LOGIT_TOLERANCE, parity_images
from fullscale.inference.runtimes.onnx import OnnxRuntime
from fullscale.networks import create_network
from fullscale.networks.kernels.forms import set_form

REFINED = {"skip_channels": 2, "fusion": "refine", "normalization": "instance", "downsampling": "stride"}
PAPER = {"skip_channels": 2, "strides": ((1, 2, 2),), "normalization": "instance", "classification_guided": False}


def settled(name: str, options: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    network = create_network(name, 1, 2, spatial_dims=3, width=2, levels=2, **options)
    network.train()(torch.randn(2, 1, 16, 16, 16))
    set_form(network, "factored")
    return network.eval()


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "torch"])
@pytest.mark.parametrize(("name", "options"), [("unet3+", PAPER), ("unet3+", REFINED), ("strided-unet", {})])
def test_a_network_of_volumes_is_exported_for_any_size(
    name: str, options: dict[str, Any], format: str, tmp_path: Path
) -> None:
    network, path = settled(name, options), tmp_path / "model"
    if format == "onnx":
        answer, sizes = onnx.write_onnx(network, 3, 1, (path,), "digest"), parity.SIZES[3]
        runtime = OnnxRuntime(path)
        assert runtime.spatial_dims == 3
        with pytest.raises(UsageError, match="expected"):
            runtime.logits(torch.zeros(1, 1, 32, 32))
    else:
        files = (path.with_suffix(".pt2"),)
        answer, sizes = program.write_program(network, 3, 1, files, "digest"), program.SIZES[3]
    for batch, *sides in sizes:
        volume = torch.randn(batch, 1, *sides)
        with torch.inference_mode():
            expected, found = network(volume), answer(volume)
        assert (found - expected).abs().max() <= LOGIT_TOLERANCE * expected.abs().max()


def test_models_of_patches_are_compared_on_volumes() -> None:
    intensity = Intensity(per="dataset", low=-100, high=300, mean=100, std=80)
    card = ModelCard(
        network="strided-unet",
        options={"spatial_dims": 3, "width": 2, "levels": 2},
        labels={1: "structure"},
        recipe=Recipe(intensity=intensity, spacing_mm=None, view="patches", neighbours=0),
        modality="CT",
        tile_size=(8, 16, 16),
    )
    images = dict(enumerate(parity_images(card.build().eval(), card, [(2, 8, 10, 12)])))
    assert images[0][1].shape == (2, 1, 8, 10, 12)
    name, phantom = images[1]
    assert name == "phantom"
    assert phantom.shape[:2] == (1, 1)
    assert phantom.ndim == 5
