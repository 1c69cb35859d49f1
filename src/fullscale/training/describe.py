"""The model card that a training leaves beside its model."""

from __future__ import annotations

import logging
from pathlib import Path

from fullscale.errors import DataError
from fullscale.files import locked
from fullscale.reporting.model_card.card import write_model_card
from fullscale.runfolder import RunFolder

_log = logging.getLogger(__name__)


def describe(run: RunFolder, path: Path) -> None:
    """Write the card of a run, or of one of its folds, around what people wrote into it.

    What speaks against it is logged: a model that took days is no worse without a card.

    Args:
        run: whose model other folds may be renewing.
        path: the run, or the folder of a fold.
    """
    try:
        with locked(run.path):
            written = write_model_card(path)
    except DataError as error:
        _log.warning("no model card of %s is written: %s", path, error)
        return
    if written.kept:
        _log.warning(
            "%s: somebody changed %s, which is left as it is; fullscale card %s --check says what is out of date",
            *(written.path, " and ".join(written.kept), path),
        )
