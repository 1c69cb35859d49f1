"""The paper as one page that holds all it shows, with each figure beside it for slides and print."""

from __future__ import annotations

import base64
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from fullscale.files import write_text
from fullscale.paper.content import FIGURES, Paper
from fullscale.paper.losses import EXAMPLE
from fullscale.reporting.figures import formula_svg, new_figure, save_figure
from fullscale.reporting.template import filled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = "paper.html"
SUFFIXES = (".svg", ".pdf", ".png")
TEMPLATE = "paper/paper.html.jinja"


def files_of(folder: Path) -> list[Path]:
    """List what `write_paper` writes into a folder at most."""
    return [folder / PAGE, *(folder / f"{name}{suffix}" for name in FIGURES for suffix in SUFFIXES)]


def write_paper(paper: Paper, folder: Path) -> list[Path]:
    """Write the page, and each figure as SVG, PDF and PNG.

    Returns:
        What was written.

    Raises:
        FullscaleError: the folder cannot be written.
    """
    figures = paper.figures()
    written = []
    for name, figure in figures.items():
        for suffix in SUFFIXES if figure is not None else ():
            assert figure is not None
            save_figure(figure, folder / f"{name}{suffix}")
            written.append(folder / f"{name}{suffix}")
    drawn = {name: folder / f"{name}.svg" for name, figure in figures.items() if figure is not None}
    pictures = {name: _as_data(drawn[name].read_bytes()) if name in drawn else None for name in figures}
    formulas = (*paper.decoders, *paper.losses)
    page = filled(
        TEMPLATE,
        paper=paper,
        pictures=pictures,
        titles=FIGURES,
        written={formula.title: _as_data(formula_svg(_formula(formula.tex))) for formula in formulas},
        example=EXAMPLE,
        version=version("fullscale"),
    )
    write_text(folder / PAGE, page)
    return [folder / PAGE, *written]


def _as_data(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def _formula(tex: str) -> Figure:
    """Draw a formula as a picture of its own size."""
    figure = new_figure((1, 1), "white")
    figure.set_layout_engine("none")
    text = figure.text(0, 0, f"${tex}$", fontsize=13, math_fontfamily="stix", color="#1d2329")
    box = text.get_window_extent()
    margin, dpi = 6, figure.dpi
    figure.set_size_inches((box.width + 2 * margin) / dpi, (box.height + 2 * margin) / dpi)
    width, height = figure.get_size_inches() * dpi
    text.set_position(((margin - box.x0) / width, (margin - box.y0) / height))
    return figure
