"""References that are made of the program: its commands, its settings, and its Python names."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

import fullscale
from fullscale.cli.app import app
from fullscale.config.load import load_config
from fullscale.training.choices import REGISTRIES, setting_rows


def commands_page() -> str:
    """Describe every command with its arguments and options."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    parts = [
        "# Commands and their options",
        "",
        "Each command explains itself with `--help`; this page says the same.",
        "",
    ]
    for name, command in _commands(group, "fullscale"):
        parts += _command(name, command)
    return "\n".join(parts)


def settings_page() -> str:
    """List every setting with its default, and the names to choose from."""
    rows = [
        (f"`{key}`", "automatic" if value is None else f"`{value}`", text)
        for key, value, text in setting_rows(load_config(None, []))
    ]
    names = [(f"`{section}.name`", ", ".join(f"`{n}`" for n in kinds.names())) for section, kinds in REGISTRIES.items()]
    return "\n".join(
        [
            "# Settings",
            "",
            "`fullscale train DATA key=value ...` takes them. `fullscale settings` prints them, and those of other",
            "networks, losses and optimisers: `fullscale settings network.name=unet++`. The plan chooses what is",
            "automatic.",
            "",
            *_table(("setting", "default", "what it does"), rows),
            "",
            "## Names to choose from",
            "",
            *_table(("setting", "names"), names),
            "",
        ]
    )


def python_page() -> str:
    """List the public Python names; Sphinx takes the rest from their docstrings."""
    parts = ["# Python", "", "What `import fullscale` offers. Arrays have the shapes and units that are said.", ""]
    for name in fullscale.__all__:
        thing = getattr(fullscale, name)
        kind = "autoclass" if inspect.isclass(thing) else "autofunction"
        home = f"{thing.__module__}.{thing.__qualname__}"
        parts += [f"## {name}", "", "```{eval-rst}", f".. {kind}:: {home}"]
        if kind == "autoclass":
            parts.append("   :members:")
        parts += ["```", ""]
    return "\n".join(parts)


def _commands(group: TyperGroup, path: str) -> Iterator[tuple[str, TyperCommand]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from _commands(command, f"{path} {name}")
        elif isinstance(command, TyperCommand):
            yield f"{path} {name}", command


def _command(name: str, command: TyperCommand) -> list[str]:
    arguments = [p for p in command.params if isinstance(p, TyperArgument)]
    options = [p for p in command.params if isinstance(p, TyperOption)]
    usage = " ".join([name, *(_shown(argument) for argument in arguments), "[OPTIONS]"])
    rows = [(f"`{_shown(a)}`", "" if a.required else "optional", _text(getattr(a, "help", ""))) for a in arguments]
    rows += [(", ".join(f"`{o}`" for o in option.opts), _default(option), _text(option.help)) for option in options]
    text = inspect.cleandoc(command.help or "")
    return [f"## {name}", "", "```text", usage, "```", "", text, "", *_table(("", "default", ""), rows), ""]


def _shown(argument: TyperArgument) -> str:
    name = str(argument.name).upper() + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name.strip('[]')}]"


def _default(option: TyperOption) -> str:
    value = option.default
    return "" if value is None or value is False or callable(value) or value == [] else f"`{value}`"


def _text(text: str | None) -> str:
    return " ".join((text or "").split())


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    cells = [tuple(cell.replace("|", "\\|").replace("<", "&lt;") for cell in row) for row in rows]
    return [
        "| " + " | ".join(heads) + " |",
        "|" + " --- |" * len(heads),
        *("| " + " | ".join(row) + " |" for row in cells),
    ]
