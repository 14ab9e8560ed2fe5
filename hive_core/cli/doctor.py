"""`hive-c0re doctor`: what is missing or wrong on this host."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click

from hive_core.cli import colours
from hive_core.cli.client import Client
from hive_core.cli.errors import Failure
from hive_core.cli.json_output import json_option, print_json
from hive_core.cli.live_check import LiveCheck, Step
from hive_core.cli.untrusted import one_line

_COLOURS = {"ok": "idle", "warning": "thinking", "error": "failed"}
"""Lifecycles and states that are shown in the colours of well, doubtful and in trouble."""
_WIDE = len("warning")


_ENDING = (signal.SIGTERM, signal.SIGHUP)


@click.command()
@click.option("--config", "file", type=click.Path(path_type=Path), help="The daemon's settings, as TOML.")
@click.option("--live", is_flag=True, help="Then make an agent, reach it and remove it, with the running daemon.")
@click.option("--sealed", is_flag=True, help="With --live: the agent has a sealed network.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=1_800.0,
    show_default=True,
    help="With --live: seconds that each step may take.",
)
@json_option
@click.pass_context
def doctor(context: click.Context, file: Path | None, live: bool, sealed: bool, timeout: float, as_json: bool) -> int:
    """Look for what is missing or wrong on this host.

    Each finding has what is to be done about it. Works without a daemon, and changes nothing. The exit code is 1 if
    anything is wrong; warnings alone are not. As root it sees most.

    --live tries the rest out: a throwaway agent is made, built, started, asked and removed, and each step is shown with
    its time.
    """
    if sealed and not live:
        raise click.UsageError("--sealed is for --live.", context)
    # What it is made of is the daemon's, and takes the time that no other command should pay.
    from hive_core.doctor import Unanswered, examine, healthy  # noqa: PLC0415

    client = Client(context.obj)

    def ask(path: str) -> dict[str, Any]:
        try:
            return client.get(path)
        except Failure as failure:
            raise Unanswered(failure.code, failure.message, failure.hint) from None

    findings = examine(file, os.environ, client.path, ask)
    well = healthy(findings)
    if not as_json:
        for each in findings:
            _show(each.severity, each.what, each.remedy)
    check = LiveCheck(client, (lambda _: None) if as_json else _show_step, timeout=timeout, sealed=sealed)
    if live:
        with _ended_in_order():
            check.run()
        well = well and check.well
    if as_json:
        shown = [
            {"check": each.check, "severity": each.severity, "what": each.what, "remedy": each.remedy}
            for each in findings
        ]
        tried = {"live": {"agent": check.name, "steps": [step.as_json() for step in check.steps]}} if live else {}
        print_json({"healthy": well, "findings": shown, **tried})
        return 0 if well else 1
    both = [each.severity for each in findings] + [step.severity for step in check.steps]
    words = f"errors: {both.count('error')}, warnings: {both.count('warning')}"
    click.echo(f"{'healthy' if well else 'not healthy'}: {words}")
    return 0 if well else 1


def _show(severity: str, what: str, remedy: str) -> None:
    click.echo(f"{colours.state(_COLOURS[severity], severity.ljust(_WIDE))}  {one_line(what)}")
    if remedy:
        click.echo(f"{' ' * _WIDE}  {colours.dim(one_line(remedy))}")


def _show_step(step: Step) -> None:
    _show(step.severity, f"{step.step}, {step.seconds:.1f} s: {step.what}", step.remedy)
    for line in step.lines:
        click.echo(f"{' ' * _WIDE}  {colours.dim('| ' + one_line(line))}")


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Within the block a signal that ends the program ends it as Ctrl-C does: what it has begun is undone first."""

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
