"""What all pictures share: colours, a new figure, and writing it whole."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from fullscale.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PaletteName = Literal["paper", "safe"]


class Palette(NamedTuple):
    """Colours of a picture.

    Attributes:
        agreement: of true positives, false negatives, false positives, and one structure taken for another.
        labels: of labels in rising order, from the start again where there are more.
    """

    agreement: tuple[str, str, str, str]
    labels: tuple[str, ...]


TRUE_POSITIVE, FALSE_NEGATIVE, FALSE_POSITIVE, WRONG_CLASS = "#b14cf2", "#ffd60a", "#21c45a", "#ff7a1a"
"""As in Figure 4 of the paper: purple, yellow, green; orange where a structure was taken for another."""

LABEL_COLOURS = (
    *("#e8554d", "#3fa7f5", "#4fc46a", "#f2c230", "#b57be8", "#2ec4c6", "#f58fbf", "#f28c38", "#9fd356", "#8c9eff"),
)

PALETTES: dict[PaletteName, Palette] = {
    "paper": Palette((TRUE_POSITIVE, FALSE_NEGATIVE, FALSE_POSITIVE, WRONG_CLASS), LABEL_COLOURS),
    "safe": Palette(
        ("#56b4e9", "#f0e442", "#d55e00", "#cc79a7"),
        ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#ffffff"),
    ),
}
"""The paper's colours, and those of Okabe and Ito, told apart with any kind of colour vision."""

BACKGROUND, INK = "#101214", "#e8eaed"
MOST_NAMED = 12
"""Entries of a legend at most."""

_DPI = 130


def new_figure(size: tuple[float, float], colour: str) -> Figure:
    """Start a figure of so many inches that needs no screen; a white one arranges itself."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=_DPI, facecolor=colour, layout="constrained" if colour == "white" else None)
    FigureCanvasAgg(figure)
    return figure


def figure_png(figure: Figure) -> bytes:
    """Draw a figure as PNG in memory."""
    memory = io.BytesIO()
    figure.savefig(memory, format="png", facecolor=figure.get_facecolor())
    return memory.getvalue()


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all.

    Raises:
        FullscaleError: the file cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(figure_png(figure))
