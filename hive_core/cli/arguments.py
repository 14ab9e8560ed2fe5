"""Arguments and options that several commands share."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from hive_core.cli.errors import Failure
from hive_core.cli.output import is_interactive
from hive_core.text import escaped_line, shown

if TYPE_CHECKING:
    from hive_core.cli.client import Client

F = TypeVar("F", bound=Callable[..., Any])


_COMPLETION_SECONDS = 1.0
"""Time limit of shell completion, so that a hanging daemon does not block the shell."""


def ask_for_completion(ctx: click.Context, ask: Callable[[Client], dict[str, Any]]) -> dict[str, Any]:
    """Ask the daemon during shell completion; the answer is empty without a daemon that answers at once."""
    from hive_core.cli.client import Client  # noqa: PLC0415 - needed only by shell completion

    try:
        return ask(Client(ctx.find_root().params.get("socket"), _COMPLETION_SECONDS))
    except Failure:
        return {}


def _items(found: Iterable[tuple[str, str]], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name, help=escaped_line(text)) for name, text in found if name.startswith(incomplete)]


def complete_agents(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of an agent."""
    answer = ask_for_completion(ctx, lambda client: client.get("/v1/agents"))
    agents: list[dict[str, Any]] = answer.get("agents", [])
    return _items(
        ((str(agent.get("name")), f"{agent.get('lifecycle')}, {agent.get('state')}") for agent in agents), incomplete
    )


