"""Waiting for a new agent until its harness is ready for messages, or is seen to fail."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import click

from hive_core.cli.client import Client, agent_path
from hive_core.cli.errors import Failure
from hive_core.cli.logs import print_lines

_POLL_SECONDS = 0.2
_CRASHES = 3
_LOG_LINES = 15


def wait_until_ready(
    client: Client, name: str, timeout: float, tell: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """The agent's status once its harness is idle or at work; `tell` gets every status on the way.

    An agent that fails, keeps crashing, is stopped or takes longer than `timeout` seconds is a failure, before
    which the end of its log is shown on stderr.
    """
    end = time.monotonic() + timeout
    while True:
        status = client.get(agent_path(name))
        tell(status)
        if status.get("state") in {"idle", "thinking"}:
            return status
        why = _why_never(status)
        if why is None and time.monotonic() >= end:
            why = f"is not ready after {timeout:g} s (its harness is {status.get('state')})"
        if why is not None:
            raise _failure(client, name, why)
        time.sleep(_POLL_SECONDS)


def _why_never(status: dict[str, Any]) -> str | None:
    """Why the agent will not become ready by waiting; None while it may."""
    detail = status.get("detail") or status.get("exit_cause") or "no reason given"
    if status.get("state") == "needs_login":
        return f"needs a login: {detail}"
    if status.get("state") == "paused":
        return f"is paused: {detail}"
    if "failed" in (status.get("state"), status.get("lifecycle")):
        return f"failed: {detail}"
    if status.get("lifecycle") in {"stopping", "stopped"}:
        return "was stopped before it was ready"
    restarts = status.get("restarts")
    if isinstance(restarts, int) and restarts >= _CRASHES:
        return f"keeps crashing ({restarts} restarts): {detail}"
    return None


def _failure(client: Client, name: str, why: str) -> Failure:
    try:
        log = client.get(agent_path(name, "logs"), {"lines": _LOG_LINES})
    except Failure:
        log = {}
    if log.get("lines"):
        click.echo("the last lines of its log:", err=True)
        print_lines(log, err=True)
    return Failure(
        "not_ready",
        f"{name} was made, but {why}",
        hint=f'look with "hive-c0re logs {name}"; remove it with "hive-c0re destroy {name}"',
    )
