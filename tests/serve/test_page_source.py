"""The page's source: its pure parts by their own tests, and what it is built from."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "page"


def test_brush_fill_undo_windows_and_events_do_what_they_say() -> None:
    if shutil.which("node") is None:
        pytest.skip("node is not installed (Debian: apt-get install nodejs)")
    done = subprocess.run(["node", "--test", "test/"], cwd=PAGE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_package_is_pinned_by_its_digest_and_names_no_host() -> None:
    about, lock = (json.loads((PAGE / name).read_text()) for name in ("package.json", "package-lock.json"))
    wanted = about["dependencies"] | about["devDependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert {f"node_modules/{name}" for name in wanted} <= packages.keys()
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    assert not any("resolved" in entry for entry in packages.values())


def test_no_source_of_the_page_names_an_address_elsewhere() -> None:
    sources = [path for path in (PAGE / "src").rglob("*") if path.is_file()]
    assert len(sources) > 15
    allowed = "http://www.w3.org/2000/svg"  # a name, which nothing is loaded from
    assert not [path for path in sources if re.search(r"(https?:)?//[a-z]", path.read_text().replace(allowed, ""))]
