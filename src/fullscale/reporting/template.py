"""Pages from templates: what is filled in is escaped, and the page is sealed. Home of jinja2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fullscale.reporting.seal import sealed
from fullscale.text import without_folders


def filled(template: str, local: Callable[[Any], str] = without_folders, /, **values: Any) -> str:
    """Fill a template of the package, such as `reporting/report.html.jinja`, whose output is autoescaped.

    Args:
        template: its path within the package.
        local: what becomes of a text that may name folders of this machine.
        values: that the template names; one that lacks is an error.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fullscale", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["local"] = local
    return sealed(environment.get_template(template).render(**values))
