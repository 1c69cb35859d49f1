"""Several processes that train one network together: how they meet, agree, and notice when one of them is gone."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch.plugins.environments import ClusterEnvironment
from torch import distributed

from fullscale.errors import FullscaleError, UsageError
from fullscale.work.ranks import Ranks
from fullscale.work.watch import HUB, Kind, Loss, Watch, accept, connect, listen

PATIENCE = timedelta(days=1)
"""How long processes wait for each other: the first prepares, and scores, alone. Whether it lives, the watch knows."""
_NEWS_S = 10.0
"""How long after an error of the connection the watch may take to find out whose fault it is."""

_log = logging.getLogger(__name__)


class RankLost(FullscaleError):
    """Another process of the training is gone.

    Attributes:
        quiet: whether another process says so.
    """

    def __init__(self, text: str, quiet: bool) -> None:
        super().__init__(text)
        self.quiet = quiet


class Group:
    """The processes of one training, of which this is one; by default it is alone.

    Args:
        ranks: the place of this process; default the only one.
        names: of all of them, by rank: for messages.
        watch: over them.
    """

    def __init__(
        self, ranks: Ranks | None = None, names: tuple[str, ...] = ("this process",), watch: Watch | None = None
    ) -> None:
        self.ranks = ranks or Ranks()
        self.names = names
        self.watch = watch

    @property
    def size(self) -> int:
        """Their number."""
        return self.ranks.size

    @property
    def is_helper(self) -> bool:
        """Whether another process writes and speaks."""
        return self.ranks.rank != HUB

    def largest(self, number: float) -> float:
        """Return the largest of the numbers that all processes give; each waits for the others."""
        if self.size == 1:
            return number
        shared = torch.tensor(number, dtype=torch.float64)
        distributed.all_reduce(shared, distributed.ReduceOp.MAX)
        return float(shared)

    def gather(self, value: Any) -> list[Any]:
        """Return what every process gives, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Let the first process do the block, then the first of each machine, then all others.

        What the first has prepared the others find; where machines do not share a folder, each prepares its own.
        """
        turn = 0 if not self.is_helper else 1 if self.ranks.local_rank == 0 else 2
        for _ in range(turn):
            self.largest(0)
        yield
        for _ in range(2 - turn):
            self.largest(0)

    def require_same(self, **given: Any) -> None:
        """Refuse processes that were not given the same.

        Raises:
            UsageError: in the first process; the others are quiet.
        """
        everyone = self.gather(given)
        for rank, other in enumerate(everyone):
            for name, value in everyone[HUB].items():
                if other[name] != value:
                    text = f"rank {rank} ({self.names[rank]}) was given the {name} {other[name]}, and rank 0 {value}"
                    raise RankLost(text, quiet=True) if self.is_helper else UsageError(f"{text}: start all alike")

    def has_lost_one(self) -> bool:
        """Whether another process is gone; news of a moment ago is waited for."""
        return self.watch is not None and self.watch.loss(within_s=1.0) is not None

    def lost(self, loss: Loss) -> RankLost:
        """Say which process was lost. Of those that are left, the first one speaks."""
        how = "is gone" if loss.kind == Kind.GONE else "has said nothing for too long"
        text = (
            f"rank {loss.rank} of {self.size} ({self.names[loss.rank]}) {how}: it was killed, or its machine is down; "
            "the same command goes on from the last checkpoint"
        )
        speaker = 1 if loss.rank == HUB else HUB
        return RankLost(text, quiet=loss.kind == Kind.FAILED or self.ranks.rank != speaker)


ALONE = Group()


class Environment(ClusterEnvironment):
    """What Lightning asks about the processes, answered from their ranks."""

    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        self.ranks = ranks

    @property
    def creates_processes_externally(self) -> bool:
        """They are there already."""
        return True

    @property
    def main_address(self) -> str:
        """The machine of the first one."""
        return os.environ["MASTER_ADDR"]

    @property
    def main_port(self) -> int:
        """Where they meet."""
        return int(os.environ["MASTER_PORT"])

    @staticmethod
    def detect() -> bool:
        """It is chosen by name."""
        return False

    def world_size(self) -> int:
        """The number of all."""
        return self.ranks.size

    def set_world_size(self, size: int) -> None:
        """It stands."""

    def global_rank(self) -> int:
        """The number of this one."""
        return self.ranks.rank

    def set_global_rank(self, rank: int) -> None:
        """It stands."""

    def local_rank(self) -> int:
        """The number of this one on its machine."""
        return self.ranks.local_rank

    def node_rank(self) -> int:
        """The number of the machine."""
        return self.ranks.rank // self.ranks.local_size


@contextmanager
def join(ranks: Ranks, devices: int, on_gpu: bool) -> Iterator[Group]:
    """Be one of the processes of a training while this is open.

    Where nobody started the others, this process starts them: the same command, once for each further device.

    Args:
        ranks: the place of this process.
        devices: the number of devices that is set.
        on_gpu: whether they are GPUs.

    Raises:
        UsageError: another number of devices is set than there are processes.
        RankLost: another process is gone.
    """
    if ranks.size > 1 and devices not in (1, ranks.size):
        raise UsageError(f"trainer.devices={devices}, but {ranks.size} processes were started: leave the setting out")
    if max(ranks.size, devices) == 1:
        yield ALONE
        return
    with _helpers(devices if ranks.size == 1 else 1):
        ranks = ranks if ranks.size > 1 else Ranks(0, devices, 0, devices)
        _meet(ranks, on_gpu)
        names = _names(ranks)
        watch = Watch(ranks.rank, _links(ranks), lambda loss: _force(Group(ranks, names).lost(loss)))
        with _watched(group := Group(ranks, names, watch), watch):
            yield group
        distributed.destroy_process_group()


@contextmanager
def _watched(group: Group, watch: Watch) -> Iterator[None]:
    """Tell an error of this process from what follows from the loss of another; let the others know how it ends."""
    failed = True
    try:
        yield
        failed = False
    except Exception as error:
        loss = watch.loss(within_s=1.0 if isinstance(error, FullscaleError) else _NEWS_S)
        if loss is None or (loss.kind == Kind.FAILED and isinstance(error, FullscaleError)):
            raise
        raise group.lost(loss) from error
    finally:
        watch.close(failed)


@contextmanager
def _helpers(devices: int) -> Iterator[None]:
    """Start this command once for each further device; they end by themselves, as this process is watched."""
    if devices == 1:
        yield
        return
    place = {"WORLD_SIZE": str(devices), "LOCAL_WORLD_SIZE": str(devices), "MASTER_ADDR": "127.0.0.1"}
    place["MASTER_PORT"] = str(_free_port())
    os.environ.update(place)
    command = [sys.executable, *sys.orig_argv[1:]]
    started = [
        subprocess.Popen(command, env=os.environ | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(1, devices)
    ]
    try:
        yield
        for process in started:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_NEWS_S)
    finally:
        for process in started:
            process.kill()
            process.wait()


def _meet(ranks: Ranks, on_gpu: bool) -> None:
    """Wait for all the others."""
    if "MASTER_ADDR" not in os.environ:
        nodes = os.environ.get("SLURM_STEP_NODELIST", "127.0.0.1")
        os.environ["MASTER_ADDR"] = SLURMEnvironment.resolve_root_node_address(nodes)
    if "MASTER_PORT" not in os.environ:
        # Every process must know the same one, and two steps of one machine should not.
        job, step = (int(os.environ.get(name, 0)) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
        os.environ["MASTER_PORT"] = str(15000 + (job + 101 * step) % 10000)
    if on_gpu:
        torch.cuda.set_device(ranks.local_rank)
    # Numbers and objects of a few bytes go over gloo in any case, so that no GPU waits for them.
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    distributed.init_process_group(backend, rank=ranks.rank, world_size=ranks.size, timeout=PATIENCE)


def _names(ranks: Ranks) -> tuple[str, ...]:
    everyone: list[Any] = [None] * ranks.size
    distributed.all_gather_object(everyone, f"process {os.getpid()} on {socket.gethostname()}")
    return tuple(everyone)


def _links(ranks: Ranks) -> dict[int, socket.socket]:
    """Connect each process with the first."""
    server = listen() if ranks.rank == HUB else None
    place: list[Any] = [None if server is None else server.getsockname()[1], secrets.token_hex(16)]
    distributed.broadcast_object_list(place, src=HUB)
    port, token = place
    if server is not None:
        return accept(server, token, ranks.size - 1)
    return connect(os.environ["MASTER_ADDR"], port, token, ranks.rank)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _force(lost: RankLost) -> None:
    """End this process from another thread: its first one may be inside NCCL for ever, where no exception comes."""
    if not lost.quiet:
        _log.error("%s", lost)
    os._exit(lost.exit_code)
