"""The commands `diff` and `fetch`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from pydantic import TypeAdapter, ValidationError

from hive_core.cli.access.git.diff import diff_lines
from hive_core.cli.access.git.fetch import fetch as fetch_branches
from hive_core.cli.access.git.limits import FetchLimits
from hive_core.cli.access.git.target import Target
from hive_core.cli.arguments import agent_argument, complete_repositories, pager_option
from hive_core.cli.client import Client
from hive_core.cli.output import page
from hive_core.protocol.config.limits import MemorySize, memory_bytes

_SIZES: TypeAdapter[str] = TypeAdapter(MemorySize)
_repository = click.argument("repository", metavar="[REPO]", default="", shell_complete=complete_repositories)


class _Size(click.ParamType[int]):
    """A size such as `512M` or `3G`; the value is in bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return memory_bytes(_SIZES.validate_python(value))
        except ValidationError:
            self.fail(f"{value!r} is no size: write 512M or 3G", param, ctx)


@click.command()
@agent_argument
@_repository
@click.option("--against", metavar="COMMIT", default="HEAD", show_default=True, help="Compare with another commit.")
@pager_option
@click.pass_obj
def diff(socket: str | None, name: str, repository: str, against: str, pager: bool) -> None:
    """Show what an agent has changed in its working tree.

    REPO is a repository in the agent's /code, or a path in the agent; it may be left out if there is one. Git runs in
    the agent, so what is shown is the agent's word.

    \b
    Examples:
      hive-c0re diff ada
      hive-c0re diff ada web --against origin/main
    """
    lines = map(_coloured, diff_lines(Client(socket), name, repository, against))
    if sys.stdout.isatty():
        page(list(lines), pager)
        return
    for line in lines:
        click.echo(line)


@click.command()
@agent_argument
@_repository
@click.option(
    "--into",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=".",
    help="Repository of this host; that of the current directory unless given.",
)
@click.option(
    "--max-size",
    metavar="SIZE",
    type=_Size(),
    default="1G",
    show_default=True,
    help="Most that it sends, in MiB or GiB: 512M, 3G.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=900.0,
    show_default=True,
    help="Seconds that it may take.",
)
@click.pass_obj
def fetch(socket: str | None, name: str, repository: str, into: Path, max_size: int, timeout: float) -> int:
    """Fetch an agent's branches into a repository of yours.

    They become refs/hive/NAME/*; branches, tags and files of yours are not touched. Git of this host checks every
    object and runs no hook. At most 1,000 branches are taken; of an agent that sends more than is taken, or too slowly,
    nothing is kept. REPO is as for "diff".

    \b
    Examples:
      hive-c0re fetch ada
      hive-c0re fetch ada web --into ~/src/web
    """
    limits = FetchLimits(bytes=max_size, seconds=timeout)
    code = fetch_branches(Client(socket), name, repository, into, limits)
    if not code:
        branches = list(Target(into).branches(name))
        shown = f": git log {branches[0]}" if branches else ", and it has none"
        click.echo(f"the branches of {name} are refs/hive/{name}/*{shown}")
    return code


def _coloured(line: str) -> str:
    if line.startswith("+"):
        return click.style(line, fg="green")
    if line.startswith("-"):
        return click.style(line, fg="red")
    return click.style(line, fg="cyan") if line.startswith("@@") else line
