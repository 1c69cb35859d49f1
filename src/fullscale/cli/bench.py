"""Verb bench: what things cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fullscale.cli.show import print_line, print_status, table

if TYPE_CHECKING:
    from fullscale.bench.workload import Workload

Size = Annotated[int, typer.Option(help="Rows and columns of the input.", min=32)]
Batch = Annotated[int, typer.Option(help="Slices at once.", min=1)]
Width = Annotated[int, typer.Option(help="Channels of the first level; the paper has 64.", min=1)]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 or mps.")]
Repeats = Annotated[int, typer.Option(help="Timed rounds of each measurement.", min=1)]
Bf16 = Annotated[bool, typer.Option("--bf16", help="Under bf16 autocast.")]
ChannelsFirst = Annotated[bool, typer.Option("--channels-first", help="Without the channels-last memory format.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the result to this file.", show_default=False)]

app = typer.Typer(help="Measure what things cost, side by side in one run.", no_args_is_help=True)


@app.command()
def decoder(
    size: Size = 320,
    batch: Batch = 1,
    width: Width = 64,
    device: Device = "cpu",
    repeats: Repeats = 5,
    compiled: Annotated[bool, typer.Option("--compiled", help="Also time torch.compile with frozen weights.")] = False,
    bf16: Bf16 = False,
    channels_first: ChannelsFirst = False,
    json: JsonFile = None,
    figure: Annotated[Path | None, typer.Option(help="Draw it: PNG, SVG or PDF.", show_default=False)] = None,
) -> None:
    """Compare the direct and the factored form of the full-scale skips."""
    from fullscale.bench.decoder import bench_decoder
    from fullscale.bench.figure import require_figure_name, write_decoder_figure

    if figure is not None:
        require_figure_name(figure)
    work = _workload(size, batch, width, device, bf16, channels_first)
    result = bench_decoder(work, repeats, compiled, print_status)
    _print_network(result)
    table(
        "Each up-sampled skip, forward",
        ("channels", "low side", "factor", "direct ms", "factored ms", "times faster", "auto"),
        [
            (
                s["channels"],
                s["low_side"],
                s["factor"],
                1e3 * s["direct_s"],
                1e3 * s["factored_s"],
                s["speedup"],
                s["auto"],
            )
            for s in result["skips"]
        ],
    )
    _keep(result, json)
    if figure is not None:
        write_decoder_figure(figure, result)


@app.command()
def networks(
    size: Size = 320,
    batch: Batch = 2,
    width: Width = 64,
    device: Device = "cpu",
    repeats: Repeats = 5,
    bf16: Bf16 = False,
    channels_first: ChannelsFirst = False,
    json: JsonFile = None,
) -> None:
    """Compare all networks: parameters, operations, seconds, memory."""
    from fullscale.bench.networks import bench_networks

    work = _workload(size, batch, width, device, bf16, channels_first)
    result = bench_networks(work, repeats, report=print_status)
    table(
        f"Networks of width {width} on {batch}x3x{size}x{size}, {result['environment']['device']}",
        ("network", "parameters", "GMAC", "inference s", "of roofline", "training step s", "peak MiB"),
        [
            (
                row["network"],
                row["parameters"],
                row["gmacs"],
                row["inference_s"],
                row["of_roofline"],
                row["training_step_s"],
                row["training_peak_mib"],
            )
            for row in result["networks"]
        ],
    )
    _keep(result, json)


@app.command()
def scan(
    scan: Annotated[Path, typer.Argument(help="A volume file or a DICOM folder.", show_default=False)],
    widths: Annotated[str, typer.Option(help="Of UNet 3+ with random weights.")] = "16,32,64",
    model: Annotated[Path | None, typer.Option(help="A run or bundle to measure instead.", show_default=False)] = None,
    repeats: Repeats = 1,
    json: JsonFile = None,
) -> None:
    """Seconds from a scan to its mask on the CPU: PyTorch, compiled, and ONNX Runtime with either form of the skips."""
    from fullscale.bench.scan import bench_scan
    from fullscale.errors import UsageError

    numbers = [int(width) if width.strip().isdecimal() else 0 for width in widths.split(",")]
    if 0 in numbers:
        raise UsageError(f"--widths {widths!r} must list whole numbers of at least 1, such as 16,32")
    result = bench_scan(scan, numbers, model, repeats, print_status)
    shape = "x".join(map(str, result["scan"]["shape"]))
    table(
        f"{result['scan']['name']}, {shape} voxels: {result['environment']['device']}, "
        f"{result['environment']['threads']} threads",
        ("model", "runtime", "ready s", "scan to mask s", "voxels different"),
        [
            (
                row["model"],
                row["runtime"],
                row["ready_s"],
                row["scan_to_mask"]["median_s"],
                row["voxels_different"],
            )
            for row in result["models"]
        ],
    )
    _keep(result, json)


def _workload(size: int, batch: int, width: int, device: str, bf16: bool, channels_first: bool) -> Workload:
    from fullscale.bench.workload import Workload

    return Workload("unet3+", width, size, batch, device, bf16=bf16, channels_last=not channels_first)


def _keep(result: dict[str, Any], path: Path | None) -> None:
    if path is not None:
        from fullscale.files import write_json

        write_json(path, result)


def _print_network(result: dict[str, Any]) -> None:
    work, network = result["workload"], result["network"]
    names = {"inference": "inference", "inference_compiled": "compiled", "training_step": "training step"}
    table(
        f"UNet 3+ of width {work['width']} on {work['batch']}x3x{work['size']}x{work['size']}: "
        f"{result['environment']['device']}, {result['environment']['threads']} threads, "
        f"{result['roofline_gflops']:.0f} GFLOP/s in a matrix product",
        ("", "form", "seconds", "GMAC", "GFLOP/s", "of roofline", "factored is faster"),
        [
            (
                names[stage],
                variant,
                row["median_s"],
                row["gmacs"],
                row["gflops"],
                row["of_roofline"],
                row["factored_is_faster"],
            )
            for stage in names
            for variant, row in network.get(stage, {}).items()
        ],
    )
    peak = network["training_peak_mib"]
    print_line(
        "Peak memory of a training step: "
        + ", ".join(f"{variant} {mib:.0f} MiB ({100 * mib / peak['plain']:.0f} %)" for variant, mib in peak.items())
    )
    print_line(
        "plain: PyTorch as it comes; direct: channels last; factored: channels last, cheapest form of each convolution"
    )
