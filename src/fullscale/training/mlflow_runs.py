"""Folds as runs of MLflow: in a database beside the run folders, or on a server. Home of mlflow."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import MLFlowLogger

from fullscale.errors import UsageError
from fullscale.extras import needs
from fullscale.runfolder import RunFolder
from fullscale.text import first_line, without_passwords

STORE = "MLFLOW_TRACKING_URI"
"""Variable of the environment that names another store than the one beside the run folder."""
DATABASE, FILES = "mlflow.db", "mlflow-files"
_SQLITE = "sqlite:///"
_ENDS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}

_log = logging.getLogger(__name__)


class MlflowRun:
    """One fold as a run of MLflow.

    Args:
        client: of the store.
        store: its address.
        name: of the run, as MLflow gives it.
    """

    def __init__(self, client: Any, store: str, name: str) -> None:
        self.client = client
        self.name = name
        self.logger = _Logger(run_id=name, tracking_uri=store)

    @classmethod
    def open(cls, run: RunFolder, title: str, settings: Mapping[str, Any], known: str | None) -> MlflowRun:
        """Begin a run, or go on with the one that is known.

        Raises:
            UsageError: the store cannot be used.
        """
        store = store_of(run)
        client = _client(store)
        try:
            found = None if known is None else _find(client, known)
            if known is not None and found is None:
                _log.warning("MLflow has no run %s any more: %s begins anew there", known, title)
            if found is not None:
                client.update_run(known, status="RUNNING")
                _note_changes(client, found, settings)
                return cls(client, store, found.info.run_id)
            begun = client.create_run(
                _experiment(client, store), tags={"mlflow.source.name": "fullscale"}, run_name=title
            )
            opened = cls(client, store, begun.info.run_id)
            opened.logger.log_hyperparams(dict(settings))
            return opened
        except Exception as error:  # whatever HTTP, or SQLAlchemy and the database below it, may raise
            raise _unusable(store, error) from error

    def keep(self, content: Mapping[str, str], files: list[Path]) -> None:
        """Keep texts by their names, and files; a folder with all in it."""
        for name, text in content.items():
            self.client.log_text(self.name, text, name)
        for path in files:
            if path.is_dir():
                self.client.log_artifacts(self.name, str(path), path.name)
            elif path.is_file():
                self.client.log_artifact(self.name, str(path))

    def end(self, how: str) -> None:
        """Say how it ended."""
        self.client.set_terminated(self.name, _ENDS[how])


class _Logger(MLFlowLogger):
    """Lightning's, which takes every name of a structure."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers; what MLflow takes in no name becomes an underscore."""
        super().log_metrics({re.sub(r"[^\w/. -]", "_", key, flags=re.ASCII): v for key, v in metrics.items()}, step)


def store_of(run: RunFolder) -> str:
    """Return the address of the store: as the environment says, or a database beside the run folder."""
    return os.environ.get(STORE) or f"{_SQLITE}{run.path.absolute().parent / DATABASE}"


def require(run: RunFolder) -> None:
    """Refuse a store that cannot be used.

    Raises:
        UsageError: MLflow is not installed, or the store does not answer.
    """
    store = store_of(run)
    if store.startswith(_SQLITE):
        _require_writable(Path(store.removeprefix(_SQLITE)))
    try:
        _experiment(_client(store), store)
    except UsageError:
        raise
    except Exception as error:  # as above
        raise _unusable(store, error) from error


def _require_writable(database: Path) -> None:
    """Refuse a place where SQLite could not write, about which it says less."""
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        database.open("ab").close()
    except OSError as error:
        raise UsageError(
            f"cannot write {database}, where MLflow is to keep the run ({error.strerror}): choose another place with "
            f"{STORE}, or leave trainer.logger=mlflow out"
        ) from error


def _client(store: str) -> Any:
    """Return MLflow's client of a store; where a server does not answer, it says so within seconds, not minutes."""
    for name, value in (("MAX_RETRIES", "1"), ("TIMEOUT", "10")):
        os.environ.setdefault(f"MLFLOW_HTTP_REQUEST_{name}", value)
    with needs("mlflow", "runs in MLflow"):
        import sqlalchemy  # noqa: F401 - MLflow would say only that it is not there when a store is opened
        from mlflow import MlflowClient
    try:
        return MlflowClient(store)
    except Exception as error:  # as above
        raise _unusable(store, error) from error


def _experiment(client: Any, store: str) -> str:
    """Return the experiment that all runs are in; it is made where it is not there."""
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "fullscale"
    found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == "active":
        return str(found.experiment_id)
    files = Path(store.removeprefix(_SQLITE)).absolute().parent / FILES if store.startswith(_SQLITE) else None
    try:
        return str(client.create_experiment(name, None if files is None else files.as_uri()))
    except Exception:  # another command made it just now, or it cannot be made
        found = client.get_experiment_by_name(name)
        if found is None or found.lifecycle_stage != "active":
            raise
        return str(found.experiment_id)


def _find(client: Any, name: str) -> Any:
    """Return a run; None where the store does not know it, or someone deleted it."""
    from mlflow.exceptions import MlflowException

    try:
        found = client.get_run(name)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return found if found.info.lifecycle_stage == "active" else None


def _note_changes(client: Any, found: Any, settings: Mapping[str, Any]) -> None:
    """Keep as a tag each setting that is another than when the run began: MLflow changes no parameter."""
    for key, value in settings.items():
        before = found.data.params.get(key)
        if before is not None and before != str(value)[: len(before)]:
            client.set_tag(found.info.run_id, f"now.{key}", str(value))


def _unusable(store: str, error: Exception) -> UsageError:
    place, reason = without_passwords(store.removeprefix(_SQLITE)), without_passwords(first_line(error))[:200]
    return UsageError(
        f"MLflow cannot be used at {place} ({reason}): start its server, name another by {STORE}, or leave "
        "trainer.logger=mlflow out"
    )
