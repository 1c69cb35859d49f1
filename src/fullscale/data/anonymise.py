"""Numbers in place of the names of cases and patients, and the key that says which is which.

The key is a table of its own, to be kept where the results do not go. With the same key the same case has the same
number again, so that a run goes on and its masks can be told.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fullscale.data.case import WHOLE_SET, Case, Dataset, Problem
from fullscale.errors import DataError, UsageError
from fullscale.files import write_text
from fullscale.text import without_folders

NAMELESS = "data set"
"""What a data set is called that is named after its folder."""

_COLUMNS = ["number", "case"]
_FILE_NAME = re.compile(r"[^\s'\"(/\\]+\.(?:nii(?:\.gz)?|nrrd|nhdr|mha|mhd|dcm|dicom|ima|zip|png)\b", re.IGNORECASE)


@dataclass(frozen=True)
class NameKey:
    """Which number stands for which case.

    Attributes:
        numbers: such as "case_0001", by the name of the case.
    """

    numbers: Mapping[str, str] = field(default_factory=dict)

    def hide(self, text: str) -> str:
        """Take folders, names of files and names of cases out of a text; a part of another word is no name."""
        text = without_folders(text)
        for name in sorted(self.numbers, key=len, reverse=True):
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", self.numbers[name], text)
        return _FILE_NAME.sub("(file)", text)


def without_files(text: str, case: Case) -> str:
    """Take the files of a case out of a text: their names may be those of patients."""
    scans = [("its scan", file) for file in case.channels.values()]
    truth = [("its label map", file) for file in case.truth]
    for what, file in (*scans, *truth, ("its mask of what is ignored", case.ignore)):
        for name in () if file is None else (str(file), file.name):
            text = text.replace(name, what)
    return NameKey().hide(text)


def require_apart(path: Path, outputs: Path) -> None:
    """Refuse a key that lies in a folder of results.

    Raises:
        UsageError: it does.
    """
    if path.resolve().is_relative_to(outputs.resolve()):
        raise UsageError(f"--anonymise {path}: lies in {outputs} and would go where the results go; keep it apart")


def open_key(path: Path, names: Iterable[str], outputs: Path | None = None) -> NameKey:
    """Read a key, give numbers to the names that it lacks, and write it.

    Args:
        path: of the key, a CSV table; made where it is not there.
        names: of cases.
        outputs: folder of results, in which the key must not lie.

    Raises:
        UsageError: the key would lie among the results.
        DataError: the file is no such key.
        FullscaleError: it cannot be written.
    """
    if outputs is not None:
        require_apart(path, outputs)
    numbers = _read(path) if path.exists() else {}
    new = [name for name in sorted(set(names)) if name not in numbers]
    if new:
        numbers |= {name: f"case_{n:04d}" for n, name in enumerate(new, start=len(numbers) + 1)}
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([_COLUMNS, *([number, name] for name, number in numbers.items())])
        write_text(path, text.getvalue())
    return NameKey(numbers)


def anonymised(dataset: Dataset, key_file: Path, outputs: Path | None = None) -> Dataset:
    """Return a data set whose cases and patients have numbers for names, and whose problems name no folder.

    Raises:
        UsageError, DataError, FullscaleError: as `open_key`.
    """
    cases = [*dataset.cases, *dataset.unlabelled]
    told = [problem.case for problem in dataset.problems if problem.case != WHOLE_SET]
    key = open_key(key_file, [*(case.id for case in cases), *told], outputs)
    first = {case.group: key.numbers[case.id] for case in reversed(cases)}
    by_folder = dataset.name in (dataset.root.resolve().name, dataset.root.stem)

    def renamed(case: Case) -> Case:
        return replace(case, id=key.numbers[case.id], group=first[case.group])

    problems = [Problem(key.numbers.get(p.case, p.case), key.hide(p.message), p.severity) for p in dataset.problems]
    return replace(
        dataset,
        name=NAMELESS if by_folder else dataset.name,
        cases=sorted(map(renamed, dataset.cases), key=lambda case: case.id),
        unlabelled=sorted(map(renamed, dataset.unlabelled), key=lambda case: case.id),
        problems=problems,
    )


def _read(path: Path) -> dict[str, str]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"--anonymise {path}: cannot be read ({error}); give another file") from error
    numbers = {row[1]: row[0] for row in rows[1:] if len(row) == len(_COLUMNS)}
    if rows[:1] != [_COLUMNS] or len(numbers) != len(rows) - 1 or len(set(numbers.values())) != len(numbers):
        raise DataError(f"--anonymise {path}: is no key of case names; give that of an earlier run, or a new name")
    return numbers
