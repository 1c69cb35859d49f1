"""What the README and the documentation say is so: snippets run, links lead somewhere, settings and verbs exist."""

import re
from pathlib import Path

import pytest

from fullscale.config.load import load_config

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def test_the_network_snippet_of_the_readme_runs() -> None:
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    [network] = [snippet for snippet in snippets if "UNet3Plus" in snippet]
    names: dict[str, object] = {}
    exec(network.replace("classes=2)", "classes=2, width=8, skip_channels=8)"), names)
    assert names["logits"].shape == (2, 2, 96, 100)  # type: ignore[attr-defined]


def test_the_scan_snippet_of_the_readme_runs(
    trained_run: Path, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    [scan] = [snippet for snippet in snippets if "Predictor" in snippet]
    (tmp_path / "scan.nii.gz").symlink_to(phantoms / "imagesTs" / "phantom_006.nii.gz")
    (tmp_path / "run").symlink_to(trained_run)
    monkeypatch.chdir(tmp_path)
    exec(scan, {})
    assert (tmp_path / "mask.nii.gz").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere_and_settings_exist(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert target.startswith("http") or (page.parent / target).exists(), target
    for setting in re.findall(r"\b(?:network|loss|optimizer|augment|data|trainer)\.\w+=[\w.\[\],+-]+", text):
        load_config(None, [setting.rstrip(".,")])


def test_every_verb_of_the_readme_exists_and_every_verb_is_in_it() -> None:
    from fullscale.cli.app import app

    text = (ROOT / "README.md").read_text()
    verbs = {item.name for item in (*app.registered_commands, *app.registered_groups)}
    written = set(re.findall(r"(?:^    |`)fullscale ([a-z-]+)", text, re.MULTILINE))
    assert written == verbs
