"""Lightning's view of the prepared cases: crops to train on, whole cases to validate on."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from fullscale.training.clock import LoaderTimes
from fullscale.views.crops import CropDataset, CropSampler


class _ResumedLoader(DataLoader[tuple[Tensor, ...]]):
    """A loader that Lightning need not warn of where it goes on within an epoch: its sampler is told the place."""

    def state_dict(self) -> dict[str, Any]:
        """It has none of its own."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take nothing."""


class SegmentationData(lightning.LightningDataModule):
    """Training crops in batches, and validation cases one at a time, by index.

    Under several processes each takes its share of both.

    Args:
        crops: of the training cases.
        validation_cases: their number.
        batch_size: crops in a batch.
        steps_per_epoch: batches between validations.
        workers: processes that prepare crops.
        times: where these count their time.
    """

    def __init__(
        self,
        crops: CropDataset,
        validation_cases: int,
        batch_size: int,
        steps_per_epoch: int,
        workers: int,
        times: LoaderTimes,
    ) -> None:
        super().__init__()
        self.crops = crops
        self.validation_cases = validation_cases
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.workers = workers
        self.times = times

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Batches of crops, from where a checkpoint left the epoch; Lightning tells the sampler the next ones."""
        sampler = CropSampler(self.batch_size * self.steps_per_epoch, *self._share())
        if self.trainer is not None:  # before Lightning tells the epoch, processes of the loader take first batches
            done = self.trainer.fit_loop.batch_idx + 1
            sampler.go_on(self.trainer.current_epoch, self.batch_size * done)
        return _ResumedLoader(
            self.crops,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.workers,
            pin_memory=self._on_gpu(),
            persistent_workers=self.workers > 0,
            worker_init_fn=_leave_signals_to_the_parent,
            # A loader draws a seed for its workers each epoch: from the global generator, it would shift dropout.
            generator=torch.Generator(),
        )

    def val_dataloader(self) -> DataLoader[int]:
        """Indices of whole cases, each in one process; in some the last index may be beyond the cases.

        All processes have equally many, as Lightning leaves out the validation of one that has none.
        """
        rank, world_size = self._share()
        cases = range(rank, -(-self.validation_cases // world_size) * world_size, world_size)
        return DataLoader(cases, batch_size=None, generator=torch.Generator())  # type: ignore[arg-type]

    def _share(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _on_gpu(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"


def _leave_signals_to_the_parent(_: Any) -> None:
    """Heed SIGTERM from the training process alone: a scheduler sends it to all, and the step needs its crops."""
    if sys.platform != "linux":
        return
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
