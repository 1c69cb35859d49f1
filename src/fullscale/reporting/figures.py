"""What all pictures share: colours, a new figure, and writing it whole."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from fullscale.errors import UsageError
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
_UNDATED: dict[str, dict[str, None]] = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
"""Kinds of pictures, each with what is left out of it: the hour that it was drawn at."""


def new_figure(size: tuple[float, float], colour: str) -> Figure:
    """Start a figure of so many inches that needs no screen; a white one arranges itself."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=_DPI, facecolor=colour, layout="constrained" if colour == "white" else None)
    FigureCanvasAgg(figure)
    return figure


def figure_png(figure: Figure) -> bytes:
    """Draw a figure as PNG in memory."""
    return _drawn(figure, ".png")


def formula_svg(figure: Figure) -> bytes:
    """Draw a figure whose text is a formula as SVG in memory."""
    return _drawn(figure, ".svg", formulas=True)


def require_picture_name(path: Path) -> None:
    """Refuse a name that no picture can be written to.

    Raises:
        UsageError: it ends otherwise than in .png, .svg or .pdf.
    """
    if path.suffix.lower() not in _UNDATED:
        raise UsageError(f"{path} is no name of a picture: it ends in {', '.join(_UNDATED)}")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, SVG or PDF, as its name ends, whole or not at all; the same figure makes the same file.

    Raises:
        UsageError: its name ends otherwise.
        FullscaleError: the file cannot be written.
    """
    require_picture_name(path)
    with atomic_path(path) as temporary:
        temporary.write_bytes(_drawn(figure, path.suffix.lower()))


def _drawn(figure: Figure, suffix: str, formulas: bool = False) -> bytes:
    """Draw a figure; its text is shown as it is: dollar signs in names that come from data make no formula."""
    from matplotlib import rc_context
    from matplotlib.text import Text

    memory = io.BytesIO()
    if not formulas:
        for text in figure.findobj(Text):
            text.set_parse_math(False)
    with rc_context({"svg.hashsalt": "fullscale", "text.parse_math": formulas}):
        figure.savefig(
            memory, format=suffix.removeprefix("."), facecolor=figure.get_facecolor(), metadata=_UNDATED[suffix]
        )
    return memory.getvalue()
