"""Waiting for the end of a proposal or the start of an agent."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from hive_core.cli.arguments import print_json, shown_proposal
from hive_core.cli.client import Client, agent_path, proposal_path
from hive_core.cli.errors import Failure
from hive_core.cli.output import coloured_agent, coloured_state, describe_crash, page_lines, print_lines, quoted
from hive_core.protocol.names import MANAGER
from hive_core.text import escaped_line

_POLL_SECONDS = 60.0
_RETRY_SECONDS = 0.5
_ENDED = frozenset({"deployed", "failed", "denied", "withdrawn"})

Answer = dict[str, Any]


def is_over(proposal: Answer) -> bool:
    """Return True if the state of the proposal cannot change any more."""
    return proposal.get("state") in _ENDED


def is_undecided(proposal: Answer) -> bool:
    """Return True if the proposal is built and waits for a decision."""
    return proposal.get("state") == "built" and proposal.get("waits_for") is not None


def follow(client: Client, proposal: Answer, stops: Callable[[Answer], bool], *, quiet: bool) -> Answer:
    """Poll the proposal until `stops` is true of it, also across a restart of the daemon, and return it.

    Unless `quiet`, each new state is printed on stderr.
    """
    agent, number = str(proposal.get("agent")), int(proposal.get("number", -1))
    path = proposal_path(agent, number)
    state = ""
    while True:
        if proposal.get("state") != state:
            state = str(proposal.get("state"))
            if not quiet:
                _print_state(proposal)
        if stops(proposal):
            return proposal
        query = {"unlike": state, "wait_seconds": _POLL_SECONDS}
        try:
            proposal = client.get(path, query, wait=_POLL_SECONDS)
        except Failure as failure:
            if not failure.transient:
                raise
            time.sleep(_RETRY_SECONDS)


def report(proposal: Answer, as_json: bool) -> None:
    """Print the state of the proposal. Raises Failure if it has ended without being deployed."""
    name = shown_proposal(str(proposal.get("agent")), proposal.get("number"))
    state, outcome = str(proposal.get("state")), str(proposal.get("outcome") or "no reason given")
    if as_json:
        print_json(proposal)
    if is_over(proposal) and state != "deployed":
        hint = f'look with "hive-c0re proposals show {name}" and "hive-c0re proposals log {name}"'
        was = "failed" if state == "failed" else f"was {state}"
        if proposal.get("missing_fetches"):
            outcome = outcome.partition(":\n")[0]
            hint = f'see them, and how to allow exactly these, with "hive-c0re proposals allow-fetches {name}"'
        raise Failure("proposal_ended", f"proposal {name} {was}: {outcome}", hint=hint)
    if not as_json:
        click.echo(standing(proposal))


def standing(proposal: Answer) -> str:
    """Format one line with the proposal, its state, and the party that it waits for."""
    name = shown_proposal(coloured_agent(escaped_line(str(proposal.get("agent")))), proposal.get("number"))
    waits_for = proposal.get("waits_for")
    waits = f" and waits for the {escaped_line(str(waits_for))}" if waits_for is not None else ""
    state = escaped_line(str(proposal.get("state")))
    return f"{name} is {coloured_state(state, 'proposed' if state == 'proposal' else state)}{waits}"


def print_who_decides(client: Client, proposal: Answer) -> None:
    """Say on stderr how an operator's own proposal goes on that waits for the manager."""
    if not is_undecided(proposal) or proposal.get("waits_for") != "manager":
        return
    agent, number = escaped_line(str(proposal.get("agent"))), proposal.get("number")
    lines = [
        f"{MANAGER} has been asked; remind it with \"hive-c0re ask {MANAGER} 'Please decide on {agent}/{number}.'\",",
        f'or take the change back with "hive-c0re withdraw {agent} {number}". Nobody approves what they proposed.',
    ]
    try:
        manager = client.get(agent_path(MANAGER))
    except Failure:
        manager = {}
    if manager.get("backend") == "scripted":
        lines.append(f"{MANAGER} has no model, so it decides only if its script says so. Without a manager")
        lines.append(f'("hive-c0re destroy {MANAGER}") your own changes need no approval.')
    click.echo("\n".join(f"  {line}" for line in lines), err=True)


def _print_state(proposal: Answer) -> None:
    name = shown_proposal(escaped_line(str(proposal.get("agent"))), proposal.get("number"))
    click.echo(f"{name}: {escaped_line(str(proposal.get('state')))}", err=True)


_START_POLL_SECONDS = 0.2
_CRASHES = 3
"""Crashes in a row after which an agent is not waited for any longer."""
_LOG_LINES = 15

OnStatus = Callable[[Answer], None]


