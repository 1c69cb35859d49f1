"""Where data lie on this machine: results name a place by a digest alone, and only the user's cache knows the path.

A folder may be named after a patient, and results are handed on. So a summary of scores holds the digest of the folder
that its scans are from, and the cache a line for each digest, which a report on the same machine reads.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from fullscale.data.cache import default_cache

PLACES = ".places"
"""The memory in the cache folder: a line of JSON a place, its digest and its path."""


def place_of(path: Path) -> str:
    """Return the digest that stands for a path in results."""
    return hashlib.blake2b(os.fsencode(path.absolute()), digest_size=16).hexdigest()


def remember_place(path: Path) -> None:
    """Remember which path a digest stands for; where the cache cannot be written, nothing is remembered."""
    place = place_of(path)
    if find_place(place) is not None:
        return
    try:
        default_cache().mkdir(parents=True, exist_ok=True)
        with open(default_cache() / PLACES, "ab", buffering=0) as stream:  # one write: no line tears another's
            stream.write(f"\n{json.dumps([place, str(path.absolute())])}\n".encode())
    except OSError:
        return


def find_place(place: str) -> Path | None:
    """Return the path that a digest stands for; None where this machine does not know it."""
    try:
        lines = (default_cache() / PLACES).read_bytes().split(b"\n")
    except OSError:
        return None
    for line in lines:
        if place.encode() in line:
            try:
                found, path = json.loads(line)
            except (ValueError, TypeError):
                continue
            if found == place and isinstance(path, str):
                return Path(path)
    return None
