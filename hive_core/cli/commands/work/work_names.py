"""The argument REPO/NUMBER, and work in the words of the commands."""

from __future__ import annotations

from typing import Any

import click

from hive_core.cli.arguments import complete_work
from hive_core.cli.output import coloured_state
from hive_core.protocol.names import WORK_WORDS
from hive_core.text import escaped_line, shown

Answer = dict[str, Any]
_LARGEST = 2**63 - 1
_STATES = {word: state for state, word in WORK_WORDS.items()}

work_argument = click.argument("name", metavar="REPO/NUMBER", shell_complete=complete_work)
"""Argument REPO/NUMBER: work, for `parse_work`."""


class _WorkState(click.Choice[str]):
    """A state of work in the words of the commands; its name in the protocol is taken, too."""

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> str:
        word = str(super().convert(WORK_WORDS.get(value, value), param, context))
        return _STATES.get(word, word)


work_expect_option = click.option(
    "--expect",
    type=_WorkState(["submitted", "checking", "checked", "approved"]),
    default="checked",
    show_default=True,
    help="State that the work must have; in another state nothing happens.",
)
"""Option --expect of decisions on work; its value is the name of the state in the protocol."""


def parse_work(name: str) -> tuple[str, int]:
    """Parse `REPO/NUMBER`. Raises UsageError."""
    repo, _, number = name.partition("/")
    if not (repo and number.isascii() and number.isdigit() and len(number) < 20 and int(number) <= _LARGEST):
        raise click.UsageError(f"{shown(name)} is not the name of work: write REPO/NUMBER, such as web/3.")
    return repo, int(number)


def state_word(state: str) -> str:
    """Return a state in the words of the commands."""
    return escaped_line(WORK_WORDS.get(state, state))


def coloured_word(word: str, padded: str) -> str:
    """Colour a state in the words of the commands, as `coloured_state` does."""
    return coloured_state(_STATES.get(word, word), padded)


def standing(answer: Answer) -> str:
    """Format one line with the work, its state, and the party that it waits for."""
    decider = decider_of(answer)
    waits = f" and waits for {decider}" if decider else ""
    state = str(answer.get("state"))
    landed = f": the branch is at {answer['landed']}" if answer.get("landed") else ""
    return (
        f"{work_name(answer)} has {coloured_state(state, 'landed')}{landed}"
        if landed
        else (f"{work_name(answer)} is {coloured_state(state, state_word(state))}{waits}")
    )


def work_name(answer: Answer) -> str:
    """Return the name of work, such as `web/3`."""
    return escaped_line(f"{answer.get('repo')}/{answer.get('number')}")


def decider_of(answer: Answer) -> str:
    """Return who decides on work, in words; empty if nobody is asked."""
    waits_for = answer.get("waits_for")
    if waits_for is None:
        return ""
    text = escaped_line(str(waits_for))
    return text.removeprefix("agent:") if text.startswith("agent:") else f"the {text}"
