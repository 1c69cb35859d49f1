"""Where a run stands, as files: `last.ckpt` is the newest state, `best.ckpt` the best epoch by `steady_scores`.

`last.ckpt` is written after each validation, and within an epoch every few minutes or when the end is asked for.

One write makes all of it true. `last.ckpt` is written beside its place, synced and renamed, and it carries the best
score and its epoch, its own included. `best.ckpt` is a second name of that file. A run that is killed between the two
finds out when it goes on, and gives the second name then.
"""

from __future__ import annotations

import os
import random
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.plugins.io import CheckpointIO

from fullscale.ending import UNASKED, Ending
from fullscale.errors import DataError, FullscaleError
from fullscale.files import atomic_path, for_library
from fullscale.networks.state_dicts import load_torch_file
from fullscale.runfolder import FoldFolder
from fullscale.scoring.statistics import steady_scores
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


def is_validated(state: Mapping[str, Any]) -> bool:
    """Tell a checkpoint of a whole epoch from one within an epoch, or between its last step and its validation."""
    kept = state["callbacks"].get(Checkpoints.__qualname__, {})
    return bool(kept.get("validated", True))  # 0.1 wrote no others


class Interrupted(Exception):
    """Training was asked to end, and the checkpoint is written.

    Attributes:
        asked: number of the signal.
    """

    def __init__(self, asked: int) -> None:
        super().__init__(asked)
        self.asked = asked


class Checkpoints(lightning.Callback):
    """Writes a checkpoint after each validation and every few minutes, and keeps the best epoch.

    Its state is the best epoch, the scores of all, and the state of every random generator of every process, so that
    dropout goes on as it would have. It must be the last callback that a validation calls: what others do after it is
    not in the checkpoint.

    Args:
        fold: where the checkpoints lie.
        group: the processes that train together.
        every_s: age of the last checkpoint at which one is written within an epoch.
        ending: who may ask to end; then a checkpoint is written, and `Interrupted` raised.
    """

    def __init__(
        self, fold: FoldFolder, group: Group = ALONE, every_s: float = float("inf"), ending: Ending = UNASKED
    ) -> None:
        self.fold = fold
        self.group = group
        self.every_s = every_s
        self.ending = ending
        self.written_s = 0.0
        self.validated = True
        self.best_epoch: int | None = None
        self.best_score = float("-inf")
        self.scores: list[float] = []
        self.generators: list[dict[str, Any]] = []
        self.has_begun = False

    def on_train_start(self, *_: Any) -> None:
        """Let the generators go on where the checkpoint left them."""
        self.has_begun, self.written_s = True, time.monotonic()
        if self.generators:
            _set_generators(self.generators[min(self.group.ranks.rank, len(self.generators) - 1)])

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Write the state within an epoch where it is due or asked for; after the last step, see below."""
        is_last = trainer.should_stop or trainer.fit_loop.batch_idx + 1 >= trainer.num_training_batches
        if not is_last:
            self._write_if_due(trainer)

    def on_validation_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Write the state before validation where it is due. An end that is asked for waits for a callback below."""
        if self.group.largest(self._is_due()):
            self._write(trainer, validated=False)

    def end_validation_if_asked(self, trainer: lightning.Trainer) -> None:
        """Write the state before validation, and end, where that was asked for during validation.

        Raises:
            Interrupted: it was.
        """
        asked = int(self.group.largest(self.ending.asked))
        if asked:
            self._write(trainer, validated=False)
            raise Interrupted(asked)

    def on_validation_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Write the epoch."""
        # Only the first process has the score.
        self.scores.append(self.group.largest(float(trainer.callback_metrics.get(SCORE, float("-inf")))))
        steady = steady_scores(self.scores)[-1]
        if self.best_epoch is None or steady > self.best_score:
            self.best_epoch, self.best_score = trainer.current_epoch, steady
        self._write(trainer, validated=True)
        if trainer.is_global_zero and self.best_epoch == trainer.current_epoch:
            _give_second_name(self.fold.last_checkpoint, self.fold.best_checkpoint)

    def state_dict(self) -> dict[str, Any]:
        """What goes into the checkpoint."""
        generators = self.group.gather(_generators())
        best = {"best_epoch": self.best_epoch, "best_score": self.best_score, "scores": self.scores}
        return best | {"validated": self.validated, "generators": generators}

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Tell Lightning whether a validation is to follow when this checkpoint is gone on from.

        It decides by its counters of validated batches: one that is begun and not completed means that the validation
        is to be run from its beginning. After a validation that was run so, it would count one too many for ever.
        """
        del trainer, module
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
        begun, done = (progress["total"]["ready"],) * 2 if self.validated else (1, 0)
        counts = {"ready": begun, "started": begun, "processed": done, "completed": done}
        progress |= {"total": counts, "current": dict(counts)}

    @property
    def state_key(self) -> str:
        """The name of its state in a checkpoint."""
        return type(self).__qualname__

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.best_epoch, self.best_score = state["best_epoch"], state["best_score"]
        self.scores = list(state.get("scores", []))  # not in checkpoints of earlier versions
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
        is_best = kept is not None and kept["best_epoch"] == state["epoch"] and is_validated(state)
        if is_best and not (best.exists() and best.samefile(last)):
            _give_second_name(last, best)

    def _is_due(self) -> bool:
        return time.monotonic() - self.written_s >= self.every_s

    def _write_if_due(self, trainer: lightning.Trainer) -> None:
        # One number for both questions: a signal's is larger than that of what is due.
        wish = self.group.largest(self.ending.asked or self._is_due() / 2)
        if wish:
            self._write(trainer, validated=False)
        if wish >= 1:
            raise Interrupted(int(wish))

    def _write(self, trainer: lightning.Trainer, validated: bool) -> None:
        self.validated = validated
        trainer.save_checkpoint(self.fold.last_checkpoint, weights_only=False)
        self.written_s = time.monotonic()


class EndOfValidation(lightning.Callback):
    """Comes before all callbacks that take the scores of a validation for whole.

    Args:
        kept: writes the checkpoint.
    """

    def __init__(self, kept: Checkpoints) -> None:
        self.kept = kept

    def on_validation_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """End where that was asked for; cases were left out then."""
        self.kept.end_validation_if_asked(trainer)


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
