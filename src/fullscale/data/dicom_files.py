"""DICOM files one by one: which they are, what their headers say, and errors of one line."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pydicom

from fullscale.data.nifti import one_line
from fullscale.errors import DataError

T = TypeVar("T")


def has_dicom_mark(path: Path) -> bool:
    """Tell whether a file begins as DICOM files do."""
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def header_tags(path: Path, names: list[str]) -> dict[str, Any]:
    """Read some attributes of one file, by keyword; those that are absent are left out.

    Raises:
        DataError: the file cannot be read.
    """
    dataset = quietly(path, lambda: pydicom.dcmread(path, stop_before_pixels=True, specific_tags=names))
    return {name: dataset.get(name) for name in names if name in dataset}


def quietly(path: Path, read: Callable[..., T], *arguments: Any) -> T:
    """Run a step of pydicom without its warnings; its errors become one line with the file's name."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read(*arguments)
    except DataError as error:
        raise type(error)(f"{path.name} {error}") from error
    except Exception as error:
        raise DataError(f"{path.name} cannot be read: {one_line(error)}") from error
    finally:
        logger.setLevel(level)
