"""The documentation as a site: it builds without a warning, names everything, and asks for nothing from elsewhere."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fullscale.cli.app import app
from fullscale.config.load import load_config
from fullscale.training.choices import setting_rows

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "docs" / "site" / "build.py"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does. A link that leads nowhere, or a page that nothing leads to, fails it."""
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run([sys.executable, BUILD, folder], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.mark.slow
def test_every_page_command_setting_and_public_name_is_on_the_site(site: Path) -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs").with_suffix(".html")
        assert (site / (name if name.name != "README.html" else "index.html")).is_file()
    commands = (site / "reference" / "commands.html").read_text()
    for command in app.registered_commands:
        assert f"fullscale {command.name}" in commands
    settings = (site / "reference" / "settings.html").read_text()
    for key, _, _ in setting_rows(load_config(None, [])):
        assert key in settings
    python = (site / "reference" / "python.html").read_text()
    assert "A trained model on a device" in python


@pytest.mark.slow
def test_the_site_asks_for_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        asked = re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"(https?:)?//[^\"]*", page.read_text())
        assert not asked, page
    for style in site.rglob("*.css"):
        assert not re.findall(r"url\([\"']?https?:", style.read_text()), style


def test_links_to_files_that_are_no_pages_lose_their_link(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("site_build", BUILD)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = ROOT / "docs" / "architecture.md"
    text = module._relinked(page, tmp_path / "architecture.md", tmp_path)
    assert "../src" not in text
    assert "`cli/options.py`" in text
