"""The paper's three formulas of decoder parameters with the channels of networks as they are built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fullscale.paper.costs import LevelCount, count_levels
from fullscale.paper.formula import Formula
from fullscale.paper.graph import Graph
from fullscale.scoring.tables import Table, name_cell, number_cell


class _Written(NamedTuple):
    text: str
    tex: str
    note: str


_UP = (
    "The formula takes every kernel for one of side 3. This network brings maps up by transposed convolutions of side "
    "4, as the published counts have it; their weights beyond side 3 stand in a column of their own. "
)
_DECODERS = {
    "UNet": _Written(
        "P_i = D² · [d(De_i+1)·d(De_i) + d(De_i)² + d(En_i + De_i)·d(De_i)]",
        r"P^{\,i}_{De} = D_F^2\,[\,d(X^{i+1}_{De})\,d(X^i_{De}) + d(X^i_{De})^2 + d(X^i_{En}+X^i_{De})\,d(X^i_{De})\,]",
        _UP,
    ),
    "UNet++": _Written(
        "P_i = D² · [d(De_i+1)·d(De_i) + d(De_i)² + d(En_i + Σ_k Me_i,k + De_i)·d(De_i)]",
        r"P^{\,i}_{De} = D_F^2\,[\,d(X^{i+1}_{De})\,d(X^i_{De}) + d(X^i_{De})^2 + "
        r"d(X^i_{En}+\sum_{k=1}^{N-1-i}X^{i,k}_{Me}+X^i_{De})\,d(X^i_{De})\,]",
        _UP + "It counts the last node of each level alone: the weights of the nested nodes come on top.",
    ),
    "UNet 3+": _Written(
        "P_i = D² · [(Σ_k≤i d(En_k) + Σ_k>i d(De_k)) · S + d(De_i)²],   S = 64 in the paper",
        r"P^{\,i}_{De} = D_F^2\,[\,(\sum_{k=1}^{i}d(X^k_{En}) + \sum_{k=i+1}^{N}d(X^k_{De}))\cdot 64 "
        r"+ d(X^i_{De})^2\,]",
        "",
    ),
}


def decoder_formulas(graphs: Mapping[str, Graph]) -> list[Formula]:
    """Write the formula of each network with its own channels, beside the weights of its own convolutions.

    Args:
        graphs: of "UNet", "UNet++" and "UNet 3+".
    """
    return [_formula(title, graph) for title, graph in graphs.items()]


def _formula(title: str, graph: Graph) -> Formula:
    levels, written = count_levels(graph), _DECODERS[title]
    comparable = sum(count.kernels - count.bringing_up for count in levels)
    by_formula = sum(count.formula.weights for count in levels)
    note = written.note
    if comparable != by_formula:
        note += (
            "These settings make another decoder than the paper's, so the formula does not count it: "
            f"{comparable - by_formula:+,} weights."
        )
    return Formula(
        title=f"Decoder parameters of {title}",
        source="section 2.1",
        tex=written.tex,
        text=written.text,
        numbers=[f"level {count.level}: {count.formula.numbers} = {count.formula.weights:,}" for count in levels],
        by_formula=by_formula,
        by_module=comparable,
        module="the modules' own kernels",
        note=note.strip(),
        table=_table(levels),
    )


def _table(levels: list[LevelCount]) -> Table:
    heads = ["level", "by formula", "own kernels", "beyond side 3", "left over"]
    rows = []
    for count in levels:
        left = count.kernels - count.bringing_up - count.formula.weights
        numbers = (count.formula.weights, count.kernels, count.bringing_up, left)
        rows.append([name_cell(str(count.level)), *(number_cell(number, ",") for number in numbers)])
    return Table(heads, rows)
