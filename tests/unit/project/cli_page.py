"""The page docs/cli.md, made from the commands themselves: `python -m tests.unit.project.cli_page` writes it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from hive_core.cli import ALIASES, COMMANDS, SECTIONS, main

PAGE = Path(__file__).parents[3] / "docs" / "cli.md"
_HEAD = """# The command line

Every command of `hive-c0re`, as `hive-c0re COMMAND --help` shows it. This page is made from the program. What the
commands are for, and how they fit together, is in [operating.md](operating.md); terms are in the
[glossary](glossary.md). Every command has `-h` and `--help`, too.
"""


def render() -> str:
    """Return the text of the page."""
    return "\n".join([_HEAD, *_parts()]).rstrip("\n") + "\n"


def _parts() -> Iterator[str]:
    assert isinstance(main, click.Group)
    context = click.Context(main, info_name="hive-c0re")
    for title, names in SECTIONS.items():
        found = [name for name in names if name in COMMANDS]
        if found:
            yield f"## {title}\n"
        for name in found:
            command = main.get_command(context, name)
            assert command is not None
            yield from _command(command, name, context)


def _command(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent)
    words = context.command_path.removeprefix("hive-c0re ")
    yield f"### {words}\n"
    pieces = [piece for piece in command.collect_usage_pieces(context) if piece != "[OPTIONS]"]
    if not isinstance(command, click.Group):
        yield f"`{' '.join([context.command_path, *pieces])}`\n"
    also = ", ".join(f"`{alias}`" for alias, meant in ALIASES.items() if meant == words)
    if also:
        yield f"Also {also}.\n"
    yield from _text(inspect.cleandoc(command.help or ""))
    for each in command.get_params(context):
        record = each.get_help_record(context)
        if record is not None and "--help" not in each.opts:
            yield f"- `{record[0]}`: {record[1]}"
    yield ""
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None
            yield from _command(found, below, context)


def _text(text: str) -> Iterator[str]:
    """Yield the paragraphs; those that click does not wrap are examples."""
    for paragraph in text.split("\n\n"):
        if paragraph.startswith("\b\n"):
            title, *lines = paragraph.removeprefix("\b\n").split("\n")
            yield title + "\n"
            yield "```sh\n" + "\n".join(line.strip() for line in lines) + "\n```\n"
        else:
            yield paragraph + "\n"


if __name__ == "__main__":
    PAGE.write_text(render())
