"""Paths of a run: each is spelled in one file, and the folds are listed in their order."""

import ast
from pathlib import Path

from fullscale.runfolder import FoldFolder, RunFolder

SOURCE = Path(__file__).resolve().parents[1] / "src" / "fullscale"
SPELLED = ("config.yaml", "plan.json", "splits.json", "environment.json", "metrics.csv", "last.ckpt", "best.ckpt")


def test_no_other_file_spells_a_path_of_a_run() -> None:
    for path in SOURCE.rglob("*.py"):
        if path.name == "runfolder.py":
            continue
        texts = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
        for text in texts:
            assert text not in (*SPELLED, "bundle", "validation", "summary.json"), f"{path} spells {text}"


def test_the_paths_are_those_of_the_design() -> None:
    run, fold = RunFolder(Path("run")), RunFolder(Path("run")).fold(3)
    paths = (run.config, run.plan, run.dataset, run.splits, run.environment)
    assert [str(path) for path in paths] == [
        f"run/{name}" for name in ("config.yaml", "plan.json", "dataset.json", "splits.json", "environment.json")
    ]
    assert (str(run.bundle), str(run.fold("all").bundle)) == ("run/bundle", "run/fold_all/bundle")
    assert [str(path) for path in (fold.last_checkpoint, fold.best_checkpoint, fold.metrics, fold.summary)] == [
        f"run/fold_3/{name}" for name in ("last.ckpt", "best.ckpt", "metrics.csv", "validation/summary.json")
    ]
    assert (fold.name, run.fold("all").name) == ("3", "all")


def test_folds_are_listed_by_number_and_strange_folders_are_not(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for name in ("10", "2", "all", "0", "x", "01", ""):
        run.fold(name).path.mkdir()
    (tmp_path / "fold_7").write_text("a file")
    assert [fold.name for fold in run.folds()] == ["0", "2", "10", "all"]
    assert (run.begun(), run.scored()) == ([], [])
    run.fold(10).last_checkpoint.touch()
    run.fold(2).validation.mkdir()
    run.fold(2).summary.touch()
    assert run.begun() == [FoldFolder(tmp_path / "fold_10")]
    assert run.scored() == [FoldFolder(tmp_path / "fold_2")]
    assert not run.is_run
    run.config.touch()
    assert run.is_run
