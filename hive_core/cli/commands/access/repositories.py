"""The commands `diff` and `fetch`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from hive_core.cli.access import git
from hive_core.cli.arguments import agent_argument, complete_repositories, pager_option
from hive_core.cli.client import Client
from hive_core.cli.output import page

_repository = click.argument("repository", metavar="[REPO]", default="", shell_complete=complete_repositories)


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
    lines = map(_coloured, git.diff_lines(Client(socket), name, repository, against))
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
@click.pass_obj
def fetch(socket: str | None, name: str, repository: str, into: Path) -> int:
    """Fetch an agent's branches into a repository of yours.

    They become refs/hive/NAME/*; branches, tags and files of yours are not touched. Git of this host checks every
    object and runs no hook. REPO is as for "diff".

    \b
    Examples:
      hive-c0re fetch ada
      hive-c0re fetch ada web --into ~/src/web
    """
    code = git.fetch(Client(socket), name, repository, into)
    if not code:
        click.echo(f"the branches of {name} are refs/hive/{name}/*: git log refs/hive/{name}/main")
    return code


def _coloured(line: str) -> str:
    if line.startswith("+"):
        return click.style(line, fg="green")
    if line.startswith("-"):
        return click.style(line, fg="red")
    return click.style(line, fg="cyan") if line.startswith("@@") else line
