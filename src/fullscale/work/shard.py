"""A share of the cases for each of several independent commands, such as the tasks of a job array."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from fullscale.errors import UsageError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Shard:
    """The cases of one of several commands: which one a case belongs to hangs on its name alone.

    Attributes:
        index: which, from 1.
        count: of how many.
    """

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `I/N`.

        Raises:
            UsageError: it is not of this form, or I is not one of 1 to N.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise UsageError(f"--shard {text!r} is not of the form I/N with I from 1 to N, such as 3/8")
        return cls(int(found[1]), int(found[2]))

    def holds(self, case: str) -> bool:
        """Tell whether a case belongs to this share."""
        digest = hashlib.blake2b(case.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count == self.index - 1

    def dealt(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return this share of few items that are the same in every command, such as trainings, dealt in turn."""
        return items[self.index - 1 :: self.count]
