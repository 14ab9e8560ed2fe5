"""What the demo shows, and how."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from hive_core.cli import PROGRAM
from hive_core.cli.events import lines
from hive_core.cli.output import coloured_agent, dim, width
from hive_core.text import visible

_NAME = 11
_BODY_LINES = 24
"""How much of a message is shown: a review holds a whole diff."""
_STEPS = frozenset({"building", "built"})

INTRO = (
    ("you", "operator", "have a repository with a failing test, and ask ada to mend it"),
    ("ada", "ada", "submits work: its check fails, ada mends that too, and the check passes"),
    ("hm1nd", "hm1nd", "the manager, reviews the work and approves it; it lands on the branch"),
)
INTRO_GATE = (
    ("ada", "ada", "then proposes a change of itself, to write to fewer: hm1nd approves it"),
    ("bob", "bob", "proposes one that gives it a shell: hm1nd denies it, and says why"),
    ("ada", "ada", "is sealed, and refused a host without a rule: it asks for one, and you approve it"),
    ("ada", "ada", "calls a model without having its key: the call is in the ledger, and its budget ends that"),
)
"""The job and what follows, as a person would tell it: who is named, whose colour that is, and what they do."""

COMMANDS = ("list", "inbox", 'send ada "Please let a voucher lower the total."', "work --state all", "logs ada")
GATE_COMMANDS = ("proposals --state all", "proposals show bob/1", "history ada")

OWN = (
    f"{PROGRAM} serve",
    f"{PROGRAM} repo add app ~/app --check 'tests: make test'",
    f'{PROGRAM} run app "Please mend the failing test." --provider anthropic',
)
"""The three commands for Claude Code and a repository of one's own; the first one in a terminal of its own."""


def say(text: str = "") -> None:
    """One line (or more) on stdout, with colours if it is a terminal that wants them."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    click.echo(text, color=False if plain else None)


def heading(text: str) -> None:
    """What comes next."""
    say()
    say(click.style(text, bold=True))


def intro(access: str | None) -> None:
    """Say what is going to happen, and what drives the agents: Claude Code with `access`, or a script."""
    driven = "They follow a script; no model is asked."
    if access is not None:
        driven = f"Claude Code drives them, with {access}: about twenty calls of the model."
    say(f"{click.style('A hive: agents mend a repository, and review what they do.', bold=True)}\n{driven}\n")
    for shown, name, does in (*INTRO, *(INTRO_GATE if access is None else ())):
        say(f"  {coloured_agent(name, shown.ljust(_NAME))}{does}")


def command(*arguments: str) -> None:
    """A command that is being carried out."""
    shell(PROGRAM, *arguments)


def shell(*line: str) -> None:
    """A command of any program that is being carried out."""
    say(dim(f"$ {shlex.join(line)}"))


def event(happened: Mapping[str, Any]) -> None:
    """Show one event as `hive-c0re watch` does, but for steps in between and the end of a long message."""
    if happened["kind"] in ("proposal.changed", "work.changed") and happened["data"].get("state") in _STEPS:
        return
    shown = lines(happened, width(), every=False)
    for line in shown[: _BODY_LINES + 1]:
        say(line)
    if len(shown) > _BODY_LINES + 1:
        say(dim(f"{' ' * 11}... (`{PROGRAM} watch` shows more)"))


def log(text: list[str]) -> None:
    """The end of a log; it may quote agents."""
    for line in text:
        say(f"  {visible(line)}")


def fact(name: str, text: str) -> None:
    """One line of a summary."""
    say(f"  {dim(name.ljust(13))}{text}")


def how_to_go_on() -> None:
    """Print how to do the same with Claude Code and a repository of one's own."""
    heading("The same with Claude Code and a repository of yours, in two terminals:")
    say()
    say("  export HIVE_STATE_DIR=$HOME/hive  # and HIVE_RELAY with your key, as README.md has it")
    for line in OWN:
        say(f"  {line}")


def how_to_look(command: str) -> None:
    """Print what shows the result afterwards."""
    heading("Look at the branch:")
    say()
    say(f"  {command}")


def how_to_talk(socket: Path, look: str, *, scripted: bool) -> None:
    """Print what to paste into another terminal; `look` needs no daemon."""
    heading("The hive stays up. Talk to it from another terminal:")
    export = f"export HIVE_SOCKET={shlex.quote(str(socket))}"
    installed = Path(sys.executable).with_name(PROGRAM)
    if installed.exists():
        program = PROGRAM
        export += f" PATH={shlex.quote(str(installed.parent))}:$PATH"
    else:
        program = f"{shlex.quote(sys.executable)} -m hive_core"
    say()
    say(f"  {export}")
    for arguments in (*COMMANDS, *(GATE_COMMANDS if scripted else ()), "watch"):
        say(f"  {program} {arguments}")
    say(f"  {look}")
    say()
    say(f"Below goes on what `{PROGRAM} watch` shows. {click.style('Ctrl-C', bold=True)} ends the demo.")
