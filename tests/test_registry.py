"""What is made by name: our own, another package's, or a class by its place; and a clear line where it cannot be."""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fullscale.errors import UsageError
from fullscale.registry import Registry
from fullscale.text import nearest
from tests.outside import install

GROUP = "fullscale.test_shapes"
SHAPES: Registry[Any] = Registry("shape", {"counter": "collections:Counter", "square": "own_shapes:Square"}, GROUP)
OWN = """
class Square:
    def __init__(self, side, colour="red", *, filled=False):
        self.side, self.colour, self.filled = side, colour, filled

class Any:
    def __init__(self, **options):
        self.options = options

class Fragile:
    def __init__(self, side=1):
        raise KeyError(side)

def make(corners=3):
    return ("made", corners)

NUMBER = 7
"""

Install = Callable[..., None]


@pytest.fixture(autouse=True)
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install packages where this process finds them, until the test ends."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)

    def put(package: str, modules: Mapping[str, str], **entries: str) -> None:
        lines = "".join(f"{name} = {value}\n" for name, value in entries.items())
        install(tmp_path, package, modules, f"[{GROUP}]\n{lines}")

    put("own-shapes", {"own_shapes/__init__.py": OWN, "own_shapes/broken.py": "1 / 0", "own_shapes/needy.py": NEEDY})
    yield put
    for name in set(sys.modules) - before:
        del sys.modules[name]


NEEDY = "import a_library_nobody_has"


def test_a_name_of_our_own_table_with_its_options() -> None:
    square = SHAPES.create("square", side=2, filled=True)
    assert (square.side, square.colour, square.filled) == (2, "red", True)
    assert list(SHAPES.options("square")) == ["side", "colour", "filled"]
    assert SHAPES.options("square")["colour"].default == "red"


def test_an_entry_point_may_be_a_function_and_names_its_package(outside: Install) -> None:
    outside("more-shapes", {"more/shapes.py": OWN}, triangle="more.shapes:make")
    assert SHAPES.names() == ["counter", "square", "triangle"]
    assert SHAPES.create("triangle", corners=4) == ("made", 4)
    assert (SHAPES.package("triangle"), SHAPES.package("square")) == ("more-shapes", None)


def test_a_class_by_its_place() -> None:
    assert SHAPES.create("own_shapes:Square", side=3).side == 3
    assert SHAPES.package("own_shapes:Square") == "own_shapes"


def test_listing_names_imports_nothing(outside: Install) -> None:
    outside("heavy-shapes", {"heavy/shapes.py": "raise SystemExit"}, heavy="heavy.shapes:Heavy")
    assert "heavy" in SHAPES.names()
    assert "heavy" not in sys.modules


def test_what_the_caller_gives_is_no_option(outside: Install) -> None:
    sized: Registry[Any] = Registry("shape", SHAPES.table, GROUP, given=("side",))
    assert sized.create("square", 5, colour="blue").side == 5
    assert list(sized.options("square")) == ["colour", "filled"]
    for name in ("square", "own_shapes:Any"):
        with pytest.raises(UsageError, match="has no option 'side'"):
            sized.create(name, 5, side=6)
    outside("more-shapes", {"more/shapes.py": OWN}, triangle="more.shapes:make")
    with pytest.raises(UsageError, match="'triangle' takes no 'side', which it would be given"):
        sized.create("triangle", 5)


