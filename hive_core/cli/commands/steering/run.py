"""The command `run`."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import click

from hive_core.cli.arguments import complete_agents, complete_repositories, json_option, print_json
from hive_core.cli.client import Client, work_path
from hive_core.cli.commands.steering.turn_view import Happening, entries_of, entry_lines, follow_agent
from hive_core.cli.commands.steering.wish import Wish, follow_wish, waiting_wish
from hive_core.cli.commands.work.fetching import update_from_path
from hive_core.cli.commands.work.proposals import file_line
from hive_core.cli.commands.work.repositories import repository_path
from hive_core.cli.commands.work.work_names import Answer, standing, work_name
from hive_core.cli.errors import Failure
from hive_core.cli.output import width
from hive_core.cli.waiting import show_progress, wait_until_ready
from hive_core.protocol.names import is_agent_name
from hive_core.protocol.network.named_sets import SET_OF_BACKEND
from hive_core.text import escaped_line, visible

_BUILD_SECONDS = 86_400.0
_START_SECONDS = 120.0
_NAME_LENGTH = 9
_NEW_BACKEND = "claude"
_FOLLOWS_A_SCRIPT = "scripted"
_SHOWN = frozenset({"text", "call", "notice", "result"})


@click.command()
@click.argument("repo", shell_complete=complete_repositories)
@click.argument("wish")
@click.option("--agent", metavar="NAME", shell_complete=complete_agents, help="Agent that does it; made if missing.")
@click.option("--backend", metavar="BACKEND", help=f"Backend of the agent; a new one has {_NEW_BACKEND} without it.")
@click.option("--provider", metavar="PROVIDER", help="Provider of the settings that a new agent calls its models with.")
@click.option(
    "--network",
    type=click.Choice(["sealed", "host"]),
    default="sealed",
    show_default=True,
    help="Network of a new agent; a sealed one without a provider reaches the hosts of its model's vendor.",
)
@json_option
@click.pass_obj
def run(
    socket: str | None,
    /,
    repo: str,
    wish: str,
    agent: str | None,
    backend: str | None,
    provider: str | None,
    network: str,
    as_json: bool,
) -> None:
    """Have an agent work in a repository, and show it.

    Takes an agent that has the repository and is idle or waits for its login, or makes one, and gives it the wish. One
    that follows a script gets it only by --agent or --backend. A repository that was registered by its path is fetched
    before. Ends when the agent has submitted work whose checks have passed, with the changed files and the command that
    lands the work. Ctrl-C ends the watching, not the agent's work.

    \b
    Examples:
      hive-c0re run shop "Please mend the failing test." --provider anthropic
      hive-c0re run shop "Update the README." --agent ada
    """
    if not wish.strip():
        raise click.UsageError("The wish is empty: say what the agent is to do.")
    client = Client(socket)
    registered = client.get(repository_path(repo))
    users = [str(name) for name in registered.get("agents", [])]
    name, not_ready = _take(client, users, repo, agent, backend), None
    if name is None:
        config = _config(repo, backend or _NEW_BACKEND, provider, network)
        name, not_ready = _make(client, repo, agent, config, quiet=as_json)
    update_from_path(client, registered, quiet=as_json)
    before = _newest(client, repo)
    asked = int(client.post("/v1/messages", {"to": name, "body": wish})["id"])
    if not_ready is not None:
        raise Failure(not_ready.code, f"{not_ready.message}; {waiting_wish(asked)}", hint=not_ready.hint)
    if not as_json:
        click.echo(f"{name} has your wish (message {asked})", err=True)
        threading.Thread(target=_show_turn, args=(socket, name, asked), daemon=True).start()
    done = follow_wish(client, Wish(name, repo, asked, before), lambda text: click.echo(text, err=True))
    answer = client.get(work_path(repo, int(done["number"])))
    if as_json:
        print_json(answer)
    else:
        _report(answer)


def _take(client: Client, users: list[str], repo: str, agent: str | None, backend: str | None) -> str | None:
    """Return the agent that is to do it: the named one, or a free one with the repository; None to make one.

    One that waits for its login is free, too, if none is idle: it keeps the wish, and another one would need a login.
    """
    agents: dict[str, Any] = {str(each["name"]): each for each in client.get("/v1/agents").get("agents", [])}
    if agent is not None and agent in agents:
        if agent not in users:
            hint = f'add "{repo}" to repos in its agent.toml, or leave --agent out'
            raise Failure("unknown_repository", f"{agent} does not have the repository {repo}", hint=hint)
        _check_works(agents[agent])
        return agent
    free = [agents[name] for name in users if name in agents and _is_free(agents[name], backend)]
    free.sort(key=lambda each: each.get("state") != "idle")
    return str(free[0]["name"]) if agent is None and free else None


def _is_free(status: Answer, backend: str | None) -> bool:
    state = status.get("state")
    can_begin = state == "needs_login" or (state == "idle" and not status.get("unacked"))
    if status.get("kind") == "manager" or not can_begin:
        return False
    return status.get("backend") == backend if backend is not None else status.get("backend") != _FOLLOWS_A_SCRIPT


def _check_works(status: Answer) -> None:
    if status.get("lifecycle") not in ("running", "starting"):
        name = status.get("name")
        raise Failure("not_running", f"{name} is {status.get('lifecycle')}", hint=f'start it: "hive-c0re start {name}"')


def _config(repo: str, backend: str, provider: str | None, network: str) -> Answer:
    """Return the configuration of an agent that works on the repository and reaches its model."""
    config: Answer = {"repos": [repo], "backend": backend, "network": network}
    if provider is not None:
        return {**config, "provider": provider}
    vendor = SET_OF_BACKEND.get(backend)
    return config if network == "host" or vendor is None else {**config, "allowed_hosts": [vendor]}


def _make(client: Client, repo: str, agent: str | None, config: Answer, *, quiet: bool) -> tuple[str, Failure | None]:
    """Create an agent with this configuration and wait until it is ready; returns its name, and why it is not."""
    taken = {str(each["name"]) for each in client.get("/v1/agents").get("agents", [])}
    name = agent or _free_name(repo, taken)
    client.post("/v1/agents", {"name": name, "config": config}, wait=_BUILD_SECONDS)
    hint = f'"hive-c0re logs {name}" and "hive-c0re show {name}" say more'
    try:
        with nullcontext(lambda _status: None) if quiet else show_progress(name) as on_status:
            wait_until_ready(client, name, _START_SECONDS, on_status, was="was created", hint=hint)
    except Failure as failure:
        if failure.code != "not_ready":
            raise
        return name, failure
    return name, None


def _free_name(repo: str, taken: set[str]) -> str:
    """Return a name for a new agent: that of the repository, cut and numbered if need be."""
    for number in range(1, 1_000):
        end = "" if number == 1 else f"-{number}"
        name = repo[: _NAME_LENGTH - len(end)].rstrip("-") + end
        if name not in taken and is_agent_name(name):
            return name
    raise Failure("agent_exists", f"there are too many agents for {repo}", hint="name one with --agent")


def _newest(client: Client, repo: str) -> int:
    found = client.get("/v1/work", {"repo": repo, "state": "all", "limit": 1}).get("work", [])
    return int(found[0]["number"]) if found else 0


def _show_turn(socket: str | None, name: str, asked: int) -> None:
    """Print what the agent's model says and does about the message `asked` and later, until the program ends."""
    try:
        for happening in follow_agent(Client(socket), name, patient=False):
            for entry in _entries_since(asked, happening):
                for line in entry_lines(entry, "normal", width()):
                    click.echo(line, err=True)
    except Failure as failure:
        click.echo(f"{failure.message}: what {name} does is not shown", err=True)


def _entries_since(asked: int, happening: Happening) -> list[Mapping[str, Any]]:
    """Return the entries to show. A stream begins with the newest turn, which may be one before the message."""
    entries = entries_of(happening)
    if happening.kind == "now":
        numbers = [entry.get("id") for entry in entries if entry.get("kind") == "message"]
        entries = entries if asked in numbers else []
    return [entry for entry in entries if entry.get("kind") in _SHOWN]


def _report(answer: Answer) -> None:
    name = work_name(answer)
    click.echo(f"\n{name}: {visible(str(answer.get('title')))}")
    for item in answer.get("files", []):
        click.echo(f"  {file_line(item)}")
    checks = [escaped_line(str(line)) for line in answer.get("checks", [])] or ["none: the repository names no check"]
    click.echo("Checks: " + "; ".join(checks))
    click.echo(standing(answer))
    if answer.get("waits_for") is not None:
        click.echo(f"\nLook at it:  hive-c0re work diff {name}\nLand it:     hive-c0re work approve {name}")
        click.echo(f'Refuse it:   hive-c0re work deny {name} --note "..."')
