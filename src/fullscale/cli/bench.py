"""Verb bench: what things cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fullscale.cli.options import Overwrite
from fullscale.cli.show import print_line, print_status, table

if TYPE_CHECKING:
    from fullscale.bench.workload import Workload

Size = Annotated[
    int | None,
    typer.Option(help="Rows and columns of the input, and slices; default 320 in 2D, 48 in 3D.", min=16),
]
Batch = Annotated[int, typer.Option(help="Slices or volumes at once.", min=1)]
SpatialDims = Annotated[int, typer.Option(help="2 for slices, 3 for volumes.", min=2, max=3)]
Levels = Annotated[int, typer.Option(help="Of the networks in 3D; in 2D there are five.", min=2, max=6)]
Width = Annotated[int, typer.Option(help="Channels of the first level; the paper has 64.", min=1)]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 or mps.")]
Repeats = Annotated[int, typer.Option(help="Timed rounds of each measurement.", min=1)]
Bf16 = Annotated[bool, typer.Option("--bf16", help="Under bf16 autocast.")]
ChannelsFirst = Annotated[bool, typer.Option("--channels-first", help="Without the channels-last memory format.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the result to this file.", show_default=False)]

app = typer.Typer(help="Measure what things cost, side by side in one run.", no_args_is_help=True)


@app.command()
def decoder(
    size: Size = None,
    batch: Batch = 1,
    width: Width = 64,
    spatial_dims: SpatialDims = 2,
    levels: Levels = 5,
    device: Device = "cpu",
    repeats: Repeats = 5,
    compiled: Annotated[bool, typer.Option("--compiled", help="Also time torch.compile with frozen weights.")] = False,
    bf16: Bf16 = False,
    channels_first: ChannelsFirst = False,
    json: JsonFile = None,
    figure: Annotated[Path | None, typer.Option(help="Draw it: PNG, SVG or PDF.", show_default=False)] = None,
    overwrite: Overwrite = False,
) -> None:
    """Compare the direct and the factored form of the full-scale skips."""
    from fullscale.bench.decoder import bench_decoder
    from fullscale.bench.figure import decoder_figure
    from fullscale.outputs import claimed
    from fullscale.reporting.figures import require_picture_name, save_figure

    if figure is not None:
        require_picture_name(figure)
    work = _workload(spatial_dims, levels, size, batch, width, device, bf16, channels_first)
    with claimed(_given(json, figure), [], "bench decoder", overwrite):
        result = bench_decoder(work, repeats, compiled, print_status)
        _keep(result, json)
        if figure is not None:
            save_figure(decoder_figure(result), figure)
    _print_network(result, _shape(work))
    table(
        "Each up-sampled skip: forward, and a step with its gradients and the memory of that",
        ("channels", "low side", "factor", "direct ms", "factored ms", "times faster", "step ms", "MiB", "auto"),
        [
            (
                s["channels"],
                s["low_side"],
                s["factor"],
                1e3 * s["direct_s"],
                1e3 * s["factored_s"],
                s["speedup"],
                f"{1e3 * s['direct_step_s']:.1f}, {1e3 * s['factored_step_s']:.1f}",
                f"{s['direct_step_peak_mib']:.1f}, {s['factored_step_peak_mib']:.1f}",
                s["auto"],
            )
            for s in result["skips"]
        ],
    )


@app.command()
def networks(
    size: Size = None,
    batch: Batch = 2,
    width: Width = 64,
    spatial_dims: SpatialDims = 2,
    levels: Levels = 5,
    device: Device = "cpu",
    repeats: Repeats = 5,
    bf16: Bf16 = False,
    channels_first: ChannelsFirst = False,
    json: JsonFile = None,
    overwrite: Overwrite = False,
) -> None:
    """Compare all networks: parameters, operations, seconds, memory."""
    from fullscale.bench.networks import bench_networks
    from fullscale.outputs import claimed

    work = _workload(spatial_dims, levels, size, batch, width, device, bf16, channels_first)
    with claimed(_given(json), [], "bench networks", overwrite):
        result = bench_networks(work, repeats, report=print_status)
        _keep(result, json)
    table(
        f"Networks of width {width} on {_shape(work)}, {result['environment']['device']}",
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


@app.command()
def memory(
    size: Size = None,
    batch: Batch = 2,
    width: Width = 32,
    spatial_dims: SpatialDims = 3,
    levels: Levels = 5,
    gib: Annotated[float, typer.Option(help="Memory that the largest patch must fit, in GiB.", min=0.1)] = 24,
    json: JsonFile = None,
    overwrite: Overwrite = False,
) -> None:
    """Compute what a training step of UNet 3+ holds at most in both forms of the skips, and the largest patch."""
    from fullscale.bench.memory import bench_memory
    from fullscale.outputs import claimed

    work = _workload(spatial_dims, levels, size, batch, width, "cpu", bf16=False, channels_first=False)
    with claimed(_given(json), [], "bench memory", overwrite):
        result = bench_memory(work, gib, print_status)
        _keep(result, json)
    table(
        f"A training step of UNet 3+ of width {width} on {_shape(work)}, computed",
        ("skips", "numbers", "peak MiB", f"largest side in {gib:g} GiB"),
        [
            (row["form"], "bf16" if row["bf16"] else "float32", row["peak_mib"], row["largest_side"])
            for row in result["forms"]
        ],
    )


@app.command()
def scan(
    scan: Annotated[Path, typer.Argument(help="A volume file or a DICOM folder.", show_default=False)],
    widths: Annotated[str, typer.Option(help="Of UNet 3+ with random weights.")] = "16,32,64",
    model: Annotated[Path | None, typer.Option(help="A run or bundle to measure instead.", show_default=False)] = None,
    truth: Annotated[
        Path | None, typer.Option(help="The true mask of the scan: each way is scored with it.", show_default=False)
    ] = None,
    spatial_dims: SpatialDims = 2,
    device: Device = "cpu",
    repeats: Repeats = 1,
    json: JsonFile = None,
    overwrite: Overwrite = False,
) -> None:
    """What each way from a scan to its mask costs in seconds and in Dice: settings of predict, and runtimes of a CPU.

    The runtimes are PyTorch, compiled too, ONNX Runtime in both forms, and OpenVINO.
    """
    from fullscale.bench.scan import bench_scan
    from fullscale.errors import UsageError
    from fullscale.outputs import claimed

    numbers = [int(width) if width.strip().isdecimal() else 0 for width in widths.split(",")]
    if 0 in numbers:
        raise UsageError(f"--widths {widths!r} must list whole numbers of at least 1, such as 16,32")
    with claimed(_given(json), _given(scan, model, truth), "bench scan", overwrite):
        result = bench_scan(scan, numbers, model, repeats, print_status, device, spatial_dims, truth)
        _keep(result, json)
    shape = "x".join(map(str, result["scan"]["shape"]))
    table(
        f"{result['scan']['name']}, {shape} voxels: {result['environment']['device']}, "
        f"{result['environment']['threads']} threads",
        ("model", "way", "ready s", "scan to mask s", "voxels different", "Dice with the first", "Dice"),
        [
            (
                row["model"],
                row["runtime"],
                row["ready_s"],
                row["scan_to_mask"]["median_s"],
                row["voxels_different"],
                row["dice_with_pytorch"],
                row["dice"],
            )
            for row in result["models"]
        ],
    )


def _workload(
    spatial_dims: int,
    levels: int,
    size: int | None,
    batch: int,
    width: int,
    device: str,
    bf16: bool,
    channels_first: bool,
) -> Workload:
    from fullscale.bench.workload import Workload

    size = size or {2: 320, 3: 48}[spatial_dims]
    layout = not channels_first
    return Workload("unet3+", width, size, batch, device, "auto", bf16, layout, spatial_dims, levels)


def _shape(work: Workload) -> str:
    return "x".join(map(str, work.shape))


def _given(*paths: Path | None) -> list[Path]:
    return [path for path in paths if path is not None]


def _keep(result: dict[str, Any], path: Path | None) -> None:
    if path is not None:
        from fullscale.files import write_json

        write_json(path, result)


def _print_network(result: dict[str, Any], shape: str) -> None:
    work, network = result["workload"], result["network"]
    names = {"inference": "inference", "inference_compiled": "compiled", "training_step": "training step"}
    table(
        f"UNet 3+ of width {work['width']} on {shape}: "
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
