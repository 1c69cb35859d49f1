"""An augmentation that tells that it works, and kills its process or lingers where a test says so."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class Watched:
    """Changes nothing.

    Args:
        folder: receives a file for each process; where it holds `kill` the process is killed, with `slow` it is slow.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def __call__(
        self, image: npt.NDArray[np.float32], label: npt.NDArray[np.uint8], seed: int
    ) -> tuple[Tensor, Tensor]:
        del seed
        (self.folder / f"{os.getpid()}.begun").touch()
        if (self.folder / "kill").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        if (self.folder / "slow").exists():
            time.sleep(0.5)
        return torch.from_numpy(image.copy()), torch.from_numpy(label.astype(np.int64))
