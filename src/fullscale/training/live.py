"""Memory of tensors, counted as they come and go: on any device, and on "meta" without computing anything."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fullscale.networks.protocol import TorchModule

MIB = 2**20


class LiveTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of every tensor that is alive while this context is open.

    What libraries take for themselves (workspace, alignment, fragments) is not in it.

    Attributes:
        peak: the most bytes that were alive at once.
    """

    def __init__(self, before: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._bytes: dict[int, int] = {}
        self._live = 0
        self.peak: int = 0
        for tensor in before:
            self._add(tensor)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Do what was asked, and count what came of it."""
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._add(value)
        return result

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._bytes:
            self._bytes[key] = storage.nbytes()
            self._live += storage.nbytes()
            self.peak = max(self.peak, self._live)
            weakref.finalize(storage, self._remove, key)

    def _remove(self, key: int) -> None:
        self._live -= self._bytes.pop(key)


def peak_mib(task: Callable[[], object], before: Iterable[Tensor] = ()) -> float:
    """Run a task and return the most MiB of tensors that were alive at once.

    Args:
        task: what to run.
        before: tensors that are there already, and count.
    """
    with LiveTensors(before) as live:
        task()
    return float(live.peak / MIB)


def parameters_and_buffers(module: nn.Module | TorchModule) -> list[Tensor]:
    """Return the tensors that a module holds."""
    return [*module.parameters(), *module.buffers()]
