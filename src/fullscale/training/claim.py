"""What a run is, written into its folder, and held against what is asked of it later."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, model_validator

from fullscale.config.load import dump_yaml, flatten, load_config
from fullscale.config.schema import Config, NetworkConfig
from fullscale.data.distribution import FactsRecord
from fullscale.data.identity import CaseDigest
from fullscale.data.splits import Split, require_same_folds
from fullscale.documents import read_json, read_model, validated
from fullscale.errors import DataError, UsageError
from fullscale.files import locked, require_no_file_in_the_way, write_json, write_text
from fullscale.runfolder import RunFolder
from fullscale.training.initial_weights import digests_of_paths, without_paths

if TYPE_CHECKING:
    from fullscale.training.prepare import RunInputs

CHANGEABLE = (
    *("trainer.max_minutes", "trainer.max_epochs", "trainer.device", "trainer.devices", "trainer.validation_cases"),
    *("trainer.checkpoint_minutes", "trainer.logger", "trainer.log_model", "data.workers"),
)
"""Settings that may differ when a run goes on: how long, on which machine, and what is looked at or kept on the way."""


_OWN_KEYS = ("root", "used", "digests", "initial_weights")
"""Keys of `dataset.json` beside what the inspection found."""


class _Record(BaseModel):
    """What of `dataset.json` is read back; 0.1 kept no digests."""

    used: list[str]
    digests: dict[str, CaseDigest] | None = None
    initial_weights: str | None = None
    facts: list[FactsRecord] = []

    @model_validator(mode="before")
    @classmethod
    def _facts_as_they_are_kept_now(cls, values: Any) -> Any:
        """Leave out the facts of 0.1, which knew no channels: its runs are not gone on with anyway."""
        if isinstance(values, dict) and values.get("digests") is None:
            return values | {"facts": []}
        return values


@dataclass(frozen=True)
class DatasetRecord:
    """What `dataset.json` holds.

    Attributes:
        digests: content of each case in use, by name.
        found: what the inspection found.
        initial_weights: digest of the weights that training starts from, or None.
    """

    digests: dict[str, CaseDigest]
    found: dict[str, Any]
    initial_weights: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        digests = {case: asdict(digest) for case, digest in self.digests.items()}
        record = {"used": list(digests), "digests": digests}
        return self.found | record | ({"initial_weights": self.initial_weights} if self.initial_weights else {})


def read_dataset_record(run: RunFolder) -> DatasetRecord:
    """Read which cases a run began with.

    Raises:
        DataError: the record cannot be read.
        UsageError: it was written by fullscale 0.1, which did not keep what the cases hold.
    """
    try:
        content = read_json(run.dataset, "the record of the data")
        record = validated(_Record, content, str(run.dataset))
    except DataError as error:
        raise DataError(f"{error}; choose another run folder with -o") from error
    if record.digests is None:
        raise UsageError(
            f"{run.path} was begun by fullscale 0.1, which did not record what its cases hold: fullscale predict still "
            f"takes it, and network.init={run.path} in another run folder trains on from its weights"
        )
    lacking = [case for case in record.used if case not in record.digests]
    if lacking:
        raise DataError(f"{run.dataset}: holds no digest of the case {lacking[0]!r:.80}; choose another run folder")
    digests = {case: record.digests[case] for case in record.used}
    found = {key: value for key, value in content.items() if key not in _OWN_KEYS}
    return DatasetRecord(digests, found, record.initial_weights)


def claim(run: RunFolder, config: Config, inputs: RunInputs, splits: list[Split] | None) -> None:
    """Write down what the run is, or find that the folder holds a run begun with the same settings and data.

    Args:
        run: the folder.
        config: with every value filled in.
        inputs: cases and plan.
        splits: the folds; None where there are none, for a training on every case.

    Raises:
        UsageError: it holds a run of other settings, of other weights to start from, or of other folds; nothing is
            changed.
        DataError: scans or labels have changed since it was begun, or weights to start from cannot be read; nothing
            is changed.
    """
    digests = digests_of_paths(config)
    weights = None if config.network.init is None else digests[config.network.init]
    network = NetworkConfig.model_validate(without_paths(config.network.model_dump(), digests))
    config = config.model_copy(update={"network": network})
    with locked(run.path):
        if run.is_run:
            _require_same_settings(run, config)
            require_same_data(run, inputs, weights)
        if splits is not None and run.splits.is_file():
            require_same_folds(run.splits, splits, inputs.cases)
        record_inputs(run, inputs, weights)
        if splits is not None:
            write_json(run.splits, splits)
        write_text(run.config, dump_yaml(config))
        write_json(run.environment, environment(config))


def require_own_folder(run: RunFolder) -> None:
    """Refuse a folder in which files of someone else lie where a run would write its own, such as a data set.

    Raises:
        UsageError: one does; it is named. Or the folder is a file.
    """
    require_no_file_in_the_way(run.path)
    if run.is_run or (run.plan.is_file() and run.dataset.is_file()) or _is_record(run):
        return  # what does not fit is refused when it is read
    own = [run.plan, run.dataset, run.splits, run.environment, run.summary, run.bundle]
    foreign = [path for path in (*own, *(fold.path for fold in run.folds())) if path.exists()]
    if foreign:
        raise UsageError(f"{foreign[0]} is there and belongs to no run; choose another run folder with -o")


def _is_record(run: RunFolder) -> bool:
    """Tell whether the folder holds what a run writes down first, and was killed before it wrote more."""
    try:
        content = read_json(run.dataset)
    except DataError:
        return False
    return isinstance(content, dict) and "used" in content


def record_inputs(run: RunFolder, inputs: RunInputs, weights: str | None = None) -> None:
    """Write down cases and plan, where `find_inputs` looks first the next time."""
    write_json(run.dataset, DatasetRecord(inputs.digests, inputs.found, weights).as_dict())
    write_text(run.plan, inputs.plan.model_dump_json(indent=2) + "\n")


def environment(config: Config) -> dict[str, Any]:
    """Versions, machine and seed, so that a run can be understood later."""
    packages = ("fullscale", "torch", "lightning", "monai", "timm", "numpy", "nibabel", "SimpleITK", "pydicom")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version(name) for name in packages if find_spec(name) is not None},
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "seed": config.trainer.seed,
    }


def _require_same_settings(run: RunFolder, config: Config) -> None:
    old, new = (flatten(c) for c in (load_config(run.config), config))
    changed = [key for key in old | new if old.get(key) != new.get(key) and key not in CHANGEABLE]
    if changed:
        key = changed[0]
        raise UsageError(
            f"{run.path} was begun with {key}={old.get(key)}, not {new.get(key)}, says its {run.config.name}: repeat "
            "its settings to go on, or choose another run folder with -o"
        )


def require_same_data(run: RunFolder, inputs: RunInputs, weights: str | None = None) -> None:
    """Refuse cases whose scans or labels are not those that the folder began with.

    Raises:
        DataError: some have changed; they are named.
        UsageError: training began from other weights, or by fullscale 0.1.
    """
    record = read_dataset_record(run)
    changed = [_changed(case, record.digests.get(case), digest) for case, digest in inputs.digests.items()]
    named = [text for text in changed if text]
    if named:
        more = f" and {len(named) - 5} more" if len(named) > 5 else ""
        raise DataError(
            f"{len(named)} of {len(inputs.digests)} cases have changed since {run.path} was begun: "
            f"{', '.join(named[:5])}{more}; put them back to go on, or choose another run folder with -o"
        )
    if record.initial_weights != weights:
        raise UsageError(
            f"{run.path} was begun from other weights than network.init names now; choose another run folder with -o"
        )


def require_same_trainings(
    file: Path, wanted: BaseModel, what: str, does: str, digests: Mapping[str, str], inputs: RunInputs
) -> dict[str, Any]:
    """Refuse a folder that holds other trainings than are asked for; settings that are `CHANGEABLE` may differ.

    Args:
        file: in which the folder says what its trainings are, where it has any.
        wanted: what they are to be, of the same form.
        what: a word for that.
        does: what it does.
        digests: of the weights that trainings start from, by their path.
        inputs: the cases that they are to train on.

    Returns:
        What is to be written into the file.

    Raises:
        UsageError: the folder holds others.
        DataError: its file cannot be read, or its cases have changed.
    """
    new: dict[str, Any] = without_paths(wanted.model_dump(mode="json"), digests)
    if not file.is_file():
        return new
    try:  # with every value filled in that the version that wrote it did not have yet
        stored = read_model(file, type(wanted), f"the {what}").model_dump(mode="json")
    except DataError as error:
        raise DataError(f"{error}; choose another folder with -o") from error
    old = without_paths(stored, digests)
    changed = [key for key, value in _lasting(new).items() if _lasting(old)[key] != value]
    if changed:
        raise UsageError(
            f"{file.parent} {does} with another {changed[0]} ({_short(old[changed[0]])}, not {_short(new[changed[0]])})"
            ": repeat the command as it was to go on, or choose another folder with -o"
        )
    require_same_data(RunFolder(file.parent), inputs)
    return new


def _lasting(content: Any) -> Any:
    """Leave out of every group of settings those that may differ when trainings go on."""
    if isinstance(content, list):
        return [_lasting(value) for value in content]
    if not isinstance(content, dict):
        return content
    return {
        key: {name: setting for name, setting in value.items() if name not in CHANGEABLE}
        if key == "settings"
        else _lasting(value)
        for key, value in content.items()
    }


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _changed(case: str, old: CaseDigest | None, new: CaseDigest) -> str:
    """Say what of a case has changed; empty where nothing has."""
    if old is None:
        return f"{case} (was not among them)"
    parts = [what for what, a, b in (("scan", old.image, new.image), ("labels", old.label, new.label)) if a != b]
    return f"{case} ({' and '.join(parts)})" if parts else ""
