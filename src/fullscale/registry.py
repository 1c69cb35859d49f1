"""What is made by name: from our own table, from another package's entry points, or as `package.module:Class`.

Nothing is imported before it is asked for, and listing the names imports nothing at all.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Any, Generic, TypeVar

from fullscale.errors import FullscaleError, UsageError
from fullscale.text import first_line, nearest

Made = TypeVar("Made")
TRUST = "FULLSCALE_TRUST"
"""Environment variable: packages, with commas between them, whose modules a model's card may import."""
_GROUPS = "fullscale."
"""What the names of all groups of entry points begin with."""
REFERENCE = re.compile(r"\w+(\.\w+)*:\w+(\.\w+)*")


@dataclass(frozen=True)
class Registry(Generic[Made]):
    """One kind of thing by name.

    Attributes:
        kind: what they are, for people: "network".
        table: our own, as `module:attribute` by name.
        group: of the entry points by which other packages add theirs.
        given: parameters that the caller of `create` fills, in this order; all others are options.
        synonyms: what other libraries call an argument, and what it is called here; to be offered, not to be taken.
        base: `module:Class` that a class named as `package.module:Class` must derive from. A model from elsewhere may
            name any class of any installed package; this keeps it from calling what is no network.
    """

    kind: str
    table: Mapping[str, str]
    group: str
    given: tuple[str, ...] = ()
    base: str = "builtins:object"
    synonyms: Mapping[str, str] = field(default_factory=dict)

    def names(self) -> list[str]:
        """Return every name: our own in the order of the table, then those of other packages."""
        return [*self.table, *sorted({point.name for point in self._outside()} - self.table.keys())]

    def package(self, name: str) -> str | None:
        """Return the package that must be installed for a name, or None for one of our own."""
        if ":" in name:
            return name.partition(":")[0].partition(".")[0]
        return next((_package(point) for point in self._outside() if point.name == name), None)

    def require_trusted(self, name: str) -> None:
        """Refuse to import for a stranger, such as a model from elsewhere, what only its file names.

        Importing a module runs it. So a file may name a class only of a module that is imported already, of a package
        that offers something to this program by an entry point, or of one that the user trusts (`TRUST`).

        Raises:
            UsageError: the class is of no such module.
        """
        module = name.partition(":")[0]
        package = module.partition(".")[0]
        trusted = {one.strip() for one in os.environ.get(TRUST, "").split(",")}
        if ":" not in name or module in sys.modules or package in trusted | _plugin_packages():
            return
        if find_spec(package) is not None:  # what is not installed is refused when it is looked for
            raise UsageError(
                f"{self.kind} '{name}' is named by a file, and importing {module} would run it: set {TRUST}={package} "
                "if you trust that package, or import it first in your own code"
            )

    def find(self, name: str) -> Callable[..., Made]:
        """Import the class or function that a name stands for.

        Raises:
            UsageError: the name is unknown or offered twice, or what it stands for cannot be imported or called.
        """
        found = self._import(name)
        if not callable(found):
            raise UsageError(
                f"{self.kind} '{name}' is {type(found).__name__} {found!r:.40}: expected a class or function"
            )
        return found  # type: ignore[no-any-return]

    def options(self, name: str) -> dict[str, inspect.Parameter]:
        """Return the options of a name: every parameter that can be given by keyword and is not `given`.

        Raises:
            UsageError: as `find`.
        """
        return self._options(self._parameters(name, self.find(name)))

    def descriptions(self, name: str) -> dict[str, str]:
        """Return what the docstring says of each argument, as far as it has a section `Args:`."""
        return _described(inspect.getdoc(self.find(name)) or "")

    def check(self, name: str, options: Iterable[str], known: Iterable[str] = ()) -> None:
        """Refuse options that a name does not take, and the lack of one that it needs.

        Args:
            name: of the thing.
            options: names of the options that will be given.
            known: further names to offer for a wrong one.

        Raises:
            UsageError: an option is unknown or missing, or as `find`.
        """
        self._check(name, self.find(name), set(options), known)

    def create(self, name: str, *given: Any, **options: Any) -> Made:
        """Make one.

        Args:
            name: one of `names()`, or `package.module:Class`.
            given: values of the parameters in `given`, in that order.
            options: further arguments of the class or function itself.

        Raises:
            UsageError: as `check`, or a value does not fit.
        """
        make = self.find(name)
        self._check(name, make, set(options))
        arguments = dict(zip(self.given, given, strict=True)) | options
        try:
            return make(**arguments)
        except FullscaleError:
            raise
        except Exception as error:
            values = ", ".join(f"{key}={value!r}" for key, value in options.items()) or "its defaults"
            raise UsageError(
                f"{self.kind} '{name}' cannot be made with {values}: {type(error).__name__}: {first_line(error)}"
            ) from error

    def _check(self, name: str, make: Callable[..., Made], options: set[str], known: Iterable[str] = ()) -> None:
        parameters = self._parameters(name, make)
        mine = self._options(parameters)
        takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
        for option in sorted(options & set(self.given) if takes_any else options - mine.keys()):
            raise UsageError(f"{self.kind} '{name}' has no option '{option}'{self._hint(option, [*mine, *known])}")
        missing = set() if takes_any else set(self.given) - {p.name for p in parameters}
        for argument in sorted(missing):
            raise UsageError(f"{self.kind} '{name}' takes no '{argument}', which it would be given")
        for option, parameter in mine.items():
            if parameter.default is inspect.Parameter.empty and option not in options:
                raise UsageError(f"{self.kind} '{name}' needs the option '{option}', which has no default")

    def _hint(self, option: str, known: list[str]) -> str:
        meant = self.synonyms.get(option)
        return nearest(option, known) if meant not in {*known, *self.given} else f"; did you mean '{meant}'?"

    def _options(self, parameters: list[inspect.Parameter]) -> dict[str, inspect.Parameter]:
        by_keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return {p.name: p for p in parameters if p.kind in by_keyword and p.name not in self.given}

    def _parameters(self, name: str, make: Callable[..., Made]) -> list[inspect.Parameter]:
        try:
            return list(inspect.signature(make).parameters.values())
        except ValueError as error:
            raise UsageError(f"{self.kind} '{name}' does not say which arguments it takes") from error

    def _outside(self) -> list[EntryPoint]:
        return [point for point in _offered(_installed()) if point.group == self.group]

    def _import(self, name: str) -> Any:
        if ":" in name:
            if not REFERENCE.fullmatch(name):
                raise UsageError(f"{self.kind} '{name}' is not of the form package.module:Class")
            return self._of_base(name, self._load(name, name))
        offers = {_package(point): point.value for point in self._outside() if point.name == name}
        if name in self.table:
            offers = {"fullscale": self.table[name]} | offers
        if not offers:
            hint = "; a class of another package is named as package.module:Class" if "." in name else ""
            raise UsageError(f"{self.kind} '{name}' is unknown{nearest(name, self.names())}{hint}")
        if len(offers) > 1:
            which = " and ".join(f"{package} ({value})" for package, value in sorted(offers.items()))
            raise UsageError(f"{self.kind} '{name}' is offered by {which}: name the one that is meant as module:Class")
        [(package, value)] = offers.items()
        return self._load(name, value, "" if package == "fullscale" else f" of package {package}")

    def _load(self, name: str, reference: str, source: str = "") -> Any:
        module_name, _, attribute = reference.replace(" ", "").partition(":")
        where = f"{self.kind} '{name}'{source}"
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise UsageError(f"{where}: {module_name} needs {error.name}, which is not installed") from error
            raise UsageError(
                f"{where}: there is no module '{error.name}': install its package, or put its folder on PYTHONPATH"
            ) from error
        except FullscaleError:
            raise
        except Exception as error:
            raise UsageError(
                f"{where}: {module_name} cannot be imported: {type(error).__name__}: {first_line(error)}"
            ) from error
        found: Any = module
        for part in attribute.split("."):
            if not hasattr(found, part):
                raise UsageError(f"{where}: {module_name} has no '{attribute}'{nearest(attribute, _public(module))}")
            found = getattr(found, part)
        return found

    def _of_base(self, name: str, found: Any) -> Any:
        module, _, attribute = self.base.partition(":")
        base = getattr(importlib.import_module(module), attribute)
        if callable(found) and not (isinstance(found, type) and issubclass(found, base)):
            kind = "class" if base is object else f"class derived from {module}.{attribute}"
            raise UsageError(f"{self.kind} '{name}' is no {kind}: name one, or offer it by an entry point")
        return found


