"""Where a run stands, as files: `last.ckpt` is the newest epoch, `best.ckpt` the one with the highest Dice.

One write makes both true. `last.ckpt` is written beside its place, synced and renamed, and it carries the best score
and its epoch, its own included. `best.ckpt` is a second name of that file. A run that is killed between the two finds
out when it goes on, and gives the second name then.
"""

from __future__ import annotations

import os
import random
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.plugins.io import CheckpointIO

from fullscale.errors import DataError, FullscaleError
from fullscale.files import atomic_path, for_library
from fullscale.networks.state_dicts import load_torch_file
from fullscale.runfolder import FoldFolder
from fullscale.text import first_line, one_line
from fullscale.training.group import ALONE, Group

SCORE = "val_dice"
"""The logged number that says which epoch is best."""

_KINDS = {"state_dict": dict, "callbacks": dict, "global_step": int, "epoch": int}
"""What every checkpoint of ours holds at least."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of a run onto the CPU, without pickled code.

    The checksums that `torch.save` writes are verified: `torch.load` does not look at them.

    Raises:
        DataError: it is not there, or damaged.
    """
    try:
        state = load_torch_file(path)
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise DataError(f"the checkpoint {path} is damaged: its bytes do not fit their checksum")
    except DataError as error:
        raise DataError(f"{error}; {_anew(path)}") from error
    except OSError as error:
        raise DataError(f"cannot read the checkpoint {path}: {one_line(error)}; {_anew(path)}") from error
    except Exception as error:  # whatever unpacking and unpickling of damaged bytes may meet
        raise DataError(f"cannot read the checkpoint {path} ({type(error).__name__}); {_anew(path)}") from error
    if not isinstance(state, dict) or not all(isinstance(state.get(key), kind) for key, kind in _KINDS.items()):
        raise DataError(f"{path} is no checkpoint of a run; {_anew(path)}")
    return state


@contextmanager
def going_on(last: Path, began: Callable[[], bool]) -> Iterator[None]:
    """Make whatever goes wrong in the block before training has begun a fault of the checkpoint it goes on from.

    A checkpoint may be whole and yet not of this run: another version's, or one that was put in its place.

    Args:
        last: the checkpoint; where it is not there, errors pass.
        began: tells whether training has begun.

    Raises:
        DataError: the checkpoint cannot be gone on from.
    """
    was_there = last.is_file()
    try:
        yield
    except FullscaleError:
        raise
    except Exception as error:
        if not was_there or began():
            raise
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise DataError(f"cannot go on from the checkpoint {last} ({reason}); {_anew(last)}") from error


def _anew(path: Path) -> str:
    return f"delete {path.parent} to train this fold anew"


class AtomicCheckpoints(CheckpointIO):
    """Writes Lightning's checkpoints whole or not at all, on the file system of their place, and checks what it reads.

    Lightning's own way leads over a temporary file in `$TMPDIR`; from another file system that is copied, not renamed.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint."""
        del storage_options
        with atomic_path(Path(path)) as temporary, for_library(temporary) as file:
            torch.save(checkpoint, file)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint onto the CPU."""
        del map_location, weights_only
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)


class Checkpoints(lightning.Callback):
    """Writes a checkpoint after each validation, and keeps the best.

    Its state is the best epoch and its score, and the state of every random generator of every process, so that
    dropout goes on as it would have. It must be the last callback that a validation calls: what others do after it is
    not in the checkpoint.

    Args:
        fold: where the checkpoints lie.
        group: the processes that train together.
    """

    def __init__(self, fold: FoldFolder, group: Group = ALONE) -> None:
        self.fold = fold
        self.group = group
        self.best_epoch: int | None = None
        self.best_score = float("-inf")
        self.generators: list[dict[str, Any]] = []
        self.has_begun = False

    def on_train_start(self, *_: Any) -> None:
        """Let the generators go on where the checkpoint left them."""
        self.has_begun = True
        if self.generators:
            _set_generators(self.generators[min(self.group.ranks.rank, len(self.generators) - 1)])

    def on_validation_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Write the epoch."""
        # Only the first process has the score.
        score = self.group.largest(float(trainer.callback_metrics.get(SCORE, float("-inf"))))
        if self.best_epoch is None or score > self.best_score:
            self.best_epoch, self.best_score = trainer.current_epoch, score
        trainer.save_checkpoint(self.fold.last_checkpoint, weights_only=False)
        if trainer.is_global_zero and self.best_epoch == trainer.current_epoch:
            _give_second_name(self.fold.last_checkpoint, self.fold.best_checkpoint)

    def state_dict(self) -> dict[str, Any]:
        """What goes into the checkpoint."""
        generators = self.group.gather(_generators())
        return {"best_epoch": self.best_epoch, "best_score": self.best_score, "generators": generators}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.best_epoch, self.best_score = state["best_epoch"], state["best_score"]
        self.generators = state["generators"]

    def complete_pair(self) -> None:
        """Make `best.ckpt` what `last.ckpt` says it is, where the run was killed between the two.

        Raises:
            DataError: `last.ckpt` cannot be read.
        """
        last, best = self.fold.last_checkpoint, self.fold.best_checkpoint
        if not last.is_file():
            return
        state = read_checkpoint(last)
        kept = state["callbacks"].get(self.state_key)
        if kept is not None and kept["best_epoch"] == state["epoch"] and not (best.exists() and best.samefile(last)):
            _give_second_name(last, best)


def _give_second_name(last: Path, best: Path) -> None:
    """Let `best` be the same file as `last`, or a copy where the file system has no hard links."""
    with atomic_path(best) as temporary:
        temporary.unlink()
        try:
            os.link(last, temporary)
        except OSError:
            shutil.copyfile(last, temporary)


def _generators() -> dict[str, Any]:
    """State of every random generator of this process, as values that need no pickled code."""
    # NumPy's global generator is not ours, but an augmentation of another package may draw from it.
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": (kind, [int(key) for key in keys], position, has_gauss, gauss),
        "python": random.getstate(),
    }


def _set_generators(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    for device, generator in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(generator, device)
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
