"""What the benchmarks count, compare and hand over; seconds themselves are never tested."""

import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from fullscale.bench.decoder import _skips, bench_decoder
from fullscale.bench.measure import ROOFLINE_SIDE, Timing, alternate, in_fresh_process, roofline_gflops
from fullscale.bench.networks import bench_networks
from fullscale.bench.peak import peak_mib, resident_peak_mib
from fullscale.bench.workload import Workload, freeze
from fullscale.errors import FullscaleError, UsageError
from fullscale.networks import create_network, list_networks, network_options
from fullscale.networks.kernels.upsample import multiply_accumulates
from fullscale.networks.protocol import Network
from tests.conftest import Command

pytestmark = pytest.mark.whole

SMALL = Workload(width=4, size=64)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _small_roofline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fullscale.bench.measure.ROOFLINE_SIDE", 256)


@pytest.fixture
def _peaks_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure peaks in this process: starting one for each takes seconds. One test below starts a real one."""

    def measure(module: str, request: dict[str, Any]) -> dict[str, float]:
        assert module == "fullscale.bench.peak"
        return {"peak_mib": peak_mib(request)}

    for bench in ("decoder", "networks"):
        monkeypatch.setattr(f"fullscale.bench.{bench}.in_fresh_process", measure)


def test_tasks_are_timed_in_turn_and_the_warm_up_is_not_counted() -> None:
    calls: list[str] = []
    timings = alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3, CPU, warmup=2)
    assert calls == ["a", "b"] * 5
    assert {name: len(timing.runs_s) for name, timing in timings.items()} == {"a": 3, "b": 3}
    assert Timing((3.0, 1.0, 2.0)).median_s == 2


def test_the_roofline_is_a_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of a small product, one time slice that goes to another process is most of the time.
    monkeypatch.setattr("fullscale.bench.measure.ROOFLINE_SIDE", ROOFLINE_SIDE)
    assert roofline_gflops(CPU, torch.float32, repeats=1) > 1


@pytest.mark.long
@pytest.mark.usefixtures("_peaks_here")
def test_the_decoder_benchmark_says_what_it_compared() -> None:
    print_status: list[str] = []
    result = json.loads(json.dumps(bench_decoder(SMALL, repeats=1, report=print_status.append)))
    assert len(result["skips"]) == 10  # of the ten skips from coarser levels
    assert {(skip["channels"], skip["low_side"], skip["factor"]) for skip in result["skips"]} >= {
        (20, 32, 2),
        (64, 4, 16),
    }
    for skip in result["skips"]:
        side, factor = skip["low_side"], skip["factor"]
        up = skip["channels"] * multiply_accumulates((side, side), (factor, factor))  # by matrices, on a CPU
        direct = up + 9 * skip["channels"] * 4 * (side * factor) ** 2
        assert skip["direct_gmacs"] == pytest.approx(direct / 1e9)
        assert skip["factored_gmacs"] < skip["direct_gmacs"] or skip["factor"] == 2
    for stage in ("inference", "training_step"):
        row = result["network"][stage]
        assert set(row) == {"plain", "direct", "factored"}
        ratio = row["direct"]["median_s"] / row["factored"]["median_s"]
        assert row["direct"]["factored_is_faster"] == pytest.approx(ratio)
        assert row["factored"]["gmacs"] < row["direct"]["gmacs"] == row["plain"]["gmacs"]
    inference, training = (result["network"][stage]["factored"]["gmacs"] for stage in ("inference", "training_step"))
    assert training > 2 * inference
    assert result["network"]["training_peak_mib"]["factored"] > 100
    assert "form" not in result["workload"]
    assert print_status


@pytest.mark.parametrize("dims", [2, 3])
def test_the_decoder_benchmark_measures_skips_in_bf16_too(dims: int) -> None:
    skips = {2: 10, 3: 6}  # from coarser levels, of five levels and of four
    work = Workload(width=2, size=32, bf16=True, spatial_dims=dims, levels=7 - dims)
    found = _skips(work, repeats=1)
    assert len(found) == skips[dims]
    assert all(skip[f"{form}_step_s"] > 0 for skip in found for form in ("direct", "factored"))


def test_every_image_of_a_measurement_is_decoded() -> None:
    network = SMALL.network().eval()
    assert torch.is_tensor(logits := SMALL.inference(network)())
    assert logits.abs().amax() < 1e6  # a gated structure has half the lowest number
    assert logits.std() > 0


@pytest.fixture
def _small_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    """ResNet-10 in place of ResNet-101, which PSPNet and DeepLab come with."""

    def create(name: str, *given: int, **options: Any) -> Network:
        small = {"encoder": "resnet10t"} if network_options(name).get("encoder") == "resnet101" else {}
        return create_network(name, *given, **options | small)

    monkeypatch.setattr("fullscale.bench.workload.create_network", create)


@pytest.mark.long
@pytest.mark.usefixtures("_peaks_here", "_small_encoders")
def test_every_network_is_measured() -> None:
    result = bench_networks(replace(SMALL, batch=2), repeats=1)
    assert [row["network"] for row in result["networks"]] == list_networks()
    for row in result["networks"]:
        assert row["parameters"] > 0
        assert row["training_step_s"] > 0


@pytest.mark.long
@pytest.mark.usefixtures("_peaks_here")
def test_a_network_is_measured_with_the_encoder_that_it_comes_with() -> None:
    [row] = bench_networks(replace(SMALL, batch=2), repeats=1, names=["deeplabv3+"])["networks"]
    network = create_network("deeplabv3+", 3, 1, encoder="resnet101", width=SMALL.width)
    assert row["parameters"] == sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.long
@pytest.mark.slow
def test_what_is_compiled_with_frozen_weights_computes_the_same() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.ReLU()).eval()
    image = torch.randn(1, 1, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(freeze(network)(image), network(image), rtol=1e-4, atol=1e-5)


@pytest.mark.long
@pytest.mark.slow
def test_a_scan_is_segmented_in_every_runtime(
    fullscale: Command, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Traced, and not compiled: that takes a minute, and the test above does it.
    monkeypatch.setattr("fullscale.bench.scan.freeze", partial(torch.compile, backend="eager"))
    scan, output = phantoms / "imagesTs" / "phantom_006.nii.gz", tmp_path / "scan.json"
    done = fullscale("bench", "scan", scan, "--widths", "2", "--json", output)
    assert done.returncode == 0, done.stderr
    content = json.loads(output.read_text())
    rows = content["models"]
    assert [row["runtime"] for row in rows] == [
        *("PyTorch", "PyTorch, coarse", "PyTorch compiled", "ONNX Runtime, factored", "ONNX Runtime, direct"),
        *("OpenVINO", "OpenVINO, coarse"),
    ]
    assert (rows[0]["voxels_different"], rows[0]["dice"]) == (0, None)
    assert rows[0]["dice_with_pytorch"] in (1, None)  # random weights may find nothing
    whole = [row for row in rows if not row["runtime"].endswith("coarse")]
    assert all(row["voxels_different"] < 0.001 * 32 * 32 * 14 for row in whole)
    assert all(row["scan_to_mask"]["median_s"] > 0 for row in rows)
    assert fullscale("bench", "scan", scan, "--widths", "a").returncode == 2
    assert fullscale("bench", "scan", scan, "--truth", scan).returncode == 2
    assert fullscale("bench", "scan", tmp_path / "none.nii.gz").returncode == 3
    wrong = fullscale("bench", "scan", scan, "--model", tmp_path)
    assert wrong.returncode == 3
    assert "holds no model" in wrong.stderr


def test_a_measurement_that_fails_in_its_process_says_why() -> None:
    with pytest.raises(FullscaleError, match="unexpected keyword"):
        in_fresh_process("fullscale.bench.peak", {"nonsense": 1})


def test_peak_memory_is_the_processes_own_and_not_its_parents() -> None:
    held = torch.ones(2**29 // 4 * 2)  # 1 GiB in this process
    peak = in_fresh_process("fullscale.bench.peak", asdict(SMALL))["peak_mib"]
    assert 100 < peak < resident_peak_mib() - 512, held.numel()


def test_a_device_that_is_not_here() -> None:
    with pytest.raises(UsageError, match="not here"):
        _ = Workload(device="cuda:7").torch_device


@pytest.mark.long
@pytest.mark.usefixtures("_peaks_here")
def test_the_command_prints_tables_and_keeps_the_result(
    fullscale: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = ["unet3+", "unet"]
    monkeypatch.setattr("fullscale.bench.networks.bench_networks", partial(bench_networks, names=two))
    output, figure = tmp_path / "decoder.json", tmp_path / "decoder.svg"
    small = ("--size", "32", "--width", "4", "--repeats", "1")
    done = fullscale("bench", "decoder", *small, "--json", str(output), "--figure", str(figure))
    assert done.returncode == 0, done.stderr
    assert "the whole network" in figure.read_text()
    assert "training step" in done.stdout
    assert json.loads(output.read_text())["benchmark"] == "decoder"
    done = fullscale("bench", "networks", *small)
    assert done.returncode == 0, done.stderr
    assert "unet3+" in done.stdout
    assert fullscale("bench", "decoder", "--device", "abacus").returncode == 2
    assert fullscale("bench", "decoder", "--figure", "decoder.jpg").returncode == 2


def test_bars_start_at_zero_and_a_logarithmic_axis_has_points() -> None:
    from fullscale.bench.figure import decoder_figure

    result = json.loads((Path(__file__).parents[2] / "benchmarks" / "decoder-cpu.json").read_text())
    skips, network = decoder_figure(result).axes
    assert (skips.get_xscale(), network.get_xscale()) == ("log", "linear")
    assert not skips.patches
    assert len(skips.texts) == len(result["skips"])
    assert all(bar.get_x() == 0 for bar in network.patches)
    assert network.get_xlim()[0] == 0
