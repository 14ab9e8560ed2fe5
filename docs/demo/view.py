"""What the demo shows, and how."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from hive_core.cli import PROGRAM
from hive_core.cli.events import lines
from hive_core.cli.output import coloured_agent, dim, width
from hive_core.text import visible

_NAME = 11
_BODY_LINES = 30
"""How much of a message is shown: a review holds a whole diff."""

INTRO = (
    ("you", "operator", "ask the manager for release notes"),
    ("hm1nd", "hm1nd", "the manager, gives the job to ada"),
    ("ada", "ada", "writes a draft, and asks bob for a review"),
    ("bob", "bob", "finds something to put right"),
    ("hm1nd", "hm1nd", "brings you the result"),
)
INTRO_GATE = (
    ("ada", "ada", "then proposes a change of itself: hm1nd reads and approves it, and it is deployed"),
    ("bob", "bob", "proposes one that gives it a shell: hm1nd denies it, and says why"),
)
"""The job and what follows, as a person would tell it: who is named, whose colour that is, and what they do."""


PROPOSALS = ("proposals --state all", "proposals show bob/1", "history ada")


def say(text: str = "") -> None:
    """One line (or more) on stdout, with colours if it is a terminal that wants them."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    click.echo(text, color=False if plain else None)


def heading(text: str) -> None:
    """What comes next."""
    say()
    say(click.style(text, bold=True))


def intro(access: str | None) -> None:
    """What is going to happen, and what drives the agents: Claude Code with `access`, or a script."""
    driven = "They follow a script; no model is asked."
    if access is not None:
        driven = f"Claude Code drives them, with {access}: about ten calls of the model."
    say(f"{click.style('A hive: a manager and two agents do a small job together.', bold=True)}\n{driven}\n")
    for shown, name, does in (*INTRO, *(INTRO_GATE if access is None else ())):
        say(f"  {coloured_agent(name, shown.ljust(_NAME))}{does}")


def command(*arguments: str) -> None:
    """A command that is being carried out."""
    shell(PROGRAM, *arguments)


def shell(*line: str) -> None:
    """A command of any program that is being carried out."""
    say(dim(f"$ {shlex.join(line)}"))


def event(happened: Mapping[str, Any]) -> None:
    """One event, as `hive-c0re watch` shows it, but for the end of a long message."""
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


def how_to_look(commands: Sequence[str]) -> None:
    """What tells afterwards what was changed, and why."""
    heading("Look at what was proposed and decided:")
    say()
    for line in commands:
        say(f"  {line}")


def how_to_talk(socket: Path, more: Sequence[str]) -> None:
    """What to paste into another terminal; `more` are commands that need no daemon."""
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
    for arguments in (
        "list",
        "inbox",
        'ask hm1nd "release notes for 2.0"',
        "logs ada",
        *(PROPOSALS if more else ()),
        "watch",
    ):
        say(f"  {program} {arguments}")
    for line in more:
        say(f"  {line}")
    say()
    say(f"Below goes on what `{PROGRAM} watch` shows. {click.style('Ctrl-C', bold=True)} ends the demo.")
