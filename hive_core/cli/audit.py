"""`hive-c0re audit`: who did or tried what."""

from __future__ import annotations

import json
from typing import Any

import click

from hive_core.cli import colours
from hive_core.cli.arguments import complete_agents
from hive_core.cli.client import Client
from hive_core.cli.json_output import json_option, print_json
from hive_core.cli.output import Column, render
from hive_core.cli.terminal import width
from hive_core.cli.times import moment
from hive_core.cli.untrusted import one_line

_PATIENCE_SECONDS = 3_600.0


@click.group(options_metavar="")
def audit() -> None:
    """Read the audit table, and check it."""


def _outcome(text: str, padded: str) -> str:
    return colours.dim(padded) if text == "ok" else colours.state("failed", padded)


COLUMNS = (
    Column("ID", 5, right=True),
    Column("AT", 6),
    Column("ACTOR", 8),
    Column("ACTION", 9),
    Column("SUBJECT", 7),
    Column("OUTCOME", 4, style=_outcome),
    Column("DETAIL", 3),
)


@audit.command("show")
@click.option("--subject", metavar="AGENT", shell_complete=complete_agents, help="Rows about this agent only.")
@click.option("-n", "--limit", type=int, default=100, show_default=True, help="Most rows to show, the newest.")
@click.option("--before", type=int, metavar="ID", help="Show rows older than this one.")
@json_option
@click.pass_obj
def show(socket: str | None, subject: str | None, limit: int, before: int | None, as_json: bool) -> None:
    """Show who did or tried what, the newest first."""
    answer = Client(socket).get("/v1/audit", {"subject": subject, "limit": limit, "before": before})
    if as_json:
        print_json(answer)
        return
    rows = answer.get("rows", [])
    if not rows:
        click.echo("no rows to show", err=True)
        return
    for line in render(COLUMNS, [_row(row) for row in rows], width()):
        click.echo(line)


@audit.command("verify")
@json_option
@click.pass_obj
def verify(socket: str | None, as_json: bool) -> int:
    """Check the chain of the audit table, and the tags against it.

    Finds rows that were changed, removed, put in or reordered, and tags that were moved or removed. The exit code is 1
    if anything is wrong.
    """
    answer = Client(socket).get("/v1/audit/verify", wait=_PATIENCE_SECONDS)
    holds = answer.get("ok") is True
    if as_json:
        print_json(answer)
    elif holds:
        click.echo(f"all is well: {answer.get('rows')} rows, {answer.get('tags')} tags")
    else:
        for problem in answer.get("problems", []):
            click.echo(colours.state("failed", one_line(str(problem))))
        checked = f"{answer.get('rows')} rows and {answer.get('tags')} tags"
        click.echo(f"hive-c0re: something has been changed; checked: {checked}", err=True)
    return 0 if holds else 1


def _row(row: dict[str, Any]) -> list[str]:
    detail = row.get("detail")
    cells = [
        row.get("id"),
        moment(row.get("at")),
        row.get("actor"),
        row.get("action"),
        row.get("subject"),
        row.get("outcome"),
        json.dumps(detail) if detail else "",
    ]
    return [one_line(str(cell)) for cell in cells]
