"""Workers on other machines, by Dask: an executor like any other. Home of dask.distributed and dask-jobqueue."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar
from uuid import uuid4

from fullscale.errors import FullscaleError, UsageError
from fullscale.extras import needs
from fullscale.text import one_line
from fullscale.work.processes import Killed, Shared, receive

Value = TypeVar("Value")

QUEUES = {
    "slurm": "SLURMCluster",
    "pbs": "PBSCluster",
    "lsf": "LSFCluster",
    "sge": "SGECluster",
    "htcondor": "HTCondorCluster",
}
"""Schedulers of clusters, and the class of dask-jobqueue that submits workers to each."""
CONNECT_S = 30
"""How long a scheduler may take to answer."""
LOST = 5
"""How often an item is handed out again whose scheduler forgot it."""

SPARE = 4
"""Workers that must be left before an item whose workers died is tried once more: it may take three with it."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cluster:
    """Where the work is done.

    Attributes:
        where: address of a Dask scheduler, such as `tcp://10.0.0.1:8786`, or one of `QUEUES`.
        jobs: of a queue, how many jobs to submit; None as its configuration says.
        resources: that each item takes of a worker, such as `{"GPU": 1}`, as workers are started with them.
    """

    where: str
    jobs: int | None = None
    resources: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str, jobs: int | None = None) -> Cluster:
        """Read `ADDRESS` or the name of a queue, and after commas resources: `slurm,GPU=1`.

        Raises:
            UsageError: it is not of this form.
        """
        where, *taken = text.split(",")
        try:
            resources = {name: float(amount) for name, _, amount in (part.partition("=") for part in taken)}
        except ValueError as error:
            raise UsageError(f"--dask {text!r} is not of the form ADDRESS,GPU=1") from error
        if where not in QUEUES and ":" not in where:
            raise UsageError(f"--dask {where!r} is neither tcp://HOST:PORT nor one of {', '.join(QUEUES)}")
        return cls(where, jobs, resources)

    @contextmanager
    def executor(self, shared: Sequence[Shared[Any]]) -> Iterator[Executor]:
        """Give an executor; what interrupts the block cancels what was not begun.

        Raises:
            UsageError: the extra `dask` is not installed, or no scheduler answers.
        """
        with needs("dask", "workers on other machines"):
            from distributed import Client
        with self._scheduler() as scheduler:
            try:
                client = Client(scheduler, timeout=CONNECT_S, set_as_default=False)
            except (OSError, TimeoutError, ValueError) as error:
                raise UsageError(f"no Dask scheduler answers at {self.where}; start one with dask scheduler") from error
            with client:
                _log.info("Dask: %d workers at %s; dashboard %s", _workers(client), self.where, client.dashboard_link)
                yield DaskExecutor(client, shared, self.resources)

    @contextmanager
    def _scheduler(self) -> Iterator[Any]:
        if self.where not in QUEUES:
            yield self.where
            return
        with needs("dask", "jobs of a queue"):
            import dask_jobqueue
        try:  # Training starts processes of its own, which workers that are daemons must not.
            prologue = ["export DASK_DISTRIBUTED__WORKER__DAEMON=False"]
            cluster = getattr(dask_jobqueue, QUEUES[self.where])(job_script_prologue=prologue)
        except (ValueError, OSError) as error:
            raise UsageError(
                f"--dask {self.where}: {error}; describe its jobs in ~/.config/dask/jobqueue.yaml"
            ) from error
        with cluster:
            cluster.scale(jobs=self.jobs or 1)
            yield cluster


class Unwanted(FullscaleError):
    """Nobody waits for the work any more."""


def stop_if_unwanted(done: int, total: int, item: str) -> None:
    """End long work, told of each of its steps, which a worker of a cluster does for a command that is gone.

    It is a `Progress`. Anywhere else it does nothing.

    Raises:
        Unwanted: nobody waits for the work any more.
    """
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return
    try:
        worker = distributed.get_worker()
        task = worker.state.tasks.get(worker.get_current_task())
    except ValueError:  # this is no worker
        return
    if task is None or task.state != "executing":
        raise Unwanted(f"stopped at {item}, {done} of {total}: nobody waits for it any more")


