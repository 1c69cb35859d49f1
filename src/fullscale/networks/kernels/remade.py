"""A tensor that the backward pass makes again in place of keeping it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks


def remade(x: Tensor, make: Callable[[], Tensor]) -> AbstractContextManager[Any]:
    """Within this context nothing keeps `x` for its backward pass: it is made again there.

    Args:
        x: dense in memory; it must live until the context ends.
        make: returns the same numbers, in the same order in memory.

    Raises:
        RuntimeError: in the backward pass, if what else was kept has been changed in place, as torch has it.
    """
    address, numbers = x.data_ptr(), x.numel()

    def pack(saved: Tensor) -> _Remade | _Kept:
        if saved.data_ptr() == address and saved.numel() == numbers:
            return _Remade(saved.shape, saved.stride())
        return _Kept(saved.detach(), saved._version)

    def unpack(packed: _Remade | _Kept) -> Tensor:
        if isinstance(packed, _Remade):
            return make().as_strided(*packed)
        if packed.tensor._version != packed.version:
            raise RuntimeError("a tensor needed for the gradient has been modified by an inplace operation")
        return packed.tensor

    return saved_tensors_hooks(pack, unpack)


class _Remade(NamedTuple):
    shape: torch.Size
    stride: tuple[int, ...]


class _Kept(NamedTuple):
    tensor: Tensor
    version: int
