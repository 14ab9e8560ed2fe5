"""`hive-c0re limits`: what an agent may use, what it does use, and other limits while it runs."""

from __future__ import annotations

from typing import Any

import click

from hive_core.cli import colours
from hive_core.cli.arguments import agent_argument
from hive_core.cli.client import Client, agent_path
from hive_core.cli.json_output import json_option, print_json
from hive_core.cli.output import Column, render
from hive_core.cli.terminal import width
from hive_core.cli.untrusted import one_line

COLUMNS = (Column("LIMIT", 9), Column("CONFIGURED", 7), Column("IN FORCE", 8), Column("USED", 6))
_UNITS = (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024))


@click.command()
@agent_argument
@click.option("--memory", metavar="SIZE", help="Most memory, in MiB or GiB: 512M, 3G.")
@click.option("--cpu", type=int, metavar="PERCENT", help="Most processor time, in percent of one core.")
@click.option("--tasks", type=int, metavar="N", help="Most processes and threads.")
@click.option("--io-weight", type=int, metavar="N", help="Share of the disk; 100 is everybody's.")
@click.option("--reset", is_flag=True, help="Go back to what is configured; the other options are applied after that.")
@json_option
@click.pass_obj
def limits(
    socket: str | None,
    name: str,
    memory: str | None,
    cpu: int | None,
    tasks: int | None,
    io_weight: int | None,
    reset: bool,
    as_json: bool,
) -> None:
    """Show what an agent may use and does use, and change it.

    Without options nothing is changed. A change holds at once, without a restart, and until the agent is started or
    deployed anew; for one that lasts, propose another agent.toml.
    """
    asked = {"memory_max": memory, "cpu_quota": cpu, "tasks_max": tasks, "io_weight": io_weight}
    given: dict[str, object] = {key: value for key, value in asked.items() if value is not None}
    client, path = Client(socket), agent_path(name, "limits")
    answer = client.post(path, {**given, "reset": reset}) if given or reset else client.get(path)
    if as_json:
        print_json(answer)
        return
    for line in render(COLUMNS, _rows(answer), width()):
        click.echo(line)
    if answer.get("enforced") is not True:
        click.echo(f"the runtime of this hive does not enforce limits: {colours.agent(name)} has none", err=True)


def _rows(answer: dict[str, Any]) -> list[list[str]]:
    configured, in_force, usage = (answer.get(key) or {} for key in ("configured", "in_force", "usage"))
    used = {
        "memory_max": _bytes(usage.get("memory_bytes")),
        "cpu_quota": _cpu_time(usage.get("cpu_seconds")),
        "tasks_max": _plain(usage.get("tasks")),
        "io_weight": "",
    }
    told = {"memory_max": _plain, "cpu_quota": _percent, "tasks_max": _plain, "io_weight": _plain}
    rows = []
    for key, label in (
        ("memory_max", "memory"),
        ("cpu_quota", "cpu"),
        ("tasks_max", "tasks"),
        ("io_weight", "io weight"),
    ):
        cells = [label, told[key](configured.get(key)), told[key](in_force.get(key)), used[key]]
        rows.append([one_line(cell) for cell in cells])
    return rows


def _plain(value: object) -> str:
    return "-" if value is None else str(value)


def _percent(value: object) -> str:
    return "-" if value is None else f"{value} %"


def _cpu_time(value: object) -> str:
    return f"{value:.1f} s in all" if isinstance(value, int | float) else "-"


def _bytes(value: object) -> str:
    if not isinstance(value, int):
        return "-"
    for unit, size in _UNITS:
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value} B"