Workers: TypeAlias = int | Cluster | None
"""Who works on cases: so many processes of this machine, a cluster, or as the machine allows."""


@dataclass
class _Item:
    """A call, and who waits for it; `alone` once it is handed out while no other is."""

    future: Future[Any]
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    alone: bool = False


class DaskExecutor(Executor):
    """Hands items to the workers of a scheduler.

    An item whose worker dies is worked on elsewhere, as often as the scheduler allows (`allowed-failures`, by default 3
    times in all). By then it may only have been there when others killed the worker. So it is handed out once more when
    no other item is, if there are workers to spare; if they die of that too, it is `Killed`. An item that the scheduler
    forgot, because it was started again, is handed out again.
    """

    def __init__(self, client: Any, shared: Sequence[Shared[Any]], resources: Mapping[str, float]) -> None:
        self._client = client
        self._resources = dict(resources) or None
        self._packed = {value.key: value.packed() for value in shared}
        self._lock = threading.Lock()
        self._out = 0
        self._suspects: list[_Item] = []
        self._deliver()

    def submit(self, fn: Callable[..., Value], /, *args: Any, **kwargs: Any) -> Future[Value]:
        """Hand out a call; see `DaskExecutor`."""
        item = _Item(Future(), fn, args, kwargs)
        self._hand_out(item)
        return item.future

    def _hand_out(self, item: _Item) -> None:
        """Hand out an item that is not out."""
        with self._lock:
            self._out += 1
        self._send(item, LOST)

    def _send(self, item: _Item, left: int) -> None:
        key, future = f"fullscale-{uuid4().hex}", item.future
        there = self._client.submit(item.fn, *item.args, key=key, resources=self._resources, **item.kwargs)

        def ended(_: Any) -> None:
            status = "cancelled" if future.cancelled() else there.status
            if status == "finished":
                future.set_result(there.result())
            elif status == "error":
                self._failed(item, there.exception())
            elif not future.cancelled() and left and self._client.status in ("running", "connecting"):
                threading.Thread(target=again, daemon=True).start()
                return
            elif not future.cancelled():
                future.set_exception(FullscaleError("the Dask scheduler is gone; repeat the command to go on"))
            self._is_back()

        def again() -> None:
            try:
                self._client.wait_for_workers(1, timeout=CONNECT_S)
                self._deliver()
                self._send(item, left - 1)
            except Exception as error:
                future.set_exception(
                    FullscaleError(f"the Dask scheduler is gone ({one_line(error)}); repeat the command to go on")
                )
                self._is_back()

        future.add_done_callback(lambda done: there.cancel() if done.cancelled() else None)
        there.add_done_callback(ended)

    def _failed(self, item: _Item, error: BaseException) -> None:
        """Pass on an error of an item, unless its workers died and it may not be the cause."""
        from distributed.scheduler import KilledWorker

        if not isinstance(error, KilledWorker):
            item.future.set_exception(error)
        elif item.alone or _workers(self._client) < SPARE:
            item.future.set_exception(Killed(f"each worker that worked on it died: {error}"[:300]))
        else:
            with self._lock:
                self._suspects.append(item)

    def _is_back(self) -> None:
        """Note that an item is no longer out; if it was the last, hand out one of those that are suspected."""
        with self._lock:
            self._out -= 1
            self._suspects = [item for item in self._suspects if not item.future.cancelled()]
            item = self._suspects.pop(0) if self._suspects and not self._out else None
        if item is not None:
            item.alone = True
            self._hand_out(item)

    def _deliver(self) -> None:
        """Give the shared values to every worker that there is, and to each that will be, once."""
        from distributed import WorkerPlugin

        class Deliver(WorkerPlugin):
            def __init__(self, packed: dict[str, bytes]) -> None:
                self.packed = packed

            def setup(self, worker: Any) -> None:
                del worker
                receive(self.packed)

        if self._packed:
            self._client.register_plugin(Deliver(self._packed), name=f"fullscale-{'-'.join(self._packed)}")


def _workers(client: Any) -> int:
    return len(client.scheduler_info(n_workers=-1)["workers"])
