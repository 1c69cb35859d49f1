"""An exported model and the card beside it, which must be of one export."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from fullscale.bundle.card import ModelCard, card_beside, read_card
from fullscale.bundle.store import file_sha256
from fullscale.errors import DataError

IMAGE, LOGITS = "image", "logits"
"""Names of the input and the output in the file."""

CARD_DIGEST = "model_card_sha256"
"""Key of the file's metadata that tells which model card it belongs to."""


class _Exported(Protocol):
    """What is made of a file, and knows which card that was exported with."""

    @property
    def card_digest(self) -> str | None:
        """Digest of the card, or None."""


_Found = TypeVar("_Found", bound=_Exported)


def open_with_card(path: Path, make: Callable[[Path], _Found], parts: tuple[str, ...]) -> tuple[ModelCard, _Found]:
    """Open a model written by `fullscale export`, with the card beside it.

    Args:
        path: the file.
        make: opens it.
        parts: suffixes of the files that it consists of.

    Raises:
        DataError: the model or its card is missing or damaged, or the card is another model's.
    """
    beside = card_beside(path)
    if path.is_file() and not beside.is_file():
        raise DataError(f"{beside} is missing: it says how scans are brought to {path.name}; copy both files together")
    card = read_card(beside) if path.is_file() else None
    if isinstance(card, ModelCard):
        _require_whole(card, [path.with_suffix(suffix) for suffix in parts])
    found = make(path)
    known = (card.digest, hashlib.sha256(beside.read_bytes()).hexdigest()) if isinstance(card, ModelCard) else ()
    if not isinstance(card, ModelCard) or found.card_digest not in known:
        raise DataError(f"{beside} is not the card that {path.name} was exported with; copy both files together")
    return card, found


def _require_whole(card: ModelCard, files: Sequence[Path]) -> None:
    for file in files:
        if not file.is_file():
            raise DataError(f"{file} is missing: it belongs to {files[0].name}; copy all files together")
        if card.exported.get(file.suffix) not in (None, file_sha256(file)):
            beside = card_beside(file).name
            raise DataError(f"{file} has changed since it was exported, or {beside} is another's; copy both again")
