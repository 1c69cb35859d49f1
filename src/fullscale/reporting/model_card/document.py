"""A text of sections that are ours, between markers, and words of a person, which are everything else.

The marker of a section carries a digest of what was written, so that a section which a person changed is told from one
that is only out of date. Neither it nor any word outside of the markers is replaced unless that is asked for.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest

_MARKER = r"(?:<!--|#) (?:begin|end) "
_SECTION = re.compile(
    r"^(?P<open><!--|#) begin (?P<name>[a-z-]+) (?P<digest>[0-9a-f]{16})(?P<close> -->)?\n"
    rf"(?P<body>(?:(?!{_MARKER}).*\n)*?)"
    r"^(?P=open) end (?P=name)(?: -->)?$",
    re.MULTILINE,
)
_CELLS = re.compile(r"(?<!\\)\|")
_SHOWN = 120


@dataclass(frozen=True)
class Section:
    """A section as it stands in a text.

    Attributes:
        name: such as "scores".
        body: what stands between its markers.
        edited: whether somebody changed it since it was written.
    """

    name: str
    body: str
    edited: bool


def marked(name: str, body: str, in_yaml: bool = False) -> str:
    """Put a section between its markers, without a line end after the last; in YAML, markers are comments of YAML."""
    opening, closing = ("#", "") if in_yaml else ("<!--", " -->")
    return f"{opening} begin {name} {_digest(body)}{closing}\n{body}{opening} end {name}{closing}"


def sections_in(text: str) -> dict[str, Section]:
    """Find the sections of a text by their names; of two that are called alike, the first."""
    found: dict[str, Section] = {}
    for match in _SECTION.finditer(text):
        body = match["body"]
        found.setdefault(match["name"], Section(match["name"], body, _digest(body) != match["digest"]))
    return found


def edited(text: str) -> list[str]:
    """Name the sections that somebody changed by hand."""
    return [section.name for section in sections_in(text).values() if section.edited]


def renewed(text: str, bodies: Mapping[str, str]) -> str:
    """Replace the sections of a text, and leave every other word; what is missing is added at its end.

    Args:
        text: with sections.
        bodies: the new text of each, by its name.
    """
    seen = set[str]()

    def replaced(match: re.Match[str]) -> str:
        name = match["name"]
        if name in seen or name not in bodies:
            return match[0]
        seen.add(name)
        return marked(name, bodies[name], in_yaml=match["open"] == "#")

    whole = _SECTION.sub(replaced, text)
    missing = [marked(name, body) for name, body in bodies.items() if name not in seen]
    return "\n\n".join([whole.rstrip("\n"), *missing]) + "\n" if missing else whole


def differences(text: str, bodies: Mapping[str, str], in_other_words: bool = False) -> list[str]:
    """Say what in the sections of a text is not as it should be, a line each.

    Args:
        text: with sections.
        bodies: what each should be, by its name.
        in_other_words: whether another version wrote it: then the cells of tables alone are compared, and what somebody
            changed since is told by its digest.
    """
    found = sections_in(text)
    lines = []
    for name, body in bodies.items():
        if name not in found:
            lines.append(f"{name}: the section or one of its markers is missing")
            continue
        unlike = list(_unlike_cells(found[name].body, body) if in_other_words else _unlike(found[name].body, body))
        if in_other_words and found[name].edited and not unlike:
            unlike = ["somebody changed it since it was written"]
        lines += [f"{name}: {line}" for line in unlike]
    return lines


def _unlike(is_there: str, expected: str) -> Iterator[str]:
    """Compare two texts line by line, and rows of tables cell by cell."""
    old, new = is_there.splitlines(), expected.splitlines()
    heads = _heads(new)
    for what, i, after_i, j, after_j in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if what != "equal":
            for here, there, of in zip_longest(old[i:after_i], new[j:after_j], heads[j:after_j]):
                yield from _unlike_line(here or "", there or "", of or [])


def _unlike_cells(is_there: str, expected: str) -> Iterator[str]:
    """Compare the rows that both texts have in tables of the same heads."""
    old, new = _rows(is_there), _rows(expected)
    if old and not old.keys() & new.keys():
        yield "another version of fullscale wrote these tables in another form; check them with that version"
    for key in (key for key in old if key in new):
        yield from _unlike_line(old[key], new[key], list(key[0]))


def _rows(text: str) -> dict[tuple[tuple[str, ...], str, int], str]:
    """Return the rows of tables by their heads, their first cell, and how often that came before."""
    lines, found = text.splitlines(), dict[tuple[tuple[str, ...], str, int], str]()
    for line, heads in zip(lines, _heads(lines), strict=True):
        if heads:
            first = _cells(line)[0]
            times = sum(key[:2] == (tuple(heads), first) for key in found)
            found[tuple(heads), first, times] = line
    return found


def _unlike_line(here: str, there: str, heads: list[str]) -> Iterator[str]:
    old, new = _cells(here), _cells(there)
    if len(old) == len(new) == len(heads) > 1 and old[0] == new[0]:
        for head, a, b in zip(heads, old, new, strict=True):
            if a != b:
                yield f"{new[0]}, {head}: the card says {_short(a)}, the run says {_short(b)}"
    else:
        yield f"the card says {_short(here)}, the run says {_short(there)}"


def _heads(lines: list[str]) -> list[list[str]]:
    """Return for each line the heads of the table that it is in; none for any other line."""
    found: list[list[str]] = []
    for line in lines:
        cells = _cells(line)
        found.append((found[-1] if found and found[-1] else cells) if cells else [])
    return found


def _cells(line: str) -> list[str]:
    """Return the cells of a row of a table; none of any other line."""
    return [cell.strip() for cell in _CELLS.split(line)[1:-1]] if line.startswith("|") else []


def _short(text: str) -> str:
    if not text:
        return "nothing"
    return f"'{text}'" if len(text) <= _SHOWN else f"'{text[:_SHOWN]}...'"


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:16]
