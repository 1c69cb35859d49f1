"""Folds as runs of Weights & Biases: files in the fold's folder, sent nowhere unless WANDB_MODE asks for it."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightning.pytorch.loggers import WandbLogger

from fullscale.errors import UsageError
from fullscale.extras import needs
from fullscale.runfolder import FoldFolder
from fullscale.text import first_line

MODE = "WANDB_MODE"
"""Variable of the environment that says whether anything is sent: `offline`, which is the default here, or `online`."""
_SILENT = {
    "silent": True,
    "console": "off",  # what is printed names cases
    "disable_git": True,
    "disable_code": True,
    "disable_job_creation": True,
    "save_code": False,
    "x_disable_meta": True,  # the words of the command, with the paths of the data
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
}


class WandbRun:
    """One fold as a run of W&B.

    Args:
        run: of W&B's library.
    """

    def __init__(self, run: Any) -> None:
        self.run = run
        self.name = str(run.id)
        self.logger = WandbLogger(experiment=run, project=run.project, name=run.name, id=run.id)

    @classmethod
    def open(cls, fold: FoldFolder, title: str, settings: Mapping[str, Any], known: str | None) -> WandbRun:
        """Begin a run, or go on with the one that is known. Offline, each part is a folder of its own.

        Raises:
            UsageError: it cannot be opened.
        """
        wandb = _library()
        mode = mode_of()
        project = os.environ.get("WANDB_PROJECT") or "fullscale"
        fold.path.mkdir(parents=True, exist_ok=True)
        try:
            run = wandb.init(
                dir=str(fold.path),
                project=project,
                name=title,
                id=known or secrets.token_hex(4),
                resume="allow" if mode == "online" else None,
                config=dict(settings),
                settings=wandb.Settings(mode=mode, **_SILENT),
                reinit="create_new",
            )
        except Exception as error:  # its own, those of its service, and of HTTP
            raise _unusable(error) from error
        run.define_metric("trainer/global_step")
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        return cls(run)

    def keep(self, content: Mapping[str, str], files: list[Path]) -> None:
        """Keep texts by their names, and files; a folder with all in it."""
        folder = Path(self.run.dir)
        for name, text in content.items():
            (folder / name).write_text(text, encoding="utf-8")
        for path in files:
            if path.is_dir():
                shutil.copytree(path, folder / path.name, dirs_exist_ok=True)
            elif path.is_file():
                shutil.copyfile(path, folder / path.name)
        for name in (*content, *(path.name for path in files)):
            self.run.save(str(folder / name), base_path=str(folder), policy="end")

    def end(self, how: str) -> None:
        """Write what is left; W&B knows two ends."""
        self.run.finish(exit_code=int(how != "finished"))


def mode_of() -> str:
    """Return what W&B is to do with what it is given."""
    return os.environ.get(MODE) or "offline"


def require() -> None:
    """Refuse W&B where it is not installed, or is to send and cannot.

    Raises:
        UsageError: it is one of these.
    """
    wandb = _library()
    if mode_of() != "online":
        return
    place = urlsplit(wandb.Settings().base_url)
    try:
        port = place.port or (443 if place.scheme == "https" else 80)
        socket.create_connection((place.hostname or "", port), timeout=10).close()
    except OSError as error:
        raise _unusable(error, f"{place.scheme}://{place.netloc.rpartition('@')[2]} does not answer: ") from error
    if not wandb.api.api_key:
        raise UsageError(f"W&B is to send, and has no key: set WANDB_API_KEY, or {MODE}=offline")


def _library() -> Any:
    """Load the library; it reports its own errors to its makers unless told not to before that."""
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    with needs("wandb", "runs in W&B"):
        import wandb
    return wandb


def _unusable(error: Exception, where: str = "") -> UsageError:
    return UsageError(
        f"W&B cannot be used ({where}{first_line(error)[:200]}): set {MODE}=offline, or leave trainer.logger=wandb out"
    )
