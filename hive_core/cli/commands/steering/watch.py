"""The command `watch`."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import click

from hive_core.cli.arguments import complete_agents, json_option, print_json
from hive_core.cli.client import Client
from hive_core.cli.commands.steering.transcript import level_of
from hive_core.cli.commands.steering.turn_view import Level, entry_lines, follow_agent
from hive_core.cli.errors import Failure
from hive_core.cli.events import follow, lines
from hive_core.cli.output import coloured_agent, dim, now, width

_MOST_AGENTS = 32
"""Agents whose models are shown at the same time: each holds a connection to the daemon."""
_MOST_WAITING = 64
"""An event of a harness has up to 1 MiB."""
_SHOWN = frozenset({"text", "call", "result", "notice", "usage", "session"})
"""Entries of transcripts beside the messages, which are events of the hive, too."""


@click.command()
@click.argument("agents", nargs=-1, metavar="[NAME]...", shell_complete=complete_agents)
@click.option("--after", type=int, metavar="ID", help="Begin after this event instead of now.")
@click.option("-q", "--quiet", is_flag=True, help="Leave out what models say and do.")
@click.option("-v", "--verbose", is_flag=True, help="Show deliveries, results of tools and use of tokens too.")
@json_option
@click.pass_obj
def watch(
    socket: str | None, agents: tuple[str, ...], after: int | None, quiet: bool, verbose: bool, as_json: bool
) -> None:
    """Show live what happens, and what models say.

    Shows messages, states of agents and their processes, and proposals until Ctrl-C, and between them a line for each
    tool call and the text of each model. With names it shows only these agents. No event is missed when the daemon
    restarts. With --json there are only the events.

    \b
    Examples:
      hive-c0re watch
      hive-c0re watch ada bob -v
      hive-c0re watch -q
    """
    _Watch(socket, agents, level_of(quiet, verbose), as_json).run(after)


class _Watch:
    """Reads the events of the hive and of harnesses in threads, and prints them in one."""

    def __init__(self, socket: str | None, agents: tuple[str, ...], level: Level, as_json: bool) -> None:
        self._socket = socket
        self._only = agents
        self._level = level
        self._as_json = as_json
        self._waiting: queue.Queue[Callable[[], None]] = queue.Queue(_MOST_WAITING)
        self._followed: set[str] = set()

    def run(self, after: int | None) -> None:
        """Print until Ctrl-C or a failure."""
        if sys.stdout.isatty() and not self._as_json:
            click.echo(dim(f"times are in {now().astimezone():%Z (UTC%z)}"), err=True)
        if self._level == "quiet" or self._as_json:
            for event in self._events(after):
                self._show(event)
            return
        self._start(self._follow_hive, after)
        self._start(self._follow_running)
        while True:
            self._waiting.get()()

    def _events(self, after: int | None) -> Iterator[dict[str, Any]]:
        return follow(Client(self._socket), after, lambda text: click.echo(text, err=True))

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=target, args=arguments, daemon=True).start()

    def _follow_hive(self, after: int | None) -> None:
        try:
            for event in self._events(after):
                self._waiting.put(partial(self._show, event))
                data = event["data"]
                if event.get("kind") == "agent.state" and data.get("state") not in ("offline", "starting"):
                    self._follow(str(data.get("agent")))
        except BaseException as error:
            self._waiting.put(partial(_raise, error))

    def _follow_running(self) -> None:
        try:
            agents = Client(self._socket).get("/v1/agents").get("agents", [])
        except Failure:
            return  # The events of the hive cannot be read either, which ends the command.
        for agent in agents:
            if agent.get("lifecycle") == "running":
                self._follow(str(agent.get("name")))

    def _follow(self, name: str) -> None:
        """Follow the agent's harness, unless that is so or it is not wanted."""
        wanted = not self._only or name in self._only
        if wanted and name not in self._followed and len(self._followed) < _MOST_AGENTS:
            self._followed.add(name)
            self._start(self._follow_agent, name)

    def _follow_agent(self, name: str) -> None:
        try:
            for happening in follow_agent(Client(self._socket), name, patient=False):
                if happening.kind == "entry" and str(happening.data.get("kind")) in _SHOWN:
                    self._waiting.put(partial(self._show_entry, name, happening.data))
        except Failure:
            pass  # The events of the hive say what became of it.
        finally:
            self._followed.discard(name)

    def _show(self, event: Mapping[str, Any]) -> None:
        if self._only and not self._concerns(event["data"]):
            return
        if self._as_json:
            print_json(event)
        elif shown := lines(event, width(), self._level == "verbose"):
            click.echo("\n".join(shown))

    def _concerns(self, data: Mapping[str, Any]) -> bool:
        named = {data.get("agent"), data.get("sender"), data.get("to"), *data.get("recipients", [])}
        return "count" in data or not named.isdisjoint(self._only)

    def _show_entry(self, name: str, entry: Mapping[str, Any]) -> None:
        columns = width()
        room = None if columns is None else columns - len(name) - 1
        for line in entry_lines(entry, self._level, room):
            click.echo(f"{coloured_agent(name)} {line}")


def _raise(error: BaseException) -> None:
    raise error
