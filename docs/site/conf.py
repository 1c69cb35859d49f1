"""How Sphinx makes a site of these pages: `make docs`, without a network."""

from __future__ import annotations

from importlib.metadata import version as version_of

project = "fullscale"
copyright = "the maintainers of fullscale"
version = release = version_of("fullscale")
root_doc = "index"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "Thumbs.db"]
html_theme = "furo"
html_title = f"fullscale {release}"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
default_role = "code"
smartquotes = False
html_static_path = ["site.css"]
html_css_files = ["site.css"]
