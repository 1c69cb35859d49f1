"""Text for people: an error of another library in one line, the nearest known name, and names as they can be shown."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_PART = r"[^/\\\s'\",;:]+(?: [^/\\\s'\",;:]+)*"
_FOLDERS = re.compile(rf"(?:^|(?<=[\s'\"(\[=]))(?:[A-Za-z]:)?[/\\](?:{_PART}[/\\])+")
_SIGNED_IN = re.compile(r"(?<=://)[^/\s@]+@")
LISTED = 40
"""Names that a line lists before it only counts the rest."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the closest known name, or a list of them where none is close."""
    names = sorted(known)
    by_case = {known_name.lower(): known_name for known_name in names}
    close = difflib.get_close_matches(name.lower(), by_case, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{by_case[close[0]]}'?"
    if not names:
        return ""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"; known: {', '.join(names[:LISTED])}{more}"


def counted(number: int, what: str) -> str:
    """Return `1 case` or `3 cases`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def one_line(error: BaseException) -> str:
    """Return the most telling line of another library's error, at most 200 characters."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = [line.strip(" :\t") for line in str(error).splitlines()]
    telling = [line for line in lines if line and not line.startswith("Reason: ")]
    if not telling:
        return type(error).__name__
    return re.sub(r"^(ITK|sitk::)\s*ERROR: (\w+\(0x\w+\): )?", "", telling[-1])[:200]


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def printable(text: str) -> str:
    """Return a text on one line with its control characters spelled out: what comes from a file moves no cursor."""
    return "".join(c if c.isprintable() else " " if c.isspace() else c.encode("unicode_escape").decode() for c in text)


def without_folders(text: object) -> str:
    """Shorten every absolute path in a text to its last name: what is handed on tells no folder of this machine."""
    return _FOLDERS.sub("", str(text))


def without_passwords(text: object) -> str:
    """Leave out who signs in, and with what, of every URL in a text."""
    return _SIGNED_IN.sub("", str(text))
