"""Seeded damage: what disks, editors and other programs do to a file."""

import ctypes
import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STRANGE: list[Any] = [
    *(None, True, 0, -1, 3.5, 10**30, 10**400, 1e308, float("inf"), float("nan")),
    *("", " ", "a\x00b", "x" * 5000, "../..", "\ud800", "\u0661", "[/bold]", "nan", "1e999"),
    *([], [[]], [None], {}, {"a": {}}, {"": ""}, [1, 2], {"0": 1}, ["a", "b"]),
]
"""Values that stand where others belong."""


def places(content: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the way to each value within a JSON content, itself included."""
    yield ()
    parts = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in parts:
        yield from ((key, *rest) for rest in places(value))


def with_value(content: Any, place: tuple[Any, ...], value: Any) -> Any:
    """Put a value at a place of a copy of the content."""
    if not place:
        return value
    changed = dict(content) if isinstance(content, dict) else list(content)
    changed[place[0]] = with_value(content[place[0]], place[1:], value)
    return changed


def without(content: Any, place: tuple[Any, ...]) -> Any:
    """Leave a place of a copy of the content out."""
    changed = dict(content) if isinstance(content, dict) else list(content)
    if len(place) == 1:
        del changed[place[0]]
    else:
        changed[place[0]] = without(content[place[0]], place[1:])
    return changed


def strange_json(whole: bytes, rng: random.Random) -> bytes:
    """Put a strange value at any place, or leave the place out; places near the top are as likely as the many below."""
    content = json.loads(whole)
    by_depth: dict[int, list[tuple[Any, ...]]] = {}
    for place in places(content):
        by_depth.setdefault(len(place), []).append(place)
    place = rng.choice(by_depth[rng.choice(sorted(by_depth))])
    changed = (
        without(content, place) if place and rng.random() < 0.2 else with_value(content, place, rng.choice(STRANGE))
    )
    return json.dumps(changed).encode()


def doubled_key(whole: bytes, rng: random.Random) -> bytes:
    """Say the first key of a JSON object twice."""
    text = whole.decode()
    if not text.lstrip().startswith("{"):
        return strange_json(whole, rng)
    first, rest = text.split(":", 1)
    return f"{first}: 0, {first.strip().removeprefix('{')}:{rest}".encode()


def strange_cell(whole: bytes, rng: random.Random) -> bytes:
    """Put a strange text into a cell of a table, or into a line of YAML."""
    lines = whole.decode().splitlines() or [""]
    at = rng.randrange(len(lines))
    junk = rng.choice(
        ["", "x", "nan", "inf", "1e999", "-1", "a\x00b", '"', "'", "[1,[2]]", "{a: b}", "y" * 200_000, "&a [*a]"]
    )
    cells = lines[at].split(",") if "," in lines[at] else lines[at].split(":")
    cells[rng.randrange(len(cells))] = junk
    lines[at] = (", " if "," in lines[at] else ": ").join(cells)
    return "\n".join(lines).encode()


def cut(whole: bytes, rng: random.Random) -> bytes:
    return whole[: rng.randrange(len(whole) + 1)]


def flipped(whole: bytes, rng: random.Random) -> bytes:
    content = bytearray(whole)
    for _ in range(rng.randint(1, 4)):
        content[rng.randrange(len(content))] ^= rng.randint(1, 255)
    return bytes(content)


def repeated(whole: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(whole))
    return whole[:at] + whole[at // 2 : at] + whole[at:]


def ended_by_zeros(whole: bytes, rng: random.Random) -> bytes:
    return whole[: rng.randrange(len(whole))] + bytes(rng.randint(1, 4096))


def noise(_: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(rng.randint(1, 500))


def zeros(whole: bytes, _: random.Random) -> bytes:
    return bytes(len(whole))


def nothing(*_: object) -> bytes:
    return b""


def with_mark(whole: bytes, _: random.Random) -> bytes:
    """Put the mark of byte order before it, as Windows does."""
    return b"\xef\xbb\xbf" + whole


def utf_16(whole: bytes, _: random.Random) -> bytes:
    return whole.decode("utf-8", "replace").encode("utf-16")


def latin_1(whole: bytes, rng: random.Random) -> bytes:
    return whole.replace(b"a", b"\xe4", rng.randint(1, 3))


def with_nul(whole: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(whole))
    return whole[:at] + b"\x00" + whole[at:]


def with_carriage_returns(whole: bytes, _: random.Random) -> bytes:
    return whole.replace(b"\n", b"\r\n")


def deep(_: bytes, rng: random.Random) -> bytes:
    return rng.choice([b"[", b'{"a":']) * 100_000


def huge_number(*_: object) -> bytes:
    return b"1" * 10_000


def not_a_number(*_: object) -> bytes:
    return b"NaN"


Damage = Callable[[bytes, random.Random], bytes]
BYTES: list[Damage] = [cut, flipped, repeated, ended_by_zeros, noise, zeros, nothing]
"""What happens to any file."""
TEXT: list[Damage] = [with_mark, utf_16, latin_1, with_nul, with_carriage_returns]
"""What happens to text."""
JSON: list[Damage] = [*[strange_json] * 12, doubled_key, deep, huge_number, not_a_number]
"""What happens to JSON."""
TABLE: list[Damage] = [*[strange_cell] * 8, deep]
"""What happens to CSV and YAML."""


def kinds_of(file: Path) -> list[Damage]:
    """List what can happen to a file of this kind."""
    if file.suffix == ".json":
        return [*BYTES, *TEXT, *JSON]
    return [*BYTES, *TEXT, *TABLE] if file.suffix in (".yaml", ".csv", ".digests") else BYTES


_CAPABILITIES = 0x20080522
_OVERRIDE = 0b110
"""Of root: to pass over the rights of files, and of folders."""


@contextmanager
def held_to_rights() -> Iterator[None]:
    """Let root be refused what the rights of a file refuse, as everyone else is."""
    libc = ctypes.CDLL(None, use_errno=True)
    head, sets = (ctypes.c_uint32 * 2)(_CAPABILITIES, 0), (ctypes.c_uint32 * 6)()
    libc.capget(head, sets)
    before = sets[0]
    sets[0] = before & ~_OVERRIDE
    libc.capset(head, sets)
    try:
        yield
    finally:
        sets[0] = before
        libc.capset(head, sets)


def put_folder(file: Path) -> None:
    """Put a folder where a file was."""
    file.unlink()
    file.mkdir()


def remove(file: Path) -> None:
    """Take away what stands at a path."""
    shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)
