"""What everyone does wrong at first, with every command: one line that names what was given, and nothing is written."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import Command

USAGE, DATA, PARTIAL = 2, 3, 4
VERBS = (
    *("demo", "inspect", "phantom", "plan", "prepare", "train", "settings", "predict", "evaluate", "test", "compare"),
    *("search", "report", "overlay", "export", "import-weights", "params", "paper"),
    *("bench decoder", "bench networks", "bench memory", "bench scan"),
    *("status", "gather", "serve", "letters", "send", "card", "evidence"),
)
FEW = ("network.levels=2", "data.batch_size=2,4")
COMMANDS: dict[str, tuple[str, ...]] = {
    "inspect": ("inspect", "{bad}"),
    "plan": ("plan", "{bad}", "-o", "{out}"),
    "prepare": ("prepare", "{bad}", "--cache", "{out}"),
    "train": ("train", "{bad}", "-o", "{out}"),
    "train by a plan": ("train", "{data}", "--plan", "{bad}", "-o", "{out}"),
    "train by settings": ("train", "{data}", "--config", "{bad}", "-o", "{out}"),
    "predict with": ("predict", "{bad}", "{scan}", "-o", "{out}"),
    "predict": ("predict", "{run}", "{bad}", "-o", "{out}"),
    "evaluate": ("evaluate", "{bad}", "{mask}", "-o", "{out}"),
    "evaluate by": ("evaluate", "{mask}", "{bad}", "-o", "{out}"),
    "evaluate against": ("evaluate", "{mask}", "{mask}", "--against", "{bad}", "-o", "{out}"),
    "test with": ("test", "{bad}", "{data}", "-o", "{out}"),
    "test": ("test", "{run}", "{bad}", "-o", "{out}"),
    "compare": ("compare", "{bad}", "--networks", "unet", "--steps-each", "1", "-o", "{out}"),
    "compare rows": ("compare", "{data}", "--rows", "{bad}", "--steps-each", "1", "-o", "{out}"),
    "search": ("search", "{bad}", "--steps-each", "1", *FEW, "-o", "{out}"),
    "search the space of": ("search", "{data}", "--steps-each", "1", "--space", "{bad}", "-o", "{out}"),
    "search with cases apart": ("search", "{data}", "--steps-each", "1", *FEW, "--test", "{bad}", "-o", "{out}"),
    "report": ("report", "{bad}", "-o", "{out}"),
    "card": ("card", "{bad}"),
    "evidence": ("evidence", "{bad}", "-o", "{out}"),
    "evidence to verify": ("evidence", "--verify", "{bad}"),
    "overlay": ("overlay", "{bad}", "{mask}", "-o", "{out}.png"),
    "overlay mask": ("overlay", "{scan}", "{bad}", "-o", "{out}.png"),
    "overlay truth": ("overlay", "{scan}", "{mask}", "{bad}", "-o", "{out}.png"),
    "paper": ("paper", "--comparison", "{bad}", "-o", "{out}"),
    "export": ("export", "{bad}", "-o", "{out}.onnx"),
    "import-weights": ("import-weights", "{bad}", "-o", "{out}.safetensors"),
    "status": ("status", "{bad}"),
    "gather": ("gather", "{bad}"),
    "letters": ("letters", "{bad}"),
    "send": ("send", "{bad}", "{data}"),
    "send with its scan": ("send", "{mask}", "{data}", "--scan", "{bad}", "--labels", "1=liver"),
    "serve": ("serve", "{bad}", "--state", "{out}", "--port", "0"),
    "bench scan": ("bench", "scan", "{bad}", "--widths", "4"),
    "bench scan with": ("bench", "scan", "{scan}", "--model", "{bad}"),
}


@pytest.fixture
def bad(tmp_path: Path) -> list[Path]:
    """A path that is not there, an empty folder, files of no sense, a folder of them, and what is no file at all."""
    folder = tmp_path / "bad"
    for part in ("empty", "other", "imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    (folder / "broken.nii.gz").write_bytes(b"no scan " * 50)
    (folder / "broken.json").write_text("{nonsense")
    (folder / "other" / "notes.txt").write_text("hello")
    for part in ("imagesTr", "labelsTr"):
        shutil.copy(folder / "broken.nii.gz", folder / part / "a.nii.gz")
    names = ("gone", "gone.nii.gz", "empty", "broken.nii.gz", "broken.json", "other", "")
    return [*(folder / name for name in names), Path("/dev/null")]


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.slow
def test_what_cannot_be_used_is_named_in_a_line(
    name: str, bad: list[Path], fullscale: Command, trained_run: Path, phantoms: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    places = {"data": phantoms, "run": trained_run, "out": out}
    places |= {kind: next((phantoms / f"{kind}sTs").iterdir()) for kind in ("image", "label")}
    for path in bad:
        if name == "inspect" and path.name == "broken.nii.gz":
            continue  # it lists loose volumes without reading them
        words = [word.format(bad=path, scan=places["image"], mask=places["label"], **places) for word in COMMANDS[name]]
        result = fullscale(*words)
        lines = [line for line in result.stderr.splitlines() if line.startswith("fullscale: ")]
        partial = name == "predict" and result.returncode == PARTIAL  # a line a scan, and one that counts them
        assert result.returncode in (USAGE, DATA) or partial, (path, result.stderr)
        assert len(lines) == 1, result.stderr
        assert (path.name or "null") in (result.stderr if partial else lines[0])
        assert "unexpected" not in lines[0]
        assert not list(out.parent.glob("out*/**/*.*")), path


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_explains_itself(verb: str, fullscale: Command) -> None:
    for option in ("--help", "-h"):
        shown = fullscale(*verb.split(), option)
        assert (shown.returncode, shown.stderr) == (0, "")
        assert f"fullscale {verb} " in shown.stdout
    unknown = fullscale(*verb.split(), "--no-such-option")
    assert unknown.returncode == USAGE
    assert "no-such-option" in unknown.stderr


def test_no_command_is_left_out() -> None:
    from fullscale.cli.app import app

    known = {command.name for command in app.registered_commands}
    assert known == {verb for verb in VERBS if " " not in verb}
