"""How long work hears that it is to end before it is done, and comes to a good end first."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import NoReturn, Protocol


class Ending(Protocol):
    """Who may ask long work to end, such as a signal that the command hears."""

    @property
    def asked(self) -> int:
        """The number of the signal that was heard while the end was postponed; 0 where none was."""

    def postponed(self) -> AbstractContextManager[None]:
        """While this is open, the work is not interrupted where it is: it looks at `asked`, and ends by `now`."""

    def now(self, asked: int) -> NoReturn:
        """End as a signal asks for.

        Raises:
            KeyboardInterrupt: always.
        """


class _Unasked:
    """Nobody asks."""

    asked = 0

    def postponed(self) -> AbstractContextManager[None]:
        return nullcontext()

    def now(self, asked: int) -> NoReturn:
        raise KeyboardInterrupt(asked)


UNASKED: Ending = _Unasked()
"""What long work listens to unless it is told otherwise."""
