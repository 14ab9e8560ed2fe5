"""`hive-c0re doctor`: what is missing or wrong on this host."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from hive_core.cli import colours
from hive_core.cli.client import Client
from hive_core.cli.failure import Failure
from hive_core.cli.json_output import json_option, print_json
from hive_core.cli.untrusted import one_line

_COLOURS = {"ok": "idle", "warning": "thinking", "error": "failed"}
"""Lifecycles and states that are shown in the colours of well, doubtful and in trouble."""
_WIDE = len("warning")


@click.command()
@click.option("--config", "file", type=click.Path(path_type=Path), help="The daemon's settings, as TOML.")
@json_option
@click.pass_obj
def doctor(socket: str | None, file: Path | None, as_json: bool) -> int:
    """Look for what is missing or wrong on this host.

    Each finding has what is to be done about it. Works without a daemon, and changes nothing. The exit code is 1 if
    anything is wrong; warnings alone are not. As root it sees most.
    """
    # What it is made of is the daemon's, and takes the time that no other command should pay.
    from hive_core.doctor import Unanswered, examine, healthy  # noqa: PLC0415

    client = Client(socket)

    def ask(path: str) -> dict[str, Any]:
        try:
            return client.get(path)
        except Failure as failure:
            raise Unanswered(failure.code, failure.message, failure.hint) from None

    findings = examine(file, os.environ, client.path, ask)
    well = healthy(findings)
    if as_json:
        shown = [
            {"check": each.check, "severity": each.severity, "what": each.what, "remedy": each.remedy}
            for each in findings
        ]
        print_json({"healthy": well, "findings": shown})
        return 0 if well else 1
    for each in findings:
        click.echo(f"{colours.state(_COLOURS[each.severity], each.severity.ljust(_WIDE))}  {one_line(each.what)}")
        if each.remedy:
            click.echo(f"{' ' * _WIDE}  {colours.dim(one_line(each.remedy))}")
    counts = {severity: sum(each.severity == severity for each in findings) for severity in ("error", "warning")}
    click.echo(f"{'healthy' if well else 'not healthy'}: errors: {counts['error']}, warnings: {counts['warning']}")
    return 0 if well else 1