def _plugin_packages() -> set[str]:
    """Return the top-level packages of everything that other packages offer."""
    return {point.module.partition(".")[0] for point in _offered(_installed())}


def _installed() -> tuple[tuple[str, int], ...]:
    """Return what changes when a package is installed or removed: the folders of `sys.path`, and when they changed."""
    found = []
    for folder in sys.path:
        try:
            found.append((folder, os.stat(folder or ".").st_mtime_ns))
        except OSError:  # that a folder of the path is absent is usual
            continue
    return tuple(found)


@lru_cache(maxsize=1)
def _offered(_: tuple[tuple[str, int], ...]) -> tuple[EntryPoint, ...]:
    """Return all that packages offer: to find it, the record of every installed package is read."""
    groups = [group for group in entry_points().groups if group.startswith(_GROUPS)]
    return tuple(point for group in groups for point in entry_points(group=group))


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value.partition(".")[0]


def _described(doc: str) -> dict[str, str]:
    """Take the section `Args:` of a docstring apart: text by argument, in one line each."""
    _, _, section = doc.partition("\nArgs:\n")
    found: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if not line.startswith("    "):
            break
        argument = re.match(r"    (\w+)(?: \([^)]*\))?: *(.*)", line)
        if argument:
            name = argument[1]
        found[name] = f"{found.get(name, '')} {(argument[2] if argument else line).strip()}".strip()
    return found


def _public(module: Any) -> list[str]:
    return [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
