"""Write the documentation as a site: the pages as they are, and references made of the program itself.

    python docs/site/build.py OUT

Pages link to files of the repository that are no pages, such as sources; on the site their names stand without a link.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

from sphinx.cmd.build import build_main

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

from reference import commands_page, python_page, settings_page  # noqa: E402

TREE = {
    "Start": ["readme", "tutorial", "why", "how-to/images", "how-to/channels"],
    "How to": [
        *(
            "how-to/train",
            "how-to/predict",
            "how-to/trust",
            "how-to/report",
            "how-to/evidence",
            "how-to/compare",
            "how-to/search",
            "how-to/tracking",
            "how-to/paper",
            "how-to/unknown",
            "how-to/dicom",
            "how-to/pacs",
        ),
        *("how-to/archive", "how-to/serve", "how-to/circle", "how-to/privacy", "how-to/plugins", "how-to/python"),
    ],
    "Reference": ["commands", "reference/commands", "reference/settings", "reference/python", "data-sets"],
    "Explanation": ["coordinates", "performance", "results", "reliability", "architecture", "decisions/index", "log"],
    "Project": ["contributing", "changelog"],
}
"""What stands in the margin. A page that it does not name fails the build."""

_MOVED = {"README.md": "readme.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
_LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]*)(#[^)]*)?\)")


def build(output: Path) -> int:
    """Build the site into a folder; return what Sphinx ends with. Every warning is an error."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "docs"
        shutil.copytree(ROOT / "docs", source, ignore=shutil.ignore_patterns("site", "*.py", "README.md"))
        for name, page in _MOVED.items():
            (source / page).write_text(_relinked(ROOT / name, source / page, source))
        for page in sorted((ROOT / "docs").rglob("*.md")):
            to = source / page.relative_to(ROOT / "docs")
            if to.exists():
                to.write_text(_relinked(page, to, source))
        _write_index(source)
        _write_decisions(source)
        (source / "reference").mkdir()
        for name, text in (("commands", commands_page()), ("settings", settings_page()), ("python", python_page())):
            (source / "reference" / f"{name}.md").write_text(text)
        for name in ("conf.py", "site.css"):
            shutil.copy(HERE / name, source / name)
        return build_main(["-W", "--keep-going", "-q", "-b", "html", str(source), str(output)])


def _write_index(source: Path) -> None:
    """Make the page of needs the first one, and add what stands in the margin."""
    index = source / "index.md"
    trees = (
        f"```{{toctree}}\n:caption: {caption}\n:hidden:\n\n" + "\n".join(pages) + "\n```\n"
        for caption, pages in TREE.items()
    )
    index.write_text("\n".join([_relinked(ROOT / "docs" / "README.md", index, source), *trees]))


def _write_decisions(source: Path) -> None:
    pages = sorted(page.stem for page in (source / "decisions").glob("*.md"))
    tree = "```{toctree}\n:maxdepth: 1\n\n" + "\n".join(pages) + "\n```\n"
    (source / "decisions" / "index.md").write_text(f"# Decisions\n\nWhy things are as they are.\n\n{tree}")


def _relinked(page: Path, to: Path, source: Path) -> str:
    """Return the text of a page with its links as they are where it goes."""

    def relink(link: re.Match[str]) -> str:
        text, target, anchor = link[1], link[2], link[3] or ""
        if not target or "://" in target:
            return link[0]
        file = (page.parent / target).resolve()
        if file == ROOT / "docs" / "README.md":
            goal = source / "index.md"
        elif file.parent == ROOT and file.name in _MOVED:
            goal = source / _MOVED[file.name]
        elif file == ROOT / "docs" / "decisions":
            goal = source / "decisions" / "index.md"
        elif file.is_relative_to(ROOT / "docs") and file.suffix in (".md", ".svg", ".png"):
            goal = source / file.relative_to(ROOT / "docs")
        else:
            return text
        return f"[{text}]({Path(os.path.relpath(goal, to.parent)).as_posix()}{anchor})"

    return _LINK.sub(relink, page.read_text())


if __name__ == "__main__":
    sys.exit(build(Path(sys.argv[1])))