def wait_until_ready(client: Client, name: str, timeout: float, on_status: OnStatus, *, was: str, hint: str) -> Answer:
    """Wait until the agent's harness is idle or thinking, and return its status; `on_status` gets every status.

    Raises Failure if the agent fails, keeps crashing, is stopped or needs longer than `timeout` seconds, and prints
    the end of its log on stderr. The message begins with the name and `was`, such as "was created", which was done
    before.
    """
    end = time.monotonic() + timeout
    while True:
        status = client.get(agent_path(name))
        on_status(status)
        if status.get("state") in {"idle", "thinking"}:
            return status
        why = _why_not_ready(status)
        if why is None and time.monotonic() >= end:
            why = f"is not ready after {timeout:g} s (its harness is {status.get('state')})"
            crash = describe_crash(status)
            why += f": it has ended {crash}" if crash else ""
        if why is not None:
            _print_log_end(client, name)
            raise Failure("not_ready", f"{name} {was}, but {why}", hint=_what_helps(status) or hint)
        time.sleep(_START_POLL_SECONDS)


def login_hint(name: str) -> str:
    """Say how an agent gets the login that it waits for."""
    return f'log it in with "hive-c0re login {name}", or on its page with "hive-c0re open {name}"; it goes on then'


def _what_helps(status: Answer) -> str:
    """Return the hint for a state that a person ends, which is "" for others."""
    return login_hint(str(status.get("name"))) if status.get("state") == "needs_login" else ""


def _why_not_ready(status: Answer) -> str | None:
    """Explain why the agent cannot become ready without help; None while it still can."""
    detail = quoted(status.get("detail"))
    if status.get("state") == "needs_login":
        return f"needs a login: {detail}"
    if status.get("state") == "paused":
        return f"is paused: {detail}"
    if status.get("state") == "budget":
        return f"may call no model now: {detail}"
    if status.get("state") == "failed":
        return f"failed: {detail}"
    crash = describe_crash(status) or status.get("exit_cause") or "no reason given"
    if status.get("lifecycle") == "failed":
        return f"failed: {crash}"
    if status.get("lifecycle") in {"stopping", "stopped"}:
        return "was stopped before it was ready"
    if status.get("crashes", 0) >= _CRASHES:
        return f"does not come up: it has ended {crash}"
    return None


def _print_log_end(client: Client, name: str) -> None:
    try:
        log = client.get(agent_path(name, "logs"), {"lines": _LOG_LINES})
    except Failure:
        return
    if log.get("lines"):
        click.echo("the last lines of its log:", err=True)
        print_lines(log, err=True)


@contextmanager
def show_progress(name: str) -> Iterator[OnStatus]:
    """Show the agent's states on stderr: with a spinner on a terminal, else with a line for each change."""

    def words(status: Answer) -> str:
        text = f"{name}: process {status.get('lifecycle')}, harness {status.get('state')}"
        detail = quoted(status["detail"]) if status.get("detail") else describe_crash(status)
        return escaped_line(f"{text}, {detail}" if detail else text)

    if not sys.stderr.isatty():
        last = ""

        def line(status: Answer) -> None:
            nonlocal last
            if (text := words(status)) != last:
                click.echo(text, err=True)
                last = text

        yield line
        return
    from rich.console import Console  # noqa: PLC0415 - takes as long to import as everything else
    from rich.text import Text  # noqa: PLC0415

    with Console(stderr=True).status(f"{name}: starting") as spinner:
        yield lambda status: spinner.update(Text(words(status)))


_LOG_SECONDS = 2.0
_BEFORE_BUILT = frozenset({"proposal", "building"})


def follow_log(client: Client, path: str, lines: int, *, follows: bool, pager: bool, as_json: bool) -> None:
    """Print the last `lines` of the log of a proposal's build or checks, whose URL path is `path`.

    With `follows`, new lines are printed until the build or the checks end, also across a restart of the daemon.
    """
    show = print_json if as_json else print_lines
    going_on = follows and _is_building(client, path)
    answer = client.get(f"{path}/log", {"lines": lines})
    if follows or as_json:
        show(answer)
    else:
        page_lines(answer, pager)
    cursor = str(answer.get("cursor"))
    while going_on:
        try:
            # The state is read before the lines: the last lines are there when the state changes.
            going_on = _is_building(client, path)
            wait = _LOG_SECONDS if going_on else 0.0
            answer = client.get(f"{path}/log", {"cursor": cursor, "wait_seconds": wait}, wait=wait)
        except Failure as failure:
            if not failure.transient:
                raise
            going_on = True
            time.sleep(_RETRY_SECONDS)
            continue
        cursor = str(answer.get("cursor"))
        if answer.get("lines"):
            show(answer)


def _is_building(client: Client, path: str) -> bool:
    return client.get(path).get("state") in _BEFORE_BUILT
