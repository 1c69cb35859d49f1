"""What fullscale stands on: every installed package that it needs, with its licence."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from fullscale.extras import needs

ROOT = "fullscale"
NOT_STATED = "not stated"

_FOR_DEVELOPERS = "dev"
_NO_NAME = {"", "UNKNOWN", "LICENSE", "LICENCE"}
_LONGEST_LICENCE = 100
"""Characters of the field License; a longer one is the text of a licence and not its name."""
_LICENCE_FILE = re.compile(r"\.dist-info/(licenses/.+|(?:.*/)?[^/]*(?:licen[cs]e|copying|notice)[^/]*)$", re.IGNORECASE)


@dataclass(frozen=True)
class Dependency:
    """An installed package.

    Attributes:
        name: normalised, as package indexes have it.
        version: that is installed.
        licence: an SPDX expression where the package states one, else the name that it gives, or `NOT_STATED`.
        requires: names of the installed packages that it needs itself.
        texts: texts of licences and notices that it carries, by the name of their file.
    """

    name: str
    version: str
    licence: str
    requires: tuple[str, ...] = ()
    texts: dict[str, str] = field(default_factory=dict, repr=False)


def installed_dependencies() -> list[Dependency]:
    """List fullscale and every installed package that it needs, itself or by others, in the order of their names.

    What needs an extra counts where it is installed, but not what developers of fullscale alone need.

    Raises:
        UsageError: the extra `evidence` is not installed.
    """
    extras = set(_said(distribution(ROOT), "Provides-Extra")) - {_FOR_DEVELOPERS}
    waiting: list[tuple[str, set[str]]] = [(ROOT, extras)]
    packages: dict[str, Distribution] = {}
    asked: dict[str, set[str]] = {}
    needed: dict[str, dict[str, set[str]]] = {}
    while waiting:
        name, wanted = waiting.pop()
        if name in asked and wanted <= asked[name]:
            continue
        package = _installed(name)
        if package is None:
            continue
        packages[name] = package
        asked[name] = asked.get(name, set()) | wanted
        needed[name] = _requirements(package, asked[name])
        waiting += needed[name].items()
    return [
        _described(name, packages[name], tuple(other for other in sorted(needed[name]) if other in packages))
        for name in sorted(packages)
    ]


def _requirements(package: Distribution, extras: set[str]) -> dict[str, set[str]]:
    """Return what a package needs on this machine, and the extras of each that it asks for."""
    with needs("evidence", "folders of evidence"):
        from packaging.requirements import Requirement
        from packaging.utils import canonicalize_name

    found: dict[str, set[str]] = {}
    for text in package.requires or []:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *sorted(extras))):
            name = str(canonicalize_name(requirement.name))
            found[name] = found.get(name, set()) | set(requirement.extras)
    found.pop(ROOT, None)
    return found


def _installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _described(name: str, package: Distribution, requires: tuple[str, ...]) -> Dependency:
    return Dependency(name, package.version, _licence(package), requires, dict(_texts(package)))


def _licence(package: Distribution) -> str:
    expression, *_ = [*_said(package, "License-Expression"), ""]
    name, *_ = [*_said(package, "License"), ""]
    if expression:
        return expression
    if name.upper() not in _NO_NAME and len(name) <= _LONGEST_LICENCE and "\n" not in name:
        return name
    classes = [text.split(" :: ")[-1] for text in _said(package, "Classifier") if text.startswith("License ::")]
    return ", ".join(classes) or NOT_STATED


def _said(package: Distribution, field: str) -> list[str]:
    return [str(text).strip() for text in package.metadata.get_all(field) or []]


def _texts(package: Distribution) -> Iterator[tuple[str, str]]:
    """Yield the texts of licences that a package carries.

    Its own list of files would be made of all of them, which are tens of thousands.
    """
    listed = [line for line in (package.read_text("RECORD") or "").splitlines() if ".dist-info/" in line]
    for name in sorted(row[0] for row in csv.reader(listed)):
        match = _LICENCE_FILE.search(name)
        if match is not None and ".." not in name.split("/"):
            text = Path(str(package.locate_file(name))).read_text(encoding="utf-8", errors="replace")
            yield match[1].removeprefix("licenses/"), text
