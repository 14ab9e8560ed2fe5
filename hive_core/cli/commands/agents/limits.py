"""The command `limits`."""

from __future__ import annotations

from typing import Any

import click

from hive_core.cli.arguments import agent_argument, json_option, print_json
from hive_core.cli.client import Client, agent_path
from hive_core.cli.output import Column, coloured_agent, render, width
from hive_core.text import escaped_line, format_bytes

LIMIT_COLUMNS = (Column("LIMIT", 9), Column("CONFIGURED", 7), Column("IN FORCE", 8), Column("USED", 6))


@click.command()
@agent_argument
@click.option("--memory", "memory_max", metavar="SIZE", help="Most memory, in MiB or GiB: 512M, 3G.")
@click.option(
    "--disk", "disk_max", metavar="SIZE", help="All that it can write, in MiB or GiB, where there are disk quotas."
)
@click.option("--cpu", "cpu_quota", type=int, metavar="PERCENT", help="Most processor time, in percent of one core.")
@click.option("--tasks", "tasks_max", type=int, metavar="N", help="Most processes and threads.")
@click.option("--io-weight", type=int, metavar="N", help="Share of the disk; 100 is everybody's.")
@click.option("--reset", is_flag=True, help="Go back to what is configured; the other options are applied after that.")
@json_option
@click.pass_obj
def limits(
    socket: str | None,
    /,
    name: str,
    reset: bool,
    as_json: bool,
    **asked: str | int | None,
) -> None:
    """Show or change an agent's resource limits.

    Without options nothing is changed. A change takes effect at once, without a restart, and lasts until the agent is
    started or deployed again. For a permanent change propose another agent.toml.

    \b
    Examples:
      hive-c0re limits ada
      hive-c0re limits ada --memory 2G --cpu 150
      hive-c0re limits ada --reset
    """
    given: dict[str, object] = {key: value for key, value in asked.items() if value is not None}
    client, path = Client(socket), agent_path(name, "limits")
    answer = client.post(path, {**given, "reset": reset}) if given or reset else client.get(path)
    if as_json:
        print_json(answer)
        return
    for line in render(LIMIT_COLUMNS, _limit_rows(answer), width()):
        click.echo(line)
    has_disk = (answer.get("in_force") or {}).get("disk_max") is not None
    if answer.get("enforced") is not True:
        left = "no other limit" if has_disk else "none"
        click.echo(f"the runtime of this hive does not enforce limits, so {coloured_agent(name)} has {left}", err=True)
    if (answer.get("configured") or {}).get("disk_max") is not None and not has_disk:
        why = escaped_line(str(answer.get("disk_problem") or "the agent was not started since the daemon's start"))
        click.echo(f"disk_max is not enforced: {why}", err=True)


def _limit_rows(answer: dict[str, Any]) -> list[list[str]]:
    configured, in_force, usage = (answer.get(key) or {} for key in ("configured", "in_force", "usage"))
    used = {
        "memory_max": _bytes(usage.get("memory_bytes")),
        "disk_max": _bytes(usage.get("disk_bytes")),
        "cpu_quota": _cpu_time(usage.get("cpu_seconds")),
        "tasks_max": _plain(usage.get("tasks")),
        "io_weight": "",
    }
    formats = {
        "memory_max": _plain,
        "disk_max": _plain,
        "cpu_quota": _percent,
        "tasks_max": _plain,
        "io_weight": _plain,
    }
    rows = []
    for key, label in (
        ("memory_max", "memory"),
        ("disk_max", "disk"),
        ("cpu_quota", "cpu"),
        ("tasks_max", "tasks"),
        ("io_weight", "io weight"),
    ):
        cells = [label, formats[key](configured.get(key)), formats[key](in_force.get(key)), used[key]]
        rows.append([escaped_line(cell) for cell in cells])
    return rows


def _plain(value: object) -> str:
    return "-" if value is None else str(value)


def _percent(value: object) -> str:
    return "-" if value is None else f"{value} %"


def _cpu_time(value: object) -> str:
    return f"{value:.1f} s in all" if isinstance(value, int | float) else "-"


def _bytes(value: object) -> str:
    return format_bytes(value) if isinstance(value, int) else "-"