def complete_repositories(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a repository."""
    answer = ask_for_completion(ctx, lambda client: client.get("/v1/repositories"))
    found: list[dict[str, Any]] = answer.get("repositories", [])
    return _items(((str(each.get("name")), str(each.get("state"))) for each in found), incomplete)


def complete_work(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete REPO/NUMBER of open work."""
    answer = ask_for_completion(ctx, lambda client: client.get("/v1/work"))
    found: list[dict[str, Any]] = answer.get("work", [])
    named = ((f"{each.get('repo')}/{each.get('number')}", str(each.get("title"))) for each in found)
    return _items(named, incomplete)


def complete_proposals(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete AGENT/NUMBER of a proposal, or the name of an agent."""
    answer = ask_for_completion(ctx, lambda client: client.get("/v1/proposals"))
    found: list[dict[str, Any]] = answer.get("proposals", [])
    named = ((f"{each.get('agent')}/{each.get('number')}", str(each.get("state"))) for each in found)
    return [*complete_agents(ctx, param, incomplete), *_items(named, incomplete)]


def complete_numbers(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the number of a proposal of the agent that was named before."""
    agent = str(ctx.params.get("agent") or "")
    answer = ask_for_completion(ctx, lambda client: client.get("/v1/proposals", {"agent": agent}))
    found: list[dict[str, Any]] = answer.get("proposals", [])
    return _items(((str(each.get("number")), str(each.get("state"))) for each in found), incomplete)


def complete_turns(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the number of one of the last turns of the agent that was named before."""
    found = _ask_about_agent(ctx, "control/turns").get("turns", [])
    # The agent says so, and what is completed becomes a part of a command: only numbers do.
    turns = [each for each in found if isinstance(each, dict) and isinstance(each.get("id"), int)]
    return _items(((str(each["id"]), str(each.get("state"))) for each in turns), incomplete)


def complete_secrets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a secret that the agent named before has, or asks for in agent.toml."""
    answer = _ask_about_agent(ctx, "secrets")
    there = [str(each.get("name")) for each in answer.get("secrets", [])]
    missing = [str(name) for name in answer.get("in_turns", []) if name not in there]
    return _items([*((name, "") for name in there), *((name, "asked for") for name in missing)], incomplete)


def _ask_about_agent(ctx: click.Context, action: str) -> dict[str, Any]:
    from hive_core.cli.client import agent_path  # noqa: PLC0415 - needed only by shell completion

    # Behind an option whose value is completed, click has not assigned the arguments before it yet.
    name = ctx.params.get("name") or next(iter(ctx.args), "")
    return ask_for_completion(ctx, lambda client: client.get(agent_path(str(name), action)))


agent_argument = click.argument("name", shell_complete=complete_agents)
"""Argument NAME: an agent."""
agents_argument = click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_agents)
"""Argument NAME...: one or several agents."""
recipient_argument = click.argument("to", metavar="TO", shell_complete=complete_agents)
"""Argument TO: the recipient of a message, that is an agent, `hm1nd`, or `*` for all."""


_LARGEST = 2**63 - 1


def proposal_arguments(command: F) -> F:
    """Add the arguments AGENT and NUMBER, for `parse_proposal` or `parse_agent_and_number`."""
    number = click.argument("number", metavar="NUMBER", required=False, shell_complete=complete_numbers)
    return click.argument("agent", metavar="AGENT", shell_complete=complete_proposals)(number(command))


def parse_proposal(agent: str, number: str | None) -> tuple[str, int]:
    """Parse `AGENT NUMBER` or `AGENT/NUMBER`. The name is not checked. Raises UsageError if there is no number."""
    name, found = parse_agent_and_number(agent, number)
    if found is None:
        raise click.UsageError(f"The number of the proposal is missing: write '{name} NUMBER' or '{name}/NUMBER'.")
    return name, found


def parse_agent_and_number(agent: str, number: str | None) -> tuple[str, int | None]:
    """Parse as `parse_proposal` does, but the number is optional."""
    name, slash, inside = agent.partition("/")
    if slash and number is not None:
        raise click.UsageError("The number is given twice.")
    text = inside if slash else number
    if text is None:
        return name, None
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _LARGEST):
        raise click.UsageError(f"{shown(text)} is not the number of a proposal.")
    return name, int(text)


def shown_proposal(agent: str, number: object) -> str:
    """Format the name of a proposal."""
    return f"{agent}/{number}"


note_option = click.option("--note", metavar="TEXT", help="Reason; it is stored in the tag.")
"""Option --note: optional, or asked for on the terminal by `note_or_prompt`."""


def note_or_prompt(context: click.Context, note: str | None, question: str) -> str:
    """Return the note, or ask `question` on the terminal. Raises UsageError if there is neither note nor terminal."""
    if note is None and is_interactive():
        # click's prompt writes a space to stdout, which must hold only the JSON document with --json.
        sys.stderr.write(f"{question} ")
        sys.stderr.flush()
        note = sys.stdin.readline().strip()
    if not note:
        raise click.UsageError("A reason is needed: add --note TEXT.", context)
    return note


body_argument = click.argument("body")
"""Argument BODY: the message; `-` reads it from stdin."""


def read_body(given: str) -> str:
    """Return the message; text from stdin is kept unchanged, with its last newline."""
    if given != "-":
        return given
    if sys.stdin.isatty():
        click.echo("reading the message from the terminal; Ctrl-D on an empty line ends it", err=True)
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise Failure(
            "invalid_request", f"the text on stdin is not UTF-8 (byte {error.start})", hint="convert it with iconv"
        ) from None


def waiting_options(command: F) -> F:
    """Add the options `--no-wait` and `--timeout` of commands that wait until an agent is ready."""
    timeout = click.option(
        "--timeout", type=click.FloatRange(min=0), default=120.0, show_default=True, help="Seconds to wait."
    )
    return click.option("--no-wait", is_flag=True, help="Do not wait until it is ready.")(timeout(command))


pager_option = click.option("--pager/--no-pager", default=True, help="Show long text with $PAGER on a terminal.")
"""Option --no-pager, for `output.page`."""
with_stdin_option = click.option("--with-stdin", is_flag=True, help="Stop when standard input ends, too.")
LOG_LEVEL = click.Choice(["debug", "info", "warning", "error"])
json_option = click.option("--json", "as_json", is_flag=True, help="Print the daemon's answer as JSON.")


def print_json(answer: object) -> None:
    """Print one JSON document on one line, in printable ASCII, so that it is safe on a terminal too."""
    click.echo(json.dumps(answer).replace("\x7f", "\\u007f"))


_DURATION = re.compile(r"(?P<number>[0-9]{1,6}(?:\.[0-9]{1,6})?)(?P<unit>[dhm])")
_HOURS = {"d": 24.0, "h": 1.0, "m": 1 / 60}


class _Duration(click.ParamType[float]):
    """A time such as `90m`, `2h` or `7d`; the value is in hours."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = _DURATION.fullmatch(str(value))
        if match is None:
            self.fail(f"{value!r} is no time: write 90m, 2h or 7d", param, ctx)
        return float(match["number"]) * _HOURS[match["unit"]]


DURATION = _Duration()
"""Type of an option with a time; the value is in hours."""
