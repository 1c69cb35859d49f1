"""Files of weights, read without executing anything in them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

from fullscale.errors import DataError
from fullscale.text import first_line

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names under which model hubs keep the weights in a model's folder."""
_CHUNK = 1 << 20


def read_state_dict(path: str | Path) -> dict[str, Any]:
    """Read a file of weights without executing anything in it, free of a wrapper and of DataParallel's prefix.

    Args:
        path: a .safetensors file, one written by `torch.save`, or a folder with one of `HUB_FILES`.

    Raises:
        DataError: no such file, unreadable, or not a dictionary of weights.
    """
    path = Path(path)
    if path.is_dir():
        path = next((path / name for name in HUB_FILES if (path / name).is_file()), path / HUB_FILES[0])
    if not path.is_file():
        raise DataError(f"{path} is not there: expected a .safetensors or .pth file of weights")
    try:
        state = _read(path)
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"{path} cannot be read as weights ({first_line(error)}): expected .safetensors, or a state dict saved "
            "by torch without other objects"
        ) from error
    return unwrap_state_dict(state, str(path))


def unwrap_state_dict(state: Any, source: str = "state dict") -> dict[str, Any]:
    """Take a state dict out of a checkpoint's `{"state_dict": ...}` and strip DataParallel's `module.` prefix.

    Raises:
        DataError: not a dictionary with names as keys; `source` says in the message what was read.
    """
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not state or not all(isinstance(key, str) for key in state):
        raise DataError(f"{source} holds no state dict ({type(state).__name__}): expected weights by name")
    if all(key.startswith("module.") for key in state):
        return {key.removeprefix("module."): value for key, value in state.items()}
    return dict(state)


def load_torch_file(path: Path) -> Any:
    """Read what `torch.save` wrote onto the CPU, without executing anything in it.

    Raises:
        DataError: its archive is compressed, which `torch.save` never does, or its members share their bytes: a small
            file could become one of any size; or its bytes do not fit their checksums.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
            if packed or sum(member.file_size for member in members) > path.stat().st_size:
                raise DataError(
                    f"{path} holds more than its bytes, as torch.save never writes; save it again with torch"
                )
            _require_whole(archive, path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _require_whole(archive: zipfile.ZipFile, path: Path) -> None:
    """Hold the members of an archive against their checksums: torch itself takes damaged weights for weights."""
    for member in archive.infolist():
        if member.CRC == 0:  # torch.serialization.set_crc32_options(False)
            continue
        try:
            with archive.open(member) as stream:
                while stream.read(_CHUNK):
                    pass
        except (zipfile.BadZipFile, RuntimeError, EOFError) as error:
            raise DataError(f"{path} is damaged: {first_line(error)}; copy it again") from error


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return load_torch_file(path)
