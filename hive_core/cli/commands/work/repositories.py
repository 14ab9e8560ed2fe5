"""The group `repo`, and its commands `list`, `show` and `remove`."""

from __future__ import annotations

import re
import shlex
from datetime import datetime
from typing import Any

import click

from hive_core.cli.arguments import complete_repositories, json_option, print_json
from hive_core.cli.client import Client
from hive_core.cli.errors import Failure
from hive_core.cli.lazy import Lazy, LazyGroup
from hive_core.cli.output import Column, ago, coloured_state, dim, now, render, width
from hive_core.protocol.names import REPOSITORY_PATTERN, why_no_repository_name
from hive_core.text import escaped_line, format_bytes

COMMANDS = {
    "add": Lazy("hive_core.cli.commands.work.repository_changes:add", "Register a repository and fetch it."),
    "list": Lazy("hive_core.cli.commands.work.repositories:list_repositories", "List the repositories."),
    "show": Lazy("hive_core.cli.commands.work.repositories:show", "Show one repository and how it stands."),
    "set": Lazy("hive_core.cli.commands.work.repository_changes:change", "Change a repository."),
    "fetch": Lazy("hive_core.cli.commands.work.repository_changes:fetch", "Fetch a repository now."),
    "remove": Lazy("hive_core.cli.commands.work.repositories:remove", "Forget a repository; delete its mirror."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS, default="list", options_metavar="", subcommand_metavar="[COMMAND] [ARGS]...")
def repo() -> None:
    """Register, fetch and show the repositories that agents work on.

    Without a command it runs "list".
    """


def repository_path(name: str, action: str = "") -> str:
    """Return the URL path of a repository. An invalid name could reach another path, so it raises Failure."""
    if re.fullmatch(REPOSITORY_PATTERN, name) is None:
        hint = '"hive-c0re repo list" shows the names of the repositories'
        raise Failure("bad_repository_name", why_no_repository_name(name), hint=hint)
    return f"/v1/repositories/{name}{'/' + action if action else ''}"


repository_argument = click.argument("name", shell_complete=complete_repositories)
"""Argument NAME: a repository."""

_COLOURS = {"current": "running", "ahead": "built", "behind": "starting", "diverged": "failed", "failing": "failed"}
"""The states of agents and proposals whose colours the states of repositories have."""
_COLUMNS = (
    Column("NAME", 9),
    Column("BRANCH", 6),
    Column("STATE", 8, style=lambda text, padded: coloured_state(_COLOURS.get(text, text), padded)),
    Column("COMMIT", 4),
    Column("FETCHED", 3),
    Column("PUSH", 2),
    Column("SOURCE", 5),
)


@click.command("list")
@json_option
@click.pass_obj
def list_repositories(socket: str | None, as_json: bool) -> None:
    """List the repositories.

    STATE compares the branch with upstream's: current, behind, ahead (with landed commits that upstream lacks),
    diverged, or new (never fetched). It is failing if the last fetch failed; "hive-c0re repo show NAME" says why.

    \b
    Example:
      hive-c0re repo list
    """
    answer = Client(socket).get("/v1/repositories")
    if as_json:
        print_json(answer)
        return
    found = answer.get("repositories", [])
    if not found:
        click.echo('no repositories yet: register one with "hive-c0re repo add NAME URL"', err=True)
        return
    moment = now()
    for line in render(_COLUMNS, [_row(each, moment) for each in found], width()):
        click.echo(line)


def _state(repository: dict[str, Any]) -> str:
    state = str(repository.get("state"))
    return "failing" if repository.get("problem") and state != "diverged" else state


def _row(repository: dict[str, Any], moment: datetime) -> list[str]:
    cells = [
        repository.get("name"),
        repository.get("branch"),
        _state(repository),
        str(repository.get("commit") or "")[:10],
        ago(repository.get("fetched_at"), moment),
        repository.get("push"),
        repository.get("source") or repository.get("path"),
    ]
    return [escaped_line(str(cell)) for cell in cells]


@click.command()
@repository_argument
@json_option
@click.pass_obj
def show(socket: str | None, name: str, as_json: bool) -> None:
    """Show one repository: its branch and upstream's, its policy, its checks, and what is wrong.

    \b
    Example:
      hive-c0re repo show web
    """
    repository = Client(socket).get(repository_path(name))
    if as_json:
        print_json(repository)
        return
    print_repository(repository)


def print_repository(repository: dict[str, Any]) -> None:
    """Print all facts about a repository."""
    facts = [(label, fact) for label, fact in _facts(repository, now()) if fact]
    wide = max(len(label) for label, _ in facts)
    for label, fact in facts:
        click.echo(f"{dim(label.ljust(wide))}  {fact}")


def _facts(repository: dict[str, Any], moment: datetime) -> list[tuple[str, str]]:
    def text(key: str) -> str:
        return escaped_line(str(repository.get(key) or ""))

    state, fetched = _state(repository), ago(repository.get("fetched_at"), moment)
    credential = {"none": "none", "token": "a token", "ssh-key": "an SSH key"}.get(
        text("credential"), text("credential")
    )
    keys = ", ".join(escaped_line(f"{key['type']} {key['fingerprint']}") for key in repository.get("host_keys", []))
    checks = [
        f"{check['name']}: {shlex.join(check['argv'])} (at most {check['timeout_seconds']} s)"
        for check in repository.get("checks", [])
    ]
    left_out = int(repository.get("refs_left_out") or 0)
    refs = f"branches and tags: {repository.get('refs')}, {format_bytes(int(repository.get('bytes') or 0))}"
    return [
        ("Repository", text("name")),
        ("Source", text("source") or f"{text('path')}, read by the command line"),
        ("Branch", f"{text('branch')}, {coloured_state(_COLOURS.get(state, state), state)}"),
        ("Commit", text("commit")),
        ("Upstream", text("upstream") if text("upstream") != text("commit") else ""),
        ("Fetched", fetched or "never"),
        ("Fetching", text("activity")),
        ("Problem", text("problem")),
        ("What to do", text("advice")),
        ("Mirror", refs + (f"; {left_out} left out for their names" if left_out else "")),
        ("LFS", "used: the mirror holds the pointers, not the files" if repository.get("lfs") else ""),
        ("Submodules", "used: they are not fetched" if repository.get("submodules") else ""),
        ("Credential", credential),
        ("Host keys", keys),
        ("Push", text("push")),
        ("Merges", "allowed" if repository.get("merges") else "no, fast-forward only"),
        ("Review", text("review")),
        ("Instructions", "reach the agents" if repository.get("instructions") else "are kept from the agents"),
        ("Checks", escaped_line("; ".join(checks)) or "none"),
        ("Check hosts", escaped_line(", ".join(map(str, repository.get("check_hosts", []))))),
        ("Agents", ", ".join(map(str, repository.get("agents", []))) or "none"),
    ]


@click.command()
@repository_argument
@click.option("--force", is_flag=True, help="Also if agents use it: their clones lose the objects that they borrow.")
@json_option
@click.pass_obj
def remove(socket: str | None, name: str, force: bool, as_json: bool) -> None:
    """Forget a repository, with its credential, and delete its mirror.

    Landed commits that were not pushed are lost.

    \b
    Example:
      hive-c0re repo remove web
    """
    answer = Client(socket).post(repository_path(name, "remove"), {"force": force})
    if as_json:
        print_json(answer)
        return
    click.echo(f"{name} is removed", err=True)
