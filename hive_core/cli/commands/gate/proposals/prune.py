"""The command `proposals prune`."""

from __future__ import annotations

import re
from typing import Any

import click

from hive_core.cli.arguments import complete_agents, json_option, print_json
from hive_core.cli.client import Client
from hive_core.cli.output import coloured_agent
from hive_core.text import escaped_line, format_bytes

_PATIENCE_SECONDS = 3_600.0
_SHOWN_NUMBERS = 20
_AGE = re.compile(r"(?P<number>[0-9]{1,6}(?:\.[0-9]{1,6})?)(?P<unit>[dhm]?)")
_DAYS = {"": 1.0, "d": 1.0, "h": 1 / 24, "m": 1 / 1_440}


class _Age(click.ParamType[float]):
    """An age such as `30d`, `12h` or `30m`; the value is in days."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = _AGE.fullmatch(str(value))
        if match is None:
            self.fail(f"{value!r} is no age: write 30d, 12h or 30m", param, ctx)
        return float(match["number"]) * _DAYS[match["unit"]]


@click.command()
@click.argument("agent", required=False, shell_complete=complete_agents)
@click.option(
    "--older-than",
    "days",
    type=_Age(),
    default="30d",
    show_default=True,
    help="Leave what has ended since, such as 12h; a plain number is days.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@json_option
@click.pass_obj
def prune(socket: str | None, agent: str | None, days: float, dry_run: bool, as_json: bool) -> None:
    """Remove the files of ended proposals.

    Proposals that were denied, withdrawn or failed lose their commits, build outputs and build logs, which makes room
    below proposal_space. Who proposed and decided what, and why, stays in the tags and the audit table. Nothing is
    removed of open proposals, of deployments, or that these need. Without AGENT it is done for all agents.

    \b
    Examples:
      hive-c0re proposals prune --dry-run
      hive-c0re proposals prune ada --older-than 30d
    """
    body = {"agent": agent, "older_than_days": days, "dry_run": dry_run}
    answer = Client(socket).post("/v1/proposals/prune", body, wait=_PATIENCE_SECONDS)
    if as_json:
        print_json(answer)
        return
    limit, found = int(answer.get("limit_bytes", 0)), answer.get("agents", [])
    for one in found:
        if one.get("proposals"):
            click.echo(_line(one, limit, dry_run=dry_run))
    if not any(one.get("proposals") for one in found):
        click.echo("there is nothing to remove (--older-than 0d includes what has just ended)", err=True)


def _line(one: dict[str, Any], limit: int, *, dry_run: bool) -> str:
    numbers = [str(number) for number in one["proposals"]]
    shown = ", ".join(numbers[:_SHOWN_NUMBERS])
    if len(numbers) > _SHOWN_NUMBERS:
        shown += f" and {len(numbers) - _SHOWN_NUMBERS} more"
    freed, used = format_bytes(int(one.get("freed_bytes", 0))), format_bytes(int(one.get("used_bytes", 0)))
    what = f"would free about {freed}" if dry_run else f"freed {freed}"
    name = coloured_agent(escaped_line(str(one.get("agent"))))
    return f"{name}: proposals {shown}: {what}; {used} of {format_bytes(limit)} are used"