def test_a_class_with_keywords_takes_any_option() -> None:
    assert SHAPES.create("own_shapes:Any", one=1, two=2).options == {"one": 1, "two": 2}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sqare", {}, "shape 'sqare' is unknown; did you mean 'square'?"),
        ("zzz", {}, "shape 'zzz' is unknown; known: counter, square"),
        (
            "own_shapes.Square",
            {},
            "shape 'own_shapes.Square' is unknown; did you mean 'square'?; a class of another package is named as "
            "package.module:Class",
        ),
        ("square", {"side": 1, "color": 2}, "shape 'square' has no option 'color'; did you mean 'colour'?"),
        ("square", {"side": 1, "zzz": 2}, "shape 'square' has no option 'zzz'; known: colour, filled, side"),
        ("square", {}, "shape 'square' needs the option 'side', which has no default"),
        (
            "nowhere.shapes:Square",
            {},
            "shape 'nowhere.shapes:Square': there is no module 'nowhere': install its package, or put its folder on "
            "PYTHONPATH",
        ),
        ("own_shapes:Sqare", {}, "shape 'own_shapes:Sqare': own_shapes has no 'Sqare'; did you mean 'Square'?"),
        ("own_shapes:NUMBER", {}, "shape 'own_shapes:NUMBER' is int 7: expected a class or function"),
        (
            "own_shapes:make",
            {},
            "shape 'own_shapes:make' is no class: name one, or offer it by an entry point",
        ),
        (
            "own_shapes.broken:Square",
            {},
            "shape 'own_shapes.broken:Square': own_shapes.broken cannot be imported: ZeroDivisionError: division by "
            "zero",
        ),
        (
            "own_shapes.needy:Square",
            {},
            "shape 'own_shapes.needy:Square': own_shapes.needy needs a_library_nobody_has, which is not installed",
        ),
        ("own_shapes:Fragile", {"side": 2}, "shape 'own_shapes:Fragile' cannot be made with side=2: KeyError: 2"),
        (":Square", {}, "shape ':Square' is not of the form package.module:Class"),
        ("own_shapes:", {}, "shape 'own_shapes:' is not of the form package.module:Class"),
        ("own shapes:Square", {}, "shape 'own shapes:Square' is not of the form package.module:Class"),
    ],
)
def test_what_cannot_be_made_is_told_in_one_line(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        SHAPES.create(name, **options)
    assert str(caught.value) == message


def test_an_entry_point_that_cannot_be_imported_names_its_package(outside: Install) -> None:
    outside("bad-shapes", {"bad/shapes.py": "1 / 0"}, bad="bad.shapes:Bad", gone="bad.gone:Gone")
    with pytest.raises(UsageError, match=r"^shape 'bad' of package bad-shapes: bad\.shapes cannot be imported: Zero"):
        SHAPES.create("bad")
    with pytest.raises(UsageError, match=r"^shape 'gone' of package bad-shapes: there is no module 'bad\.gone'"):
        SHAPES.create("gone")


def test_a_name_that_two_packages_offer_is_refused_and_both_are_named(outside: Install) -> None:
    outside("shapes-a", {"a/shapes.py": OWN}, round="a.shapes:make")
    outside("shapes-b", {"b/shapes.py": OWN}, round="b.shapes:make", square="b.shapes:Square")
    with pytest.raises(UsageError) as caught:
        SHAPES.create("round")
    assert str(caught.value) == (
        "shape 'round' is offered by shapes-a (a.shapes:make) and shapes-b (b.shapes:make): name the one that is meant "
        "as module:Class"
    )
    with pytest.raises(UsageError, match=r"offered by fullscale \(own_shapes:Square\) and shapes-b"):
        SHAPES.create("square", side=1)


def test_a_class_by_its_place_must_be_of_the_kind() -> None:
    errors: Registry[Any] = Registry("error", {}, GROUP, base="builtins:Exception")
    assert isinstance(errors.create("json:JSONDecodeError", msg="no", doc="", pos=0), ValueError)
    with pytest.raises(UsageError, match=r"error 'os:system' is no class derived from builtins\.Exception"):
        errors.create("os:system", command="true")


def test_the_nearest_name_does_not_mind_capitals_and_a_long_list_is_cut() -> None:
    assert nearest("UNET", ["unet", "pspnet"]) == "; did you mean 'unet'?"
    assert nearest("encoder_name", ["encoder", "width"]) == "; did you mean 'encoder'?"
    assert nearest("x", []) == ""
    assert nearest("x", [f"name{i:02}" for i in range(50)]).endswith("name39 and 10 more")
