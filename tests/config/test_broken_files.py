"""Configurations and recipes broken at random: each is read, or refused in one line that names it."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from fullscale.compare.comparison import load_comparison
from fullscale.config.load import dump_yaml, load_config
from fullscale.errors import FullscaleError

RECIPES = [path.read_text() for path in sorted((Path(__file__).resolve().parents[2] / "recipes").glob("*.yaml"))]
JUNK = ["null", "[]", "{}", "-1", "1e999", ".nan", "'x'", "[1,[2]]", "{a: {b: c}}", "2024-13-45", "&a [*a]", "? [a]: b"]
CODES = [0, 9, 10, 34, 123, 91, 58, 65, 233, 0x1F600]


def broken(text: str, rng: random.Random) -> str:
    lines = text.splitlines()
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(lines))
        line = lines[at]
        cut = rng.randrange(len(line) + 1)
        lines[at] = rng.choice(
            [
                line[:cut],
                f"{line.partition(':')[0]}: {rng.choice(JUNK)}",
                f"{line}\n{rng.choice(JUNK)}",
                line[:cut] + chr(rng.choice(CODES)) + line[cut + 1 :],
                "",
            ]
        )
    return "\n".join(lines)


def read_recipe(path: Path) -> None:
    comparison = load_comparison(path)
    for row in comparison.rows:
        try:
            comparison.config(row)
        except FullscaleError as error:
            raise FullscaleError(f"{path}: {error}") from error


@pytest.mark.parametrize(
    ("read", "texts", "files"),
    [(load_config, [dump_yaml(load_config(None, ["network.width=4"]))], 150), (read_recipe, RECIPES, 45)],
    ids=["configuration", "recipe"],
)
def test_a_broken_file_is_read_or_refused_in_one_line(
    read: Callable[[Path], object], texts: list[str], files: int, tmp_path: Path
) -> None:
    rng, path, refusals = random.Random(0), tmp_path / "some.yaml", []
    for _ in range(files):
        path.write_text(broken(rng.choice(texts), rng))
        try:
            read(path)
        except FullscaleError as error:
            refusals.append(str(error))
    assert len(refusals) > files // 3
    assert [line for line in refusals if str(path) not in line or "\n" in line] == []
