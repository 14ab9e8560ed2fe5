"""The command `spawn`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hive_core.cli.arguments import complete_repositories, json_option, print_json, waiting_options
from hive_core.cli.client import Client
from hive_core.cli.commands.agents.config_directory import ConfigFiles, read_directory, read_text
from hive_core.cli.output import coloured_agent, coloured_state, warn
from hive_core.cli.waiting import show_progress, wait_until_ready
from hive_core.text import escaped_line

_BUILD_SECONDS = 86_400.0
"""Longest time that settings can give a build."""

_LEFT_OUT_NAMED = 10


@click.command()
@click.argument("name")
@click.option(
    "--backend",
    metavar="BACKEND",
    help="Agent CLI that runs its turns: scripted (the default), claude, opencode, codex or gemini.",
)
@click.option("--model", metavar="MODEL", help="Model that the backend is to use.")
@click.option(
    "--provider", metavar="PROVIDER", help="Provider of the settings whose key the relay uses for its calls of models."
)
@click.option("--prompt", metavar="TEXT", help="Text of its role.")
@click.option("--prompt-file", type=click.Path(path_type=Path), help="File with the text of its role.")
@click.option("--tool", "tools", multiple=True, metavar="TOOL", help="Tool that it may use; may be repeated.")
@click.option(
    "--allow", "allowed_recipients", multiple=True, metavar="NAME", help="Agent that it may send to; may be repeated."
)
@click.option(
    "--repo",
    "repos",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_repositories,
    help="Repository of the hive that it works on; may be repeated. Without --with and agent.nix, the repository's "
    ".hive/agent.nix describes its system.",
)
@click.option(
    "--with",
    "packages",
    multiple=True,
    metavar="PACKAGE[,PACKAGE...]",
    help="Packages of nixpkgs that it needs, such as nodejs,uv; may be repeated.",
)
@click.option(
    "--network",
    type=click.Choice(["sealed", "host"]),
    help="Network that it has: sealed (the default), or the whole network of the host.",
)
@click.option(
    "--reach",
    "allowed_hosts",
    multiple=True,
    metavar="HOST",
    help="Host, or set of hosts such as pypi, that it reaches while it is sealed; may be repeated.",
)
@click.option(
    "--config-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Directory with its configuration: agent.toml, prompt.md, agent.nix, each optional, and other files. "
    "Options override the files.",
)
@click.option("--owner", metavar="PERSON", help="Person to whom it will belong; without it, it is everybody's.")
@click.option("--no-start", is_flag=True, help="Create it, but do not start it.")
@waiting_options
@json_option
@click.pass_obj
def spawn(
    socket: str | None,
    /,
    name: str,
    prompt: str | None,
    prompt_file: Path | None,
    config_dir: Path | None,
    packages: tuple[str, ...],
    owner: str | None,
    no_start: bool,
    no_wait: bool,
    timeout: float,
    as_json: bool,
    **options: Any,
) -> None:
    """Create an agent and wait until it is ready.

    NAME is 1 to 9 of a-z, 0-9 and -, a letter first; the name hm1nd creates the manager. Without --allow the agent may
    send to everyone.

    \b
    Examples:
      hive-c0re spawn ada --backend claude --repo web --with nodejs,uv --reach anthropic --reach npm
      hive-c0re spawn bob --prompt "You review what ada writes."
      hive-c0re spawn cy --config-dir ./cy --no-start
    """
    if prompt is not None and prompt_file is not None:
        raise click.UsageError("Give --prompt or --prompt-file, not both.")
    files = read_directory(config_dir) if config_dir is not None else ConfigFiles()
    if files.left_out:
        names = escaped_line(", ".join(files.left_out[:_LEFT_OUT_NAMED]))
        more = f" and {len(files.left_out) - _LEFT_OUT_NAMED} more" if len(files.left_out) > _LEFT_OUT_NAMED else ""
        click.echo(f"left out, as no part of a configuration: {names}{more}", err=True)
    role = prompt if prompt is not None else files.prompt if prompt_file is None else read_text(prompt_file)
    request: dict[str, object] = {"name": name, "config": {**(files.config or {}), **_settings_from_options(**options)}}
    wanted = [name for each in packages for name in each.replace(" ", "").split(",") if name]
    if wanted and files.agent_nix is not None:
        raise click.UsageError(f"{config_dir} has an agent.nix: name the packages there, and leave out --with.")
    request |= {"packages": wanted} if wanted else {}
    request |= {"start": False} if no_start else {}
    request |= {"owner": owner} if owner is not None else {}
    request |= {"prompt": role} if role is not None else {}
    request |= {"agent_nix": files.agent_nix} if files.agent_nix is not None else {}
    request |= {"files": files.others} if files.others else {}
    request |= {"executables": files.executables} if files.executables else {}
    client = Client(socket)
    status = client.post("/v1/agents", request, wait=_BUILD_SECONDS)
    for each in status.get("warnings", []):
        warn(str(each))
    for each in status.get("notes", []):
        click.echo(escaped_line(str(each)), err=True)
    if not (no_start or no_wait):
        hint = f'look with "hive-c0re logs {name}"; remove it with "hive-c0re destroy {name}"'
        with show_progress(name) as on_status:
            status = wait_until_ready(client, name, timeout, on_status, was="was created", hint=hint)
    if as_json:
        print_json(status)
        return
    is_now = (
        "created, and not started" if no_start else "created" if no_wait else coloured_state(str(status.get("state")))
    )
    click.echo(f"{coloured_agent(name)} is {is_now}")


def _settings_from_options(
    backend: str | None,
    model: str | None,
    provider: str | None,
    tools: tuple[str, ...],
    allowed_recipients: tuple[str, ...],
    repos: tuple[str, ...],
    network: str | None,
    allowed_hosts: tuple[str, ...],
) -> dict[str, object]:
    """Return the keys of `agent.toml` that were given as options."""
    given: dict[str, object] = {}
    given |= {"backend": backend} if backend is not None else {}
    given |= {"model": model} if model is not None else {}
    given |= {"provider": provider} if provider is not None else {}
    given |= {"tools": list(tools)} if tools else {}
    given |= {"allowed_recipients": list(allowed_recipients)} if allowed_recipients else {}
    given |= {"repos": list(repos)} if repos else {}
    given |= {"network": network} if network is not None else {}
    given |= {"allowed_hosts": list(allowed_hosts)} if allowed_hosts else {}
    return given
