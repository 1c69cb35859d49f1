"""Which model stands behind a name: the one that the service was started with, until a person chooses another."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from fullscale.documents import read_json
from fullscale.errors import DataError
from fullscale.files import write_json
from fullscale.serve.circle.trainings import Training
from fullscale.serve.service import Refused
from fullscale.serve.settings import ServedModel, named_models

_log = logging.getLogger(__name__)


class Choices:
    """The choices that people made, which a restart keeps.

    Args:
        file: that keeps them.
        models: what is served, by name; a choice changes it.
    """

    def __init__(self, file: Path, models: dict[str, ServedModel]) -> None:
        self._file, self._models, self._given = file, models, dict(models)
        self._lock = threading.Lock()

    def restore(self) -> None:
        """Serve what was chosen before, where the service is started with the same model as then."""
        for name, chosen in self._read().items():
            given = self._given.get(name)
            if given is None or given.card.digest != chosen["instead_of"]:
                _log.warning("the model %s is not the one that another was chosen for: it is served as given", name)
                continue
            try:
                self._models[name] = _model(name, Path(chosen["path"]))
            except DataError as error:
                _log.warning("the model chosen for %s cannot be read, it is served as given: %s", name, error)
            else:
                _log.info("the model %s is the one that was chosen, %.12s", name, chosen["digest"])

    def of(self, name: str) -> dict[str, Any] | None:
        """Return what was chosen for a name; None where it is the model that was given."""
        return self._read().get(name)

    def choose(self, name: str, training: Training) -> ServedModel:
        """Serve the new model of a training from now on.

        Raises:
            Refused: the training has not made one, or is of another model.
        """
        if training.state != "done":
            raise Refused(f"the training {training.id} is {training.state}: it has made no model")
        if training.asked.model != name:
            raise Refused(f"the training {training.id} is of the model {training.asked.model!r}, not of {name!r}")
        with self._lock:
            found = _model(name, training.run)
            chosen: dict[str, Any] = {
                "training": training.id,
                "path": str(training.run.absolute()),
                "digest": found.card.digest,
            }
            chosen |= {"instead_of": self._given[name].card.digest, "at": time.time()}
            write_json(self._file, self._read() | {name: chosen})
            self._models[name] = found
            return found

    def take_back(self, name: str) -> ServedModel:
        """Serve the model that the service was started with."""
        with self._lock:
            write_json(self._file, {other: chosen for other, chosen in self._read().items() if other != name})
            self._models[name] = self._given[name]
            return self._given[name]

    def _read(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = read_json(self._file) if self._file.is_file() else {}
        return found


def _model(name: str, path: Path) -> ServedModel:
    return replace(named_models([str(path)])[path.resolve().stem], name=name)
