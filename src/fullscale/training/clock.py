"""What training has cost so far: by the clock on the wall, and in processor time, which other work does not change.

Processor time is that of the training process and of the processes that prepare its crops, over all their threads. The
latter tell theirs through memory that all of them share, after each crop.
"""

from __future__ import annotations

import os
import time
from multiprocessing.sharedctypes import RawArray
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.utils.data import get_worker_info

from fullscale.training.augment import Augmentation


class Cost(NamedTuple):
    """Seconds since some moment.

    Attributes:
        wall_s: by the clock on the wall.
        processor_s: of processor time.
        augmentation_s: of processor time in augmentation, a part of the former.
    """

    wall_s: float
    processor_s: float
    augmentation_s: float

    def since(self, earlier: Cost) -> Cost:
        """Return what was spent from `earlier` to here."""
        return Cost(*(now - then for now, then in zip(self, earlier, strict=True)))

    def plus(self, other: Cost) -> Cost:
        """Return both together."""
        return Cost(*(one + two for one, two in zip(self, other, strict=True)))


NOTHING = Cost(0.0, 0.0, 0.0)


class LoaderTimes:
    """Processor time of the processes that prepare crops, in memory that they share with the training process.

    Args:
        workers: their number; 0 where the training process prepares its crops itself.
    """

    def __init__(self, workers: int) -> None:
        # Places of each worker and, last, of the training process: no two processes write into one.
        self._total_s = RawArray("d", workers + 1)
        self._augmentation_s = RawArray("d", workers + 1)
        self._process = os.getpid()
        self._told_s = time.process_time()

    def add(self, augmentation_s: float) -> None:
        """Add a crop that this process has just prepared, and whatever else it did since the one before."""
        info = get_worker_info()
        self._augmentation_s[-1 if info is None else info.id] += augmentation_s
        if info is not None:
            self._total_s[info.id] += self._since_last()

    def now(self) -> Cost:
        """Return the cost of all the processes up to now, from a moment that is always the same."""
        return Cost(time.monotonic(), time.process_time() + sum(self._total_s), sum(self._augmentation_s))

    def _since_last(self) -> float:
        if self._process != os.getpid():  # a worker is a copy of the training process, and its clock starts at 0
            self._process, self._told_s = os.getpid(), 0.0
        earlier, self._told_s = self._told_s, time.process_time()
        return self._told_s - earlier


class TimedAugmentation:
    """An augmentation whose processor time is counted.

    Args:
        augment: changes a crop.
        times: where it is counted.
    """

    def __init__(self, augment: Augmentation, times: LoaderTimes) -> None:
        self.augment = augment
        self.times = times

    def __call__(
        self, image: npt.NDArray[np.float32], label: npt.NDArray[np.uint8], seed: int
    ) -> tuple[Tensor, Tensor]:
        """Change a crop as `Augmentation` says."""
        started = time.process_time()
        changed = self.augment(image, label, seed)
        self.times.add(time.process_time() - started)
        return changed
