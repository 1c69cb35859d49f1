"""How the figures are drawn: boxes, arrows and words on a white sheet that is measured in inches.

Colours are of the set of Okabe and Ito, told apart with any kind of colour vision; arrows differ by their dashes too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from fullscale.paper.graph import Direction, Node
from fullscale.reporting.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

INK, SOFT = "#1d2329", "#55606b"
_CORNER = 0.07


class Paint(NamedTuple):
    """Filling and edge of a box."""

    fill: str
    edge: str


PAINT = {
    "encoder": Paint("#d3e6f5", "#0072b2"),
    "nested": Paint("#cfeae0", "#007a5a"),
    "decoder": Paint("#fce4bd", "#a86b00"),
    "step": Paint("#f2f4f6", "#7b858f"),
    "gate": Paint("#f3dcea", "#9c3f78"),
}
ARROWS: dict[Direction | str, tuple[str, str]] = {
    "down": ("#0072b2", "dashed"),
    "same": ("#55606b", "solid"),
    "up": ("#c04d00", "solid"),
    "gate": ("#9c3f78", "solid"),
}
"""Colour and dashes of a map's way to a coarser grid, on its grid, to a finer one; and of the gate."""


class Sheet:
    """A white sheet of so many inches, with its origin at the lower left."""

    def __init__(self, width: float, height: float) -> None:
        self.figure: Figure = new_figure((width, height), "white")
        self.figure.set_layout_engine("none")
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(0, height))
        self.axes.set_axis_off()

    def box(
        self,
        centre: tuple[float, float],
        size: tuple[float, float],
        lines: Sequence[str],
        paint: Paint,
        strong: bool = False,
        font: float = 8.5,
    ) -> FancyBboxPatch:
        """Draw a rounded box with its lines of text, the first bold; a strong one has a thick frame."""
        from matplotlib.patches import FancyBboxPatch

        (x, y), (width, height) = centre, size
        patch = FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            boxstyle=f"round,pad=0,rounding_size={_CORNER}",
            facecolor=paint.fill,
            edgecolor=INK if strong else paint.edge,
            linewidth=2.2 if strong else 1.0,
            zorder=3,
        )
        self.axes.add_patch(patch)
        step = 1.32 * font / 72
        top = y + step * (len(lines) - 1) / 2
        for number, line in enumerate(lines):
            size_of_line, weight = (font, "bold") if number == 0 else (font - 1, "normal")
            self.text((x, top - number * step), line, size_of_line, weight=weight)
        return patch

    def text(
        self,
        place: tuple[float, float],
        text: str,
        font: float = 9,
        colour: str = INK,
        weight: str = "normal",
        ha: str = "center",
        va: str = "center",
    ) -> None:
        """Write a line."""
        self.axes.text(*place, text, fontsize=font, color=colour, weight=weight, ha=ha, va=va, zorder=5)

    def arrow(
        self,
        source: FancyBboxPatch | tuple[float, float],
        target: FancyBboxPatch | tuple[float, float],
        kind: Direction | str = "same",
        bend: float = 0.0,
    ) -> FancyArrowPatch:
        """Draw an arrow from the border of one box to that of another; a bend is to the right of its way."""
        from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

        colour, dashes = ARROWS[kind]
        ends = [end if isinstance(end, tuple) else middle(end) for end in (source, target)]
        patch = FancyArrowPatch(
            *ends,
            patchA=source if isinstance(source, FancyBboxPatch) else None,
            patchB=target if isinstance(target, FancyBboxPatch) else None,
            connectionstyle=f"arc3,rad={bend}",
            arrowstyle="-|>",
            mutation_scale=9,
            shrinkA=1.5,
            shrinkB=1.5,
            color=colour,
            linestyle=dashes,
            linewidth=1.15,
            zorder=2,
        )
        self.axes.add_patch(patch)
        return patch

    def line(self, points: Sequence[tuple[float, float]], kind: Direction | str = "same") -> None:
        """Draw a line through points, in the style of an arrow."""
        colour, dashes = ARROWS[kind]
        self.axes.plot(*zip(*points, strict=True), color=colour, linestyle=dashes, linewidth=1.15, zorder=2)


def middle(box: FancyBboxPatch) -> tuple[float, float]:
    """Return the centre of a box."""
    return box.get_x() + box.get_width() / 2, box.get_y() + box.get_height() / 2


def times(factor: Sequence[int]) -> str:
    """Write a factor of each axis: `4×4`, or `1×2×2`."""
    return "×".join(map(str, factor))


def scale_of(node: Node) -> str:
    """Write the size of a map beside that of the image: `1/4`, or of unequal axes `1/1×2×2`."""
    strides = set(node.stride)
    if strides == {1}:
        return "full size"
    return f"1/{node.stride[0]}" if len(strides) == 1 else f"1/{times(node.stride)}"
