"""The graph of a model for another runtime: made once, checked against PyTorch, and kept beside the bundle.

What is kept serves one model, one version of this package and of the runtime, and one kind of processor. Where the
folder of the bundle cannot be written, it is kept in the cache of the user.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from fullscale.bundle.card import ModelCard
from fullscale.bundle.store import WEIGHTS, file_sha256
from fullscale.data.cache import default_cache
from fullscale.documents import digest_of, read_json, validated
from fullscale.errors import DataError, FullscaleError, OutputError
from fullscale.files import atomic_folder, locked, write_json
from fullscale.inference.runtimes.onnx import open_onnx, require_runtime
from fullscale.inference.runtimes.openvino import Precision, open_openvino, require_openvino
from fullscale.inference.runtimes.protocol import Runtime
from fullscale.work.machine import processor_digest

GraphRuntime = Literal["onnx", "openvino"]
"""A runtime that computes a graph."""
TITLES: dict[GraphRuntime, str] = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}
FOLDER = "runtimes"
"""Of what is kept, in a bundle and in the cache of a user."""
RECORD, COMPILED = "kept.json", "compiled"
GRAPHS: dict[GraphRuntime, str] = {"onnx": "network.onnx", "openvino": "network.xml"}

_PACKAGES: dict[GraphRuntime, str] = {"onnx": "onnxruntime", "openvino": "openvino"}
_REQUIRED: dict[GraphRuntime, Callable[[], Any]] = {"onnx": require_runtime, "openvino": require_openvino}
_log = logging.getLogger(__name__)


class Kept(BaseModel):
    """What a kept graph is of.

    Attributes:
        model: digest of the card and the weights.
        fullscale: the version that made it.
        runtime: the version of the runtime that it was made for.
        precision: in which it is computed.
        why: of the precision, in a few words; nothing where there is nothing to say.
        speed: how many times faster than PyTorch it was computed here, when it was made.
    """

    model_config = ConfigDict(extra="forbid")

    model: str
    fullscale: str
    runtime: str
    precision: Precision
    why: str
    speed: float


class KeptGraph:
    """The graph of a bundle of one model for a runtime on this machine, whether it is there yet or not.

    Args:
        folder: the bundle.
        card: its card.
        runtime: what computes the graph.
        home: a folder to keep it in, instead of the two that are usual.

    Attributes:
        places: where it is kept, the one beside the bundle first.
        faults: why a graph that is there is not used.
    """

    def __init__(self, folder: Path, card: ModelCard, runtime: GraphRuntime, home: Path | None = None) -> None:
        self.folder, self.card, self.runtime = folder, card, runtime
        homes = [folder / FOLDER, default_cache() / FOLDER / card.digest] if home is None else [home]
        self.places = [place / f"{runtime}-{processor_digest()}" for place in homes]
        self.faults: list[str] = []

    @property
    def is_there(self) -> bool:
        """Whether anything is kept."""
        return any(place.is_dir() for place in self.places)

    @property
    def speed(self) -> float | None:
        """How many times faster than PyTorch what is kept was computed; None where nothing is, or it is damaged."""
        for place in filter(Path.is_dir, self.places):
            with suppress(DataError):
                return _recorded(place).speed
        return None

    def find(self) -> Runtime | None:
        """Load it if it is there, whole and of today.

        Raises:
            UsageError: the runtime is not installed.
        """
        if self.is_there:
            _REQUIRED[self.runtime]()
        self.faults = []
        for place in filter(Path.is_dir, self.places):
            try:
                return self._open(place)
            except DataError as error:
                self.faults.append(str(error))
        return None

    def find_or_make(self) -> Runtime:
        """Load it, and make it first where that is needed; another process that makes it is waited for.

        Raises:
            UsageError: the runtime is not installed.
            FullscaleError: the network cannot be exported, differs from PyTorch there, or cannot be written.
        """
        found = self.find()
        if found is not None:
            return found
        # What makes a graph takes its time to load, and is rarely needed.
        from fullscale.inference.export.model import check_request
        from fullscale.inference.export.quickest import export_quickest

        check_request(Path(GRAPHS[self.runtime]), self.runtime, "direct")
        with ExitStack() as stack:
            place = self._locked_place(stack)
            found = self.find()
            if found is not None:  # another process has made it in the meantime
                return found
            fault = f"{self.faults[0]}, so that it is made anew; " if self.faults else ""
            _log.info(
                "%s%s is brought to %s, once: that takes half a minute or more",
                *(fault, self.folder, TITLES[self.runtime]),
            )
            with atomic_folder(place) as temporary:
                try:
                    chosen = export_quickest(self.folder, temporary / GRAPHS[self.runtime], self.runtime)
                except FullscaleError as error:
                    raise type(error)(f"{error}; the runtime torch needs no graph") from error
                write_json(temporary / RECORD, self._record(*chosen).model_dump())
        _log.info(
            "what %s computes was checked against PyTorch, takes %.2g of its time, and is kept in %s",
            *(TITLES[self.runtime], 1 / chosen.speed, place),
        )
        return self._open(place)

    @property
    def _model(self) -> str:
        """Digest of the model; the card of one of 0.1 does not name its weights."""
        weights = self.card.weights_sha256 or file_sha256(self.folder / WEIGHTS)
        return digest_of([self.card.digest, weights])

    def _locked_place(self, stack: ExitStack) -> Path:
        """Enter the lock of the first place that can be written, and return it."""
        for place in self.places:
            with suppress(OutputError):
                stack.enter_context(locked(place.parent))
                return place
        raise OutputError(f"cannot write {' or '.join(str(place.parent) for place in self.places)}")

    def _record(self, precision: Precision, why: str, speed: float) -> Kept:
        """Say what a graph of today is of."""
        return Kept(
            model=self._model,
            fullscale=version("fullscale"),
            runtime=version(_PACKAGES[self.runtime]),
            precision=precision,
            why=why,
            speed=speed,
        )

    def _open(self, place: Path) -> Runtime:
        """Load what is kept in a place.

        Raises:
            DataError: it is damaged, or of another model or version.
        """
        record = _recorded(place)
        today = self._record(record.precision, record.why, record.speed)
        for was, now, what in (
            (record.model, today.model, "another model"),
            (record.fullscale, today.fullscale, f"fullscale {record.fullscale}"),
            (record.runtime, today.runtime, f"{TITLES[self.runtime]} {record.runtime}"),
        ):
            if was != now:
                raise DataError(f"{place} was made for {what}")
        graph = place / GRAPHS[self.runtime]
        if self.runtime == "onnx":
            return open_onnx(graph)[1]
        return open_openvino(graph, record.precision, record.why, place / COMPILED)[1]


def _recorded(place: Path) -> Kept:
    """Read what is said of a graph.

    Raises:
        DataError: it is not there, or damaged.
    """
    return validated(Kept, read_json(place / RECORD, "what is kept"), f"{place / RECORD} is damaged")
