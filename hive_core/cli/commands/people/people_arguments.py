"""Parameters that the commands about people share."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import quote

import click
from click.shell_completion import CompletionItem

from hive_core.cli.arguments import ask_for_completion
from hive_core.cli.errors import Failure
from hive_core.cli.output import is_interactive, now
from hive_core.protocol.names import is_person_name, why_no_person_name

ROLES = ("viewer", "operator", "admin")


def person_path(name: str, action: str) -> str:
    """Return the URL path of an account. An invalid name could reach another path, so it raises Failure."""
    if not is_person_name(name):
        raise Failure("bad_name", why_no_person_name(name), hint='"hive-c0re operator list" shows the accounts')
    return f"/v1/people/{quote(name)}/{action}"


def complete_people(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of an account."""
    answer = ask_for_completion(ctx, lambda client: client.get("/v1/people"))
    found: list[dict[str, Any]] = answer.get("people", [])
    named = ((str(each.get("name")), str(each.get("role"))) for each in found)
    return [CompletionItem(name, help=role) for name, role in named if name.startswith(incomplete)]


def confirm_or_yes(context: click.Context, yes: bool, question: str) -> None:
    """Ask on the terminal unless `yes` is given. Raises UsageError if nobody can be asked."""
    if yes:
        return
    if not is_interactive():
        raise click.UsageError("To confirm this, add --yes.", context)
    click.confirm(question, abort=True, err=True)


def in_minutes(end: object) -> str:
    """Format the time until an ISO time, in minutes."""
    left = (datetime.fromisoformat(str(end)) - now()).total_seconds()
    return f"{max(1, round(left / 60))} minutes"
