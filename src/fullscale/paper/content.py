"""All that is shown of the paper: formulas with their numbers, the two tables, and the figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fullscale.networks import NETWORKS, network_options
from fullscale.paper.architectures import architectures_figure
from fullscale.paper.decoders import decoder_formulas
from fullscale.paper.formula import Formula
from fullscale.paper.full_scale import aggregation_figure
from fullscale.paper.graph import Graph, build_graph
from fullscale.paper.guided import guidance_figure
from fullscale.paper.losses import loss_formulas
from fullscale.paper.tables import CLASSES, IN_CHANNELS, Compared, PaperTable, paper_tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NETWORKS_DRAWN = {"UNet": "unet", "UNet++": "unet++", "UNet 3+": "unet3+"}

FIGURES = {
    "figure-1-architectures": "Figure 1: the three architectures",
    "figure-2-full-scale": "Figure 2: full-scale skip connections",
    "figure-3-guidance": "Figure 3: the classification-guided module",
}
"""Title of each figure, by the name of its files."""


@dataclass(frozen=True)
class Paper:
    """What is shown.

    Attributes:
        options: of the networks that formulas and figures are of; those that were set.
        graphs: these networks, as their blocks take and give maps, by title.
        decoders: formulas of decoder parameters.
        losses: formulas of losses, and of Dice.
        tables: Tables 1 and 2, always of the paper's own networks.
    """

    options: dict[str, Any]
    graphs: dict[str, Graph]
    decoders: list[Formula]
    losses: list[Formula]
    tables: list[PaperTable]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "options": self.options,
            "formulas": [formula.as_dict() for formula in (*self.decoders, *self.losses)],
            "tables": [table.as_dict() for table in self.tables],
        }

    def figures(self) -> dict[str, Figure | None]:
        """Draw the figures, by the names of their files; None is one that these settings leave nothing to draw of."""
        full = self.graphs["UNet 3+"]
        drawn = (architectures_figure(self.graphs), aggregation_figure(full), guidance_figure(full))
        return dict(zip(FIGURES, drawn, strict=True))


def read_paper(options: Mapping[str, Any], classes: int = CLASSES, compared: Compared | None = None) -> Paper:
    """Build the networks without content, and set the paper beside them.

    Args:
        options: of UNet 3+; UNet and UNet++ get those that they have too.
        classes: channels of the logits in formulas and figures; the paper has 1.
        compared: see `paper_tables`.

    Raises:
        UsageError: UNet 3+ has no such option, or a value does not fit.
        DataError: no row of the comparison is one of the paper's.
    """
    NETWORKS.check(NETWORKS_DRAWN["UNet 3+"], options)
    graphs = {
        title: build_graph(
            name, IN_CHANNELS, classes, **{key: options[key] for key in network_options(name) if key in options}
        )
        for title, name in NETWORKS_DRAWN.items()
    }
    return Paper(dict(options), graphs, decoder_formulas(graphs), loss_formulas(), paper_tables(compared))
