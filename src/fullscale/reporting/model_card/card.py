"""The model card as a file: written, rewritten around the words of people, and held against the run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fullscale.bundle.card import CARD, MODEL_CARD, SHORT, read_card
from fullscale.documents import read_text
from fullscale.errors import DataError, UsageError
from fullscale.files import write_text
from fullscale.reporting.model_card import figures, sections
from fullscale.reporting.model_card.document import differences, edited, marked, renewed, sections_in
from fullscale.reporting.model_card.facts import Facts, find_places, read_facts

_SECTIONS = {
    "head": sections.head,
    "title": sections.title,
    "intended-use": sections.intended_use,
    "training-data": sections.training_data,
    "splits": sections.splits,
    "scores": figures.scores,
    "subgroups": figures.subgroups,
    "failures": figures.failures,
    "trust": figures.trust,
    "making": sections.making,
    "limits": sections.limits,
}
_ABOUT = """\
<!-- fullscale writes what stands between "begin" and "end", and checks it (fullscale card RUN --check). All other text
is yours: it is kept when the card is written again. -->"""
_YOURS = {
    "head": "# Yours: further keys, such as the licence of the model, may stand here.",
    "intended-use": """\
<!-- yours: who may use it, for what, and who answers for it -->
**In the words of those who made it:** not written yet.
<!-- end of yours -->""",
    "limits": """\
<!-- yours: what else must not be expected of it, and whom to ask -->
**Limits that those who made it know of:** not written yet.

**Contact:** not written yet.
<!-- end of yours -->""",
}
"""What a person is to write, after the section of that name."""


@dataclass(frozen=True)
class Rewritten:
    """What became of a model card.

    Attributes:
        path: of the card.
        changed: what in it was out of date, a line each; empty where nothing was, or where it is new.
        kept: sections that somebody changed by hand, and that were left as they are.
    """

    path: Path
    changed: list[str]
    kept: list[str]


def sections_of(facts: Facts) -> dict[str, str]:
    """Write every section of a model card, by its name."""
    return {name: write(facts) for name, write in _SECTIONS.items()}


def write_model_card(path: Path, overwrite: bool = False) -> Rewritten:
    """Write the card of a run or of one of its folds, or bring it up to date around the words of people.

    Args:
        path: the run folder, or the folder of a fold.
        overwrite: replace sections that somebody changed by hand, too.

    Returns:
        Which sections were left because of that, and what else was out of date.

    Raises:
        DataError: there is no run, or no scores.
        OutputError: the card cannot be written.
    """
    places = find_places(path)
    bodies = sections_of(read_facts(places))
    if not places.card.exists():
        write_text(places.card, _new(bodies))
        return Rewritten(places.card, [], [])
    text = read_text(places.card)
    kept = [] if overwrite else [name for name in edited(text) if name in bodies]
    ours = {name: body for name, body in bodies.items() if name not in kept}
    changed, now = differences(text, ours), renewed(text, ours)
    if now != text:
        write_text(places.card, now)
    return Rewritten(places.card, changed, kept)


def check_model_card(path: Path) -> list[str]:
    """Say what in the card of a run or of a fold is not what the run says, a line each.

    Raises:
        DataError: there is no run, or it has no scores, or no card.
    """
    places = find_places(path)
    if not places.card.is_file():
        raise DataError(f"{places.card}: is not there; fullscale card {path} writes it")
    return faults_of(read_text(places.card, "the model card"), read_facts(places))


def faults_of(text: str, facts: Facts) -> list[str]:
    """Say what in the text of a card is not what is known of its model, a line each."""
    bodies = sections_of(facts)
    others = _version_in(text) != _version_in(marked("head", bodies["head"], in_yaml=True))
    if others:
        del bodies["head"]
    lines = differences(text, bodies, in_other_words=others)
    strange = [name for name in sections_in(text) if name not in _SECTIONS]
    return lines + [f"{name}: no section of a model card is called so" for name in strange]


def names_its_model(bundle: Path) -> bool:
    """Tell whether the card in a bundle can be read and speaks of the model in it, without looking at any figure."""
    try:
        return read_card(bundle / CARD).digest[:SHORT] in read_text(bundle / MODEL_CARD)
    except DataError:
        return False


def require_unedited(path: Path, rewritten: Rewritten) -> None:
    """Refuse to call a card rewritten of which sections were left as somebody changed them.

    Raises:
        UsageError: they were.
    """
    if rewritten.kept:
        raise UsageError(
            f"{rewritten.path}: somebody changed {' and '.join(rewritten.kept)}, which is left as it is; move those "
            f"words out of its markers, then fullscale card {path} --overwrite"
        )


def _version_in(text: str) -> str | None:
    """Return which version of fullscale wrote a card."""
    head = sections_in(text).get("head")
    lines = [] if head is None else head.body.splitlines()
    return next((line for line in lines if line.startswith(sections.WRITTEN_BY)), None)


def _new(bodies: dict[str, str]) -> str:
    """Lay out a card that was not there."""
    parts = [f"---\n{marked('head', bodies['head'], in_yaml=True)}\n{_YOURS['head']}\n---", _ABOUT]
    for name, body in bodies.items():
        if name != "head":
            parts += [marked(name, body), *([_YOURS[name]] if name in _YOURS else [])]
    return "\n\n".join(parts) + "\n"
