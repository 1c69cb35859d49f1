"""The processes of one training: how many there are, and which of them this one is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from fullscale.errors import UsageError


@dataclass(frozen=True)
class Ranks:
    """The place of this process among those of its training.

    Attributes:
        rank: its number; 0 is the one that writes and speaks.
        size: their number.
        local_rank: its number among those of its machine.
        local_size: their number on each machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> Ranks:
        """Read the place from what torchrun, Slurm's srun or a person has put into the environment.

        `RANK` and `WORLD_SIZE` go before Slurm's variables, so that torchrun works inside a job. With `LOCAL_RANK`
        alone all processes are on one machine; without it there is one on each. Of Slurm, only a step of several tasks
        counts: a batch script is none.

        Raises:
            UsageError: a number is none, out of range, or the machines have different numbers of processes.
        """
        if "RANK" in environment and "WORLD_SIZE" in environment:
            rank, size = _number(environment, "RANK"), _number(environment, "WORLD_SIZE")
            on_one = size if "LOCAL_RANK" in environment else 1
            local = _number(environment, "LOCAL_RANK", 0), _number(environment, "LOCAL_WORLD_SIZE", on_one)
        elif _number(environment, "SLURM_STEP_NUM_TASKS", 1) > 1:
            rank, size = _number(environment, "SLURM_PROCID"), _number(environment, "SLURM_STEP_NUM_TASKS")
            local = _number(environment, "SLURM_LOCALID"), size // _number(environment, "SLURM_STEP_NUM_NODES", 1)
        else:
            return cls()
        found = cls(rank, size, *local)
        if not (0 <= rank < size and 0 <= local[0] < local[1] and size % local[1] == 0):
            raise UsageError(f"{found}: expected ranks below their number, and as many on each machine")
        return found

    @property
    def machines(self) -> int:
        """The number of machines."""
        return self.size // self.local_size


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isdecimal():
        raise UsageError(f"the environment variable {name} is {text!r}, not a number: start the training anew")
    return int(text)
