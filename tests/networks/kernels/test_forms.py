"""The form that a GPU is given, against what both forms took on one."""

import json
import math
from pathlib import Path

import pytest
import torch

from fullscale.networks.kernels.scaled_conv import ScaledConv
from fullscale.networks.kernels.scaled_conv3d import ScaledConv3d

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.mark.parametrize("measured", ["2d", "2d-float32", "3d", "3d-float32"])
def test_a_gpu_takes_no_longer_than_with_one_form_for_all_skips(measured):
    result = json.loads((BENCHMARKS / f"decoder-{measured}-nvidia-h200.json").read_text())
    work = result["workload"]
    took = {"direct": 0.0, "factored": 0.0, "auto": 0.0}
    for skip in result["skips"]:
        doublings = int(math.log2(skip["factor"]))
        x = torch.empty(work["batch"], skip["channels"], *(skip["low_side"],) * work["spatial_dims"], device="meta")
        if work["spatial_dims"] == 2:
            conv = ScaledConv(skip["channels"], work["width"], doublings)
        else:
            conv = ScaledConv3d(skip["channels"], work["width"], (doublings,) * 3)
        for form in ("direct", "factored"):
            took[form] += skip[f"{form}_step_s"]
        took["auto"] += skip["factored_step_s" if conv.pays_on_gpu(x) else "direct_step_s"]
    assert took["auto"] <= min(took["direct"], took["factored"])
