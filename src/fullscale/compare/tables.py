"""The table of a comparison, as in Tables 1 and 2 of the paper: for the terminal, Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from fullscale.compare.results import RESULTS_FILE, Line, Results, Score
from fullscale.files import write_json, write_text
from fullscale.reporting.model_card.markdown import escaped, table
from fullscale.scoring.tables import METRICS, NOTHING, head_of, number_cell

RESULTS = (RESULTS_FILE, "results.md", "results.tex", "results.csv")
"""Names of the files that hold the table."""

_LATEX = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "[": "{[}",  # at the start of a row it would belong to the end of the one before
}


def header(results: Results) -> list[str]:
    """Name the columns."""
    structures = _structures(results)
    costs = ["parameters M", "GMAC", "s a step", "steps"]
    return [
        "network",
        *costs,
        *(f"Dice {structure}" for structure in structures),
        head_of("HD95", results.unit),
        head_of("NSD", results.unit),
        f"against {results.reference}",
    ]


def rows(results: Results) -> list[list[str]]:
    """Write out every line; Dice with its 95 % interval over cases, and a name with how few they are."""
    structures, most = _structures(results), _cases(results)
    return [
        [
            line.name + (f" ({len(line.by_case)} of {most} cases)" if 0 < len(line.by_case) < most else ""),
            f"{line.parameters / 1e6:.2f}",
            f"{line.macs / 1e9:.3g}",
            number_cell(line.step_s, ".2f").text,
            NOTHING if not line.steps else _range(line.steps),
            *(_cell(line.dice.get(structure), "Dice") for structure in structures),
            _cell(line.hd95_mm.get("mean"), "HD95", interval=False),
            _cell(line.nsd.get("mean"), "NSD", interval=False),
            against(line, results),
        ]
        for line in results.lines
    ]


def against(line: Line, results: Results) -> str:
    """Say how a line compares with the reference, and whether a difference is shown."""
    if line.name == results.reference:
        return "reference"
    compared = line.against_reference
    if compared is None:
        return "no scores"
    return f"{compared.difference:+.4f}, p {_p(compared.reported_p)}, r {compared.effect_size:+.2f}: {compared.verdict}"


def notes(results: Results) -> list[str]:
    """Say what the table stands on, and which rows failed."""
    lines = [
        f"{results.dataset}: {results.budget}, folds: {results.folds}, {_cases(results)} cases held back and scored. "
        "Dice, HD95 and NSD are means over cases; in brackets the 95 % bootstrap interval, of at least four cases. The "
        "epoch that is scored was chosen by Dice on these or some of these, which favours every row a little. GMAC: "
        f"one crop of {results.crops}, as the paper draws the network.",
        f"Against {results.reference}: difference of the mean Dice by case, p of the Wilcoxon signed-rank test after "
        "Holm's correction, r the rank-biserial correlation.",
    ]
    lines += [
        f"{line.name}, fold {fold} failed: {why}" for line in results.failed for fold, why in line.failures.items()
    ]
    return lines


def write_results(results: Results, folder: Path) -> None:
    """Write the files of `RESULTS`.

    Raises:
        FullscaleError: the folder cannot be written.
    """
    of_numbers, *of_text = RESULTS
    write_json(folder / of_numbers, results.as_dict())
    for name, text in zip(of_text, (markdown(results), latex(results), numbers(results)), strict=True):
        write_text(folder / name, text)


def markdown(results: Results) -> str:
    """The table as Markdown."""
    return table(header(results), rows(results)) + "\n" + "\n\n".join(map(escaped, notes(results))) + "\n"


def latex(results: Results) -> str:
    """The table as LaTeX, for the package booktabs."""
    body = [" & ".join(map(_escape, line)) + r" \\" for line in rows(results)]
    head = " & ".join(map(_escape, header(results))) + r" \\"
    columns = "l" + "r" * (len(header(results)) - 2) + "l"
    comments = [f"% {note}" for note in notes(results)]
    lines = [
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        head,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join([*comments, *lines]) + "\n"


def numbers(results: Results) -> str:
    """The table as CSV, with a column for each number and none rounded."""
    text = io.StringIO()
    records = [_record(line) for line in results.lines]
    names = list(dict.fromkeys(name for record in records for name in record))
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def _record(line: Line) -> dict[str, object]:
    record: dict[str, object] = {
        "network": line.name,
        "parameters": line.parameters,
        "macs": line.macs,
        "step_s": line.step_s,
        "steps": " ".join(map(str, line.steps)),
        "failed_folds": " ".join(map(str, line.failures)),
    }
    for metric, scores in (("dice", line.dice), ("nsd", line.nsd), ("hd95_mm", line.hd95_mm)):
        for structure, score in scores.items():
            low, high = score.interval or (None, None)
            record |= {
                f"{metric} {structure}": score.mean,
                f"{metric} {structure} low": low,
                f"{metric} {structure} high": high,
            }
    compared = line.against_reference
    if compared is not None:
        record |= {
            "difference": compared.difference,
            "p": compared.p_value,
            "adjusted_p": compared.adjusted_p,
            "effect_size": compared.effect_size,
            "verdict": compared.verdict,
        }
    return record


def _structures(results: Results) -> list[str]:
    """Name the columns of Dice; one structure is its own mean."""
    structures = list(next(line.dice for line in results.lines if line.dice))
    return structures[:1] if len(structures) == 2 else structures


def _cases(results: Results) -> int:
    """Count the cases of the row that has scores of the most."""
    return max((len(line.by_case) for line in results.lines), default=0)


def _range(steps: Sequence[int]) -> str:
    return str(steps[0]) if len(set(steps)) == 1 else f"{min(steps)}-{max(steps)}"


def _cell(score: Score | None, metric: str, interval: bool = True) -> str:
    """Write a mean, with its interval in brackets where there is one and it is wanted."""
    if score is None:
        return NOTHING
    cell = number_cell(score.mean, METRICS[metric].form, score.interval if interval else None)
    return f"{cell.text} ({cell.interval})" if cell.interval else cell.text


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _escape(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
