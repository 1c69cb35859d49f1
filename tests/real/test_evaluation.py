from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

from fullscale.data.case import Case
from fullscale.data.read import read_image, read_label
from fullscale.data.volume_files import read_volume, volume_stem, write_volume
from fullscale.geometry.volume import Volume
from fullscale.reporting.html import write_report
from fullscale.reporting.overlay import overlay_figure
from fullscale.reporting.scene import RenderOptions
from fullscale.scoring.evaluate import evaluate
from fullscale.scoring.summary import write_summary


def moved(label: Volume, *voxels: int) -> Volume:
    return label.with_array(np.roll(label.array, voxels, axis=(0, 1, 2)))


def test_a_moved_liver_of_lits_scores_as_simpleitk_says(shared_data: Path, tmp_path: Path) -> None:
    truth = read_volume(shared_data / "lits" / "segmentation-0.nii.gz")
    prediction = moved(truth, 6, -4, 1)
    write_volume(tmp_path / "volume-0.nii.gz", prediction)
    summary = evaluate(tmp_path, shared_data / "lits")
    [case] = summary.cases
    assert case.reference_file.name == "segmentation-0.nii.gz"
    scores = case.metrics[1]
    judge = sitk.LabelOverlapMeasuresImageFilter()
    judge.Execute(*(sitk.GetImageFromArray(v.array.astype(np.uint8)) for v in (truth, prediction)))
    assert scores["Dice"] == pytest.approx(judge.GetDiceCoefficient(1))
    assert scores["IoU"] == pytest.approx(judge.GetJaccardCoefficient(1))
    assert scores["reference_volume_ml"] == pytest.approx((truth.array == 1).sum() * 0.703125**2 * 5 / 1000, rel=1e-5)
    shift = float(np.linalg.norm([6 * 0.703125, 4 * 0.703125, 5.0]))
    assert 0 < scores["ASSD"] < scores["HD95"] <= shift


def test_hippocampi_score_as_monai_says(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "Task04_Hippocampus" / "labelsTr"
    files = sorted(folder.glob("hippocampus_*.nii.gz"))[:4]
    truths = {file.name: read_volume(file) for file in files}
    for name, truth in truths.items():
        write_volume(tmp_path / name, moved(truth, 1, -1, 1))
    summary = evaluate(tmp_path, _cases(files), {1: "anterior", 2: "posterior"})
    assert len(summary.cases) == 4
    for case in summary.cases:
        truth = truths[case.reference_file.name]
        for label in (1, 2):
            masks = _one_hot(moved(truth, 1, -1, 1).array == label), _one_hot(truth.array == label)
            options = {"include_background": True, "spacing": truth.spacing_mm}
            hausdorff = compute_hausdorff_distance(*masks, percentile=95, **options)
            average = compute_average_surface_distance(*masks, symmetric=True, **options)
            assert case.metrics[label]["HD95"] == pytest.approx(hausdorff.item(), rel=1e-5)
            assert case.metrics[label]["ASSD"] == pytest.approx(average.item(), rel=1e-5)


def test_every_structure_of_totalsegmentator_is_perfect_against_itself(shared_data: Path) -> None:
    file = shared_data / "totalsegmentator" / "example_seg_fast_force_split.nii.gz"
    summary = evaluate(file, file)
    structures = set(np.unique(read_volume(file).array).tolist()) - {0}
    assert set(summary.labels) == structures
    assert len(structures) > 50
    for label in structures:
        mean = summary.mean(label)
        assert (mean["Dice"], mean["HD95"], mean["NSD"], mean["cases"]) == (1, 0, 1, 1)


def test_png_truth_of_chaos_is_scored_on_the_grid_of_its_dicom_series(shared_data: Path, tmp_path: Path) -> None:
    patient = shared_data / "chaos" / "CT" / "3"
    truth = read_label(patient / "Ground", patient / "DICOM_anon")
    write_volume(tmp_path / "3.nii.gz", truth)
    [case] = evaluate(tmp_path, shared_data / "chaos").cases
    assert case.metrics[1]["Dice"] == 1
    assert case.metrics[1]["n_ref"] == truth.array.sum()


@pytest.mark.parametrize("source", ["lits", "chaos", "totalsegmentator"])
def test_the_liver_is_drawn_on_the_left_of_the_picture_and_the_table_below(shared_data: Path, source: str) -> None:
    scan, liver = _scan_and_liver(shared_data, source)
    figure = overlay_figure(scan, liver, options=RenderOptions(window=(-160, 240)), slices=3)
    height, width = figure.axes[1].images[0].get_array().shape
    painted = [np.argwhere(axes.images[1].get_array()[..., 3] > 0) for axes in figure.axes[:3]]
    assert np.mean([part[:, 1].mean() for part in painted]) < 0.45 * width
    grey = np.mean(
        [axes.images[0].get_array()[:, width // 3 : 2 * width // 3] > 300 for axes in figure.axes[:3]], axis=0
    )
    bone = np.argwhere(grey)
    assert np.average(bone[:, 0], weights=grey[grey > 0]) > 0.5 * height  # the spine, behind


def test_hippocampi_are_shown_best_median_and_worst(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "Task04_Hippocampus" / "labelsTr"
    files = sorted(folder.glob("hippocampus_*.nii.gz"))[:4]
    for shift, file in enumerate(files):
        write_volume(tmp_path / "masks" / file.name, moved(read_volume(file), shift, 0, 0))
    images = {volume_stem(file): folder.parent / "imagesTr" / file.name for file in files}
    cases = {name: Case.of_image(name, images[name], folder / f"{name}.nii.gz") for name in images}
    write_summary(evaluate(tmp_path / "masks", cases, {1: "anterior", 2: "posterior"}), tmp_path / "summary.json")
    written = write_report(tmp_path / "summary.json", cases=list(images), data=folder.parent)
    assert written.notes == []
    assert sorted(written.pictures) == sorted(images)
    assert written.pictures[0] == volume_stem(files[0])
    assert (tmp_path / "report.html").read_text().count("data:image/png") == len(written.pictures)


def _scan_and_liver(shared_data: Path, source: str) -> tuple[Volume, Volume]:
    if source == "chaos":
        patient = shared_data / "chaos" / "CT" / "3"
        return read_image(patient / "DICOM_anon"), read_label(patient / "Ground", patient / "DICOM_anon")
    if source == "lits":
        folder = shared_data / "lits"
        return read_image(folder / "volume-0.nii.gz"), read_volume(folder / "segmentation-0.nii.gz")
    folder = shared_data / "totalsegmentator"
    structures = read_volume(folder / "example_seg_fast_force_split.nii.gz")
    return read_image(folder / "example_ct.nii.gz"), structures.with_array((structures.array == 5).astype(np.uint8))


def _cases(labels: list[Path]) -> dict[str, Case]:
    return {volume_stem(file): Case.of_image(volume_stem(file), file, file, volume_stem(file)) for file in labels}


def _one_hot(mask: npt.NDArray[np.bool_]) -> torch.Tensor:
    return torch.from_numpy(mask.astype(np.float32))[None, None]
