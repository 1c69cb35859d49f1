"""Memory that is counted without being used: against hand counts, and against the same step done in earnest."""

from dataclasses import replace

import pytest
import torch

from fullscale.bench.decoder import bench_decoder
from fullscale.bench.memory import bench_memory, largest_side, step_peak_mib
from fullscale.bench.workload import Workload
from fullscale.training.live import MIB, LiveTensors, peak_mib

TINY = Workload(width=2, size=16, batch=2, device="meta", spatial_dims=3, levels=3)
MEBI = MIB // 4
"""float32 numbers in a MiB."""


def test_the_peak_is_of_what_is_alive_together() -> None:
    with LiveTensors() as live:
        first = torch.zeros(4 * MEBI)
        for _ in range(3):
            second = first + 1  # the one before is alive until this one is there
        del second
        _view = first.view(2, -1)
        third = torch.zeros(2 * MEBI)
    assert live.peak == 3 * 4 * MIB
    assert third.numel() == 2 * MEBI


def test_what_is_kept_for_the_backward_pass_counts_and_what_was_there_before() -> None:
    x = torch.zeros(MEBI, requires_grad=True)

    def step() -> None:
        torch.autograd.backward(x.exp().exp().sum())  # exp keeps its output

    assert peak_mib(step, [x]) == pytest.approx(5, abs=1.01)


def test_a_step_without_numbers_holds_nearly_as_much_as_one_with_them() -> None:
    work = Workload("unet", width=4, size=64, batch=2, device="cpu", form="direct")
    assert step_peak_mib(replace(work, device="meta")) == pytest.approx(step_peak_mib(work), rel=0.1)


@pytest.mark.long
@pytest.mark.slow
def test_the_factored_form_holds_less_and_bf16_about_half() -> None:
    rows = {(row["form"], row["bf16"]): row for row in bench_memory(replace(TINY, size=32), gib=0.25)["forms"]}
    for bf16 in (False, True):
        assert rows["factored", bf16]["peak_mib"] < rows["direct", bf16]["peak_mib"]
        assert rows["factored", bf16]["largest_side"] >= rows["direct", bf16]["largest_side"] >= 16
    assert 0.45 < rows["direct", True]["peak_mib"] / rows["direct", False]["peak_mib"] < 0.7


@pytest.mark.slow
def test_the_largest_side_fits_and_the_next_does_not() -> None:
    side = largest_side(TINY, mib=40, most=128)
    assert step_peak_mib(replace(TINY, size=side)) <= 40 < step_peak_mib(replace(TINY, size=side + 16))
    assert largest_side(TINY, mib=0.001, most=32) == 0


@pytest.mark.long
@pytest.mark.slow
def test_the_decoder_of_volumes_is_measured_skip_by_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fullscale.bench.measure.ROOFLINE_SIDE", 256)
    monkeypatch.setattr("fullscale.bench.decoder.in_fresh_process", lambda *_: {"peak_mib": 1.0})
    result = bench_decoder(replace(TINY, device="cpu", width=4, levels=4), repeats=1)
    assert sorted((skip["channels"], skip["low_side"], skip["factor"]) for skip in result["skips"]) == [
        *((16, 4, 2), (16, 4, 4), (16, 8, 2), (32, 2, 2), (32, 2, 4), (32, 2, 8)),
    ]
    for skip in result["skips"]:
        low, high = skip["low_side"], skip["low_side"] * skip["factor"]
        brought_up = high * low**3 + high**2 * low**2 + high**3 * low  # width, height, depth: a matrix each
        direct = 2 * skip["channels"] * (27 * 4 * high**3 + brought_up)
        assert skip["direct_gmacs"] == pytest.approx(direct / 1e9)
        assert skip["factored_gmacs"] < skip["direct_gmacs"]
        assert skip["factored_step_peak_mib"] > 0
        assert skip["direct_step_s"] > 0
    deepest = next(skip for skip in result["skips"] if skip["factor"] == 8)
    assert deepest["factored_step_peak_mib"] < deepest["direct_step_peak_mib"]
    assert result["network"]["training_step"]["factored"]["gmacs"] > 0
