"""The commands that steer an agent's turns, model, conversation and login."""

from __future__ import annotations

import sys
from typing import Any

import click
from click.shell_completion import CompletionItem

from hive_core.cli.arguments import agent_argument, ask_for_completion, json_option, print_json
from hive_core.cli.client import Client, agent_path
from hive_core.cli.errors import Failure
from hive_core.cli.output import coloured_agent, dim, is_interactive
from hive_core.text import escaped_line

_LOGIN_SECONDS = 150.0
_SEE = 'see "hive-c0re transcript {} --list"'


def _order(socket: str | None, name: str, what: str, body: dict[str, object], as_json: bool, done: str) -> None:
    answer = Client(socket).post(agent_path(name, f"control/{what}"), body)
    if as_json:
        print_json(answer)
    else:
        click.echo(f"{coloured_agent(name)} {done}")


@click.command()
@agent_argument
@json_option
@click.pass_obj
def cancel(socket: str | None, name: str, as_json: bool) -> None:
    """Stop the turn that an agent is at.

    The turn is held then: "hive-c0re retry" tries it again, "hive-c0re skip" gives it up. Other messages go on.

    \b
    Example:
      hive-c0re cancel ada
    """
    _order(socket, name, "cancel", {}, as_json, "stops its turn, which is held")


def _turn(client: Client, name: str, turn: int | None) -> int:
    """Return the turn that is meant: the only one that is held or waits. Raises Failure if there is no single one."""
    if turn is not None:
        return turn
    found = _undone(client.get(agent_path(name, "control")))
    if len(found) == 1:
        return found[0]
    if not found:
        raise Failure(
            "not_now", f"no turn of {name} is held or waits", hint=f'see "hive-c0re transcript {name} --list"'
        )
    which = ", ".join(str(number) for number in found)
    raise Failure("not_now", f"several turns of {name} are held or wait: {which}", hint="name one of them")


def _undone(state: dict[str, Any]) -> list[int]:
    """Return the numbers of the turns that are held or wait. `state` comes from the agent, who may send anything."""
    current, held = state.get("turn"), state.get("held")
    found = [current] if isinstance(current, dict) and current.get("state") == "waiting" else []
    found += [turn for turn in held if isinstance(turn, dict)] if isinstance(held, list) else []
    return sorted(turn["id"] for turn in found if isinstance(turn.get("id"), int))


