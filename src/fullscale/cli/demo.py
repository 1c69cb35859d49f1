"""The verb demo: the whole way on phantoms, from nothing to a scored mask and its picture."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Annotated

import typer

from fullscale.cli.data import draw_phantoms
from fullscale.cli.progress import progress_bar
from fullscale.cli.show import print_line, print_status, print_summary

CASES, SIZE, SLICES = 12, 64, 32
SEED = 1
STEPS_PER_EPOCH = 50


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for everything it makes.")] = Path("demo"),
    steps: Annotated[int, typer.Option(help="How many steps to train.", min=1)] = 400,
) -> None:
    """Draw phantoms, train a small UNet 3+, segment a scan it has not seen, and score the mask."""
    from fullscale.config.load import load_config
    from fullscale.data.discover import Scan
    from fullscale.data.read import read_image, read_label, stem_of
    from fullscale.inference.batch import predict_scans
    from fullscale.inference.predictor import Predictor
    from fullscale.outputs import claimed
    from fullscale.reporting.figures import save_figure
    from fullscale.reporting.overlay import overlay_figure
    from fullscale.reporting.scene import RenderOptions
    from fullscale.runfolder import SUMMARY, RunFolder
    from fullscale.scoring.evaluate import evaluate
    from fullscale.scoring.summary import write_summary
    from fullscale.training.request import TrainRequest
    from fullscale.training.run import train

    scans, run, masks = output / "phantoms", output / "run", output / "predictions"
    if not (scans / "dataset.json").is_file():
        draw_phantoms(scans, CASES, SEED, test_cases=1, size=SIZE, slices=SLICES)
    print_status(f"1. {CASES} synthetic scans with labels, and one to segment: {scans}")
    # Steps, not minutes: the model and its scores are then the same on a slow machine and on a busy one.
    per_epoch = min(steps, STEPS_PER_EPOCH)
    settings = ["data.view=slices", "trainer.device=cpu", f"trainer.steps_per_epoch={per_epoch}"]
    settings.append(f"trainer.max_epochs={ceil(steps / per_epoch)}")
    print_status(f"2. training a small UNet 3+ for {steps} steps: {run}")
    with progress_bar("training") as progress:
        train(TrainRequest(scans, run, config=load_config(None, settings), cache=output / "cache", progress=progress))

    [unseen] = sorted((scans / "imagesTs").iterdir())
    truth, picture = scans / "labelsTs" / unseen.name, masks / "overlay.png"
    structures = {1: "liver", 2: "spleen"}
    with claimed([masks / unseen.name, masks / SUMMARY, picture], [scans, run], "demo"):
        [result] = predict_scans(Predictor.from_run(run), [Scan(stem_of(unseen), unseen)], masks)
        assert result.mask is not None
        summary = evaluate(result.mask, truth, structures)
        write_summary(summary, masks / SUMMARY)
        scan = read_image(unseen)
        found, wanted = read_label(result.mask, unseen), read_label(truth, unseen)
        options = RenderOptions(window=(-150, 250), names=structures)
        save_figure(overlay_figure(scan, found, wanted, options, title="synthetic phantom"), picture)
    print_summary(summary, "3. Scores of the scan it has not seen (a synthetic phantom, no patient)")
    print_line(f"mask:    {result.mask}")
    print_line(f"scores:  {masks / SUMMARY}")
    print_line(f"picture: {picture}")
    print_line(f"model:   {RunFolder(run).bundle}")


COMMANDS = {"demo": demo}
