"""What the README and the documentation say is so: snippets run, links lead somewhere, settings and commands exist."""

import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from fullscale.cli.app import app
from fullscale.config.load import configure
from fullscale.search.space import dimensions, parse_words
from fullscale.training.choices import REGISTRIES
from tests.conftest import QUICK, Command
from tests.words import read_by_the_command

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
PYTHON = ROOT / "docs" / "how-to" / "python.md"
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
BLOCK = re.compile(r"^(?:    |#   )(fullscale .*(?:(?<=\\)\n.*)*)", re.MULTILINE)
INLINE = re.compile(r"`(fullscale [^`]+)`")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_the_network_snippet_runs() -> None:
    snippets = re.findall(r"```python\n(.*?)```", PYTHON.read_text(), re.DOTALL)
    [network] = [snippet for snippet in snippets if "UNet3Plus" in snippet]
    names: dict[str, object] = {}
    exec(network.replace("classes=2)", "classes=2, width=8, skip_channels=8)"), names)
    assert names["logits"].shape == (2, 2, 96, 100)  # type: ignore[attr-defined]


def test_the_scan_snippet_runs(
    trained_run: Path, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snippets = re.findall(r"```python\n(.*?)```", PYTHON.read_text(), re.DOTALL)
    [scan] = [snippet for snippet in snippets if "Predictor" in snippet]
    (tmp_path / "scan.nii.gz").symlink_to(phantoms / "imagesTs" / "phantom_006.nii.gz")
    (tmp_path / "run").symlink_to(trained_run)
    monkeypatch.chdir(tmp_path)
    exec(scan, {})
    assert (tmp_path / "mask.nii.gz").is_file()


def test_the_page_on_channels_does_what_it_says(
    fullscale: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "how-to" / "channels.md").read_text()
    monkeypatch.chdir(tmp_path)
    [draw, *others] = list(commands_in(page))
    assert fullscale(*draw[1:]).returncode == 0
    [snippet] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(snippet, {})
    [inspect] = [words for words in others if words[1] == "inspect" and words[2] == "cases.csv"]
    shown = fullscale(*inspect[1:])
    assert "channels: ct, inverse" in shown.stdout
    assert "6 labelled cases, 6 of them usable" in shown.stdout
    assert "spleen" in shown.stdout


@pytest.mark.slow
def test_the_walk_through_several_channels_ends_with_a_report(
    fullscale: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "how-to" / "channels.md").read_text().partition("## Channels on different grids")[0]
    monkeypatch.chdir(tmp_path)
    [draw, *others] = list(commands_in(page))
    assert fullscale(*draw[1:]).returncode == 0
    [snippet] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(snippet, {})
    walk = [words for words in others if len(words) > 3 or words[1] == "report"]
    assert [words[1] for words in walk] == ["inspect", "train", "predict", "evaluate", "overlay", "report"]
    for words in walk:
        given = [word for word in words[1:] if not word.startswith("trainer.max_minutes")]
        done = fullscale(*given, *(QUICK if words[1] == "train" else []))
        assert done.returncode == 0, done.stderr
    for file in ("scores/summary.json", "overlay.png", "run/report.html"):
        assert (tmp_path / file).is_file()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere_and_settings_exist(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert target.startswith("http") or (page.parent / target).exists(), target
    for setting in re.findall(r"\b(?:network|loss|optimizer|augment|data|trainer)\.\w+=[\w.\[\],+-]+", text):
        searched, given = parse_words([setting.rstrip(".,")])
        values = [(d.key, value) for d in dimensions(searched) for value in d.samples] or list(given.items())
        config, *_ = [configure([value]) for value in values]
        for section, registry in REGISTRIES.items():
            for option in getattr(config, section).options:
                known = {name for own in registry.table for name in registry.options(own)}
                assert option in known or page.name == "plugins.md", f"no {section} of ours has the option {option}"


def commands_in(text: str) -> Iterator[list[str]]:
    """The words of every fullscale command of a page: in blocks, with their continued lines, and within a line."""
    for command in BLOCK.findall(text):
        yield shlex.split(re.sub(r"\\\n(#)?", " ", command), comments=True)
    for command in INLINE.findall(text):
        yield shlex.split(" ".join(command.split()).replace("...", ""))


def read_in_prose(words: list[str]) -> None:
    """Let the command read the words of a page, which may name a verb without the rest."""
    try:
        read_by_the_command(words[1:])
    except Exception as error:
        if type(error).__name__ not in ("MissingParameter", "NoArgsIsHelpError"):
            raise


@pytest.mark.parametrize("page", [*PAGES, *RECIPES], ids=name_of)
def test_every_command_that_is_shown_is_one_that_the_program_reads(page: Path) -> None:
    for words in commands_in(page.read_text()):
        try:
            read_in_prose(words)
        except Exception as error:
            raise AssertionError(f"{shlex.join(words)}: {error}") from error


def test_an_option_or_verb_that_does_not_exist_is_noticed() -> None:
    text = "    fullscale train DATA --no-such-option   # wrong\n\n`fullscale predict run --format\nno-such-format`\n"
    first, second = commands_in(text)
    assert first == ["fullscale", "train", "DATA", "--no-such-option"]
    for words in (first, second, ["fullscale", "no-such-verb"], ["fullscale", "bench", "nothing"]):
        with pytest.raises(Exception, match=r"no-such|nothing"):
            read_in_prose(words)


def options(command: Any) -> set[str]:
    own = {name for parameter in command.params for name in parameter.opts}
    return own.union(*(options(sub) for sub in getattr(command, "commands", {}).values()), {"--help"})


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_option_that_the_prose_names_exists(page: Path) -> None:
    spans = re.findall(r"`([^`\n]*)`", page.read_text())
    ours = [span for span in spans if not span.startswith("dask ")]
    named = {option for span in ours for option in re.findall(r"(?<![\w-])(--[a-z][a-z0-9-]*)", span)}
    assert named <= options(get_command(app)), sorted(named - options(get_command(app)))


def test_every_verb_that_a_page_names_exists_and_every_verb_is_on_its_page() -> None:
    verbs = {item.name for item in (*app.registered_commands, *app.registered_groups)}
    written = {
        page: set(re.findall(r"(?:^    |`)fullscale ([a-z-]+)", page.read_text(), re.MULTILINE)) for page in PAGES
    }
    assert all(named <= verbs for named in written.values())
    assert written[ROOT / "docs" / "commands.md"] == verbs


def test_the_map_names_every_file_once_and_is_drawn_from_the_source() -> None:
    page, figure = ROOT / "docs" / "architecture.md", ROOT / "docs" / "architecture.svg"
    drawn = runpy.run_path(str(ROOT / "docs" / "draw_map.py"))
    assert page.read_text() == drawn["page"](page.read_text()), "run make map"
    assert figure.read_text() == drawn["figure"](), "run make map"
    source = ROOT / "src" / "fullscale"
    listed = re.findall(r"^- \[`(.+?)`\]", page.read_text(), re.MULTILINE)
    files = [str(file.relative_to(source)) for file in source.rglob("*.py")]
    assert sorted(listed) == sorted(file for file in files if not file.endswith("__init__.py") or file in listed)
    assert all(line.partition("): ")[2] for line in page.read_text().splitlines() if line.startswith("- [`"))


def test_the_prose_of_the_map_names_files_that_exist() -> None:
    prose = (ROOT / "docs" / "architecture.md").read_text().partition("## Every file")[0]
    named = re.findall(r"`([\w/]+\.py)`", prose)
    assert len(named) > 30
    for file in named:
        assert (ROOT / "src" / "fullscale" / file).is_file() or (ROOT / file).is_file() or "NAME" in file, file