def complete_undone_turns(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the number of a turn that is held or waits."""
    name = str(ctx.params.get("name") or "")
    state = ask_for_completion(ctx, lambda client: client.get(agent_path(name, "control")))
    return [CompletionItem(str(number)) for number in _undone(state) if str(number).startswith(incomplete)]


turn_argument = click.argument(
    "turn",
    required=False,
    type=click.IntRange(min=0),
    metavar="[TURN]",
    shell_complete=complete_undone_turns,
)


@click.command()
@agent_argument
@turn_argument
@json_option
@click.pass_obj
def retry(socket: str | None, name: str, turn: int | None, as_json: bool) -> None:
    """Try a held or waiting turn again now.

    TURN may be left out if there is only one.

    \b
    Examples:
      hive-c0re retry ada
      hive-c0re retry ada 12
    """
    number = _turn(Client(socket), name, turn)
    _order(socket, name, "retry", {"turn": number}, as_json, f"tries turn {number} again")


@click.command()
@agent_argument
@turn_argument
@json_option
@click.pass_obj
def skip(socket: str | None, name: str, turn: int | None, as_json: bool) -> None:
    """Give a held or waiting turn up.

    Its messages count as handled. TURN may be left out if there is only one.

    \b
    Example:
      hive-c0re skip ada
    """
    number = _turn(Client(socket), name, turn)
    _order(socket, name, "skip", {"turn": number}, as_json, f"gives turn {number} up")


@click.command()
@agent_argument
@json_option
@click.pass_obj
def pause(socket: str | None, name: str, as_json: bool) -> None:
    """Let an agent begin no turn until it is resumed.

    A running turn goes on to its end ("hive-c0re cancel" stops it). Messages wait. The harness keeps to it, also after
    a restart; what stops a hostile agent is "hive-c0re stop".

    \b
    Example:
      hive-c0re pause ada
    """
    _order(socket, name, "pause", {}, as_json, "begins no turn until it is resumed")


@click.command()
@agent_argument
@json_option
@click.pass_obj
def resume(socket: str | None, name: str, as_json: bool) -> None:
    """Let a paused agent begin turns again.

    \b
    Example:
      hive-c0re resume ada
    """
    _order(socket, name, "resume", {}, as_json, "begins turns again")


@click.command()
@agent_argument
@json_option
@click.pass_obj
def compact(socket: str | None, name: str, as_json: bool) -> None:
    """Compact an agent's conversation.

    It is done before the next turn.

    \b
    Example:
      hive-c0re compact ada
    """
    _order(socket, name, "compact", {}, as_json, "compacts its conversation before its next turn")


@click.command("new-session")
@agent_argument
@json_option
@click.pass_obj
def new_session(socket: str | None, name: str, as_json: bool) -> None:
    """Begin a new conversation.

    It begins with the next turn. What the agent has written down for itself stays.

    \b
    Example:
      hive-c0re new-session ada
    """
    _order(socket, name, "new-session", {}, as_json, "begins a new conversation with its next turn")


@click.command()
@agent_argument
@click.argument("model", required=False)
@click.option("--effort", type=click.Choice(["low", "medium", "high", "max"]), help="How hard the model thinks.")
@click.option("--reset", is_flag=True, help="Use what agent.toml says again.")
@json_option
@click.pass_obj
def model(socket: str | None, name: str, model: str | None, effort: str | None, reset: bool, as_json: bool) -> None:
    """Show or choose the model of an agent.

    The choice holds from the next turn on, also after restarts, until --reset.

    \b
    Examples:
      hive-c0re model ada
      hive-c0re model ada opus --effort high
      hive-c0re model ada --reset
    """
    if reset and (model or effort):
        raise click.UsageError("Give either --reset or a choice.")
    client = Client(socket)
    path = agent_path(name, "control")
    if model or effort or reset:
        state = {} if reset else client.get(path)
        chosen = {"model": model or state.get("model"), "effort": effort or state.get("effort")}
        client.post(agent_path(name, "control/model"), chosen)
    state = client.get(path)
    if as_json:
        print_json({key: state.get(key) for key in ("model", "effort", "models")})
        return
    known = ", ".join(escaped_line(str(each)) for each in state.get("models", []))
    shown = escaped_line(str(state.get("model") or "the default of its program"))
    click.echo(f"{coloured_agent(name)} uses {shown}, effort {escaped_line(str(state.get('effort') or 'default'))}")
    if known:
        click.echo(dim(f"its program offers {known}"))


@click.command()
@agent_argument
@click.option("--code", metavar="CODE", help="The code that the address showed; else it is asked for.")
@json_option
@click.pass_obj
def login(socket: str | None, name: str, code: str | None, as_json: bool) -> None:
    """Log an agent's program in to its service.

    Prints the address to open in a browser, on any machine, and asks for the code that it shows. The agent's program
    chooses the address: look at it before you open it.

    \b
    Examples:
      hive-c0re login ada
      hive-c0re login ada --code CODE
    """
    client = Client(socket)
    if code is None:
        answer = client.post(agent_path(name, "control/login"), {}, wait=_LOGIN_SECONDS)
        if as_json or not is_interactive():
            print_json(answer) if as_json else click.echo(escaped_line(str(answer.get("url"))))
            return
        click.echo(f"{coloured_agent(name)} says to open this address:\n  {escaped_line(str(answer.get('url')))}")
        sys.stderr.write("The code that it shows: ")
        sys.stderr.flush()
        code = sys.stdin.readline().strip()
        if not code:
            raise click.UsageError("No code was given. The login waits for 15 minutes: give --code CODE then.")
        click.echo(dim("The code is being checked ..."), err=True)
    given: dict[str, Any] = client.post(agent_path(name, "control/code"), {"code": code}, wait=_LOGIN_SECONDS)
    if as_json:
        print_json(given)
    else:
        click.echo(f"{coloured_agent(name)} is logged in")
