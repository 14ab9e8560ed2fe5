"""The commands `repo add`, `repo set` and `repo fetch`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import click

from hive_core.cli.arguments import json_option, print_json
from hive_core.cli.client import Client
from hive_core.cli.commands.work.credential_input import accept_host_keys, read_secrets
from hive_core.cli.commands.work.fetching import fetch_repository, report_fetch
from hive_core.cli.commands.work.local_source import LocalRepository
from hive_core.cli.commands.work.repositories import print_repository, repository_argument, repository_path
from hive_core.cli.errors import Failure
from hive_core.text import shown

F = TypeVar("F", bound=Callable[..., Any])


def _options(command: F) -> F:
    """Add the options that `add` and `set` share."""
    for option in reversed(
        (
            click.option("--branch", metavar="NAME", help="Branch that agents start from and that landings move."),
            click.option(
                "--push",
                type=click.Choice(["none", "branch", "pull-request"]),
                help="What happens upstream with landed work.",
            ),
            click.option("--merges/--no-merges", default=None, help="Whether work may land by a merge."),
            click.option("--review", metavar="WHO", help="Who decides: manager, operator, both or agent:NAME."),
            click.option(
                "--instructions/--no-instructions",
                default=None,
                help="Whether CLAUDE.md, AGENTS.md and skills of the repository reach the agents.",
            ),
            click.option(
                "--check",
                "checks",
                metavar="'NAME: COMMAND'",
                multiple=True,
                help="A command that tests proposed work; can be given several times. No shell reads it.",
            ),
            click.option(
                "--check-timeout",
                type=click.IntRange(1, 86_400),
                default=600,
                show_default=True,
                help="Seconds that each check may take.",
            ),
            click.option(
                "--check-host",
                "check_hosts",
                metavar="HOST",
                multiple=True,
                help="A host or set that checks reach through the proxy; can be given several times. Without any they "
                "have no network.",
            ),
            click.option("--token", metavar="-", help="Read a token for https from stdin, or ask for it."),
            click.option("--ssh-key", metavar="FILE", help="Private key for ssh, without a passphrase."),
            click.option("--login", is_flag=True, help="Sign in at GitHub: with gh, or in the browser."),
            click.option(
                "--host-key",
                "host_keys",
                metavar="SHA256:...",
                multiple=True,
                help="Fingerprint of the SSH server's key.",
            ),
        )
    ):
        command = option(command)
    return command


def _is_url(source: str) -> bool:
    """Return True unless the source is a path: whatever exists on this host is one."""
    if Path(source).exists():
        return False
    return "://" in source or re.match(r"[^/]*:", source) is not None


def _check(given: str, timeout: int) -> dict[str, Any]:
    name, colon, command = given.partition(":")
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise click.UsageError(f"The check {shown(given)} cannot be split into words: {error}.") from None
    if not colon or not name.strip() or not words:
        raise click.UsageError(f"{shown(given)} is no check: write 'NAME: COMMAND'.")
    return {"name": name.strip(), "argv": words, "timeout_seconds": timeout}


def _policy(options: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a request that are given as options."""
    fields = {key: options[key] for key in ("branch", "push", "merges", "review", "instructions")}
    found = {key: value for key, value in fields.items() if value is not None}
    if options["checks"]:
        found["checks"] = [_check(each, options["check_timeout"]) for each in options["checks"]]
    if options["check_hosts"]:
        found["check_hosts"] = list(options["check_hosts"])
    return found


@click.command()
@click.argument("name")
@click.argument("source", metavar="URL|PATH")
@_options
@json_option
@click.pass_obj
def add(socket: str | None, /, name: str, source: str, as_json: bool, **options: Any) -> None:
    """Register a repository and fetch it.

    URL is https://HOST/PATH, ssh://USER@HOST/PATH or USER@HOST:PATH. PATH is a repository on this host, which this
    command reads as you, and sends to the daemon. If the first fetch fails, nothing is registered.

    \b
    Examples:
      hive-c0re repo add web https://github.com/you/web.git --login
      hive-c0re repo add api git@git.example.org:team/api.git --ssh-key ~/.ssh/hive
      hive-c0re repo add notes ~/notes --check 'test: make test'
    """
    client = Client(socket)
    request: dict[str, Any] = {"name": name, **_policy(options)}
    path = repository_path(name)
    if _is_url(source):
        request["source"] = source
        request |= read_secrets(client, source, options)
        request |= accept_host_keys(client, source, options["host_keys"])
    else:
        request["path"] = str(LocalRepository(Path(source)).path)
        if options["token"] or options["ssh_key"] or options["login"]:
            raise click.UsageError("A repository on this host needs no credential.")
    repository = client.post("/v1/repositories", request)
    try:
        answer = fetch_repository(client, repository, take_upstream=False, quiet=as_json)
    except BaseException:
        with suppress(Failure):
            client.post(f"{path}/remove", {"force": True})
        raise
    if as_json:
        print_json(answer)
        return
    report_fetch(answer)
    click.echo(f'give an agent a wish for it: hive-c0re run {name} "..."', err=True)
    click.echo(f"or make one that has it: hive-c0re spawn NAME --repo {name}", err=True)


@click.command("set")
@repository_argument
@_options
@click.option("--no-checks", is_flag=True, help="Remove all checks.")
@click.option("--no-check-hosts", is_flag=True, help="Let checks reach no host any more.")
@click.option("--forget-credential", is_flag=True, help="Delete the token or key.")
@click.option("--scan-host-keys", is_flag=True, help="Ask the SSH server for its keys again, and accept them.")
@json_option
@click.pass_obj
def change(
    socket: str | None,
    /,
    name: str,
    no_checks: bool,
    no_check_hosts: bool,
    forget_credential: bool,
    scan_host_keys: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Change a repository; what is not given stays. Checks replace those that there were, and so do hosts.

    \b
    Examples:
      hive-c0re repo set web --push pull-request --review operator
      hive-c0re repo set web --check "test: npm test" --check-host npm
    """
    client = Client(socket)
    repository = client.get(repository_path(name))
    source = str(repository.get("source") or "")
    request = _policy(options) | read_secrets(client, source, options)
    if no_checks:
        request["checks"] = []
    if no_check_hosts:
        request["check_hosts"] = []
    if forget_credential:
        request["forget_credential"] = True
    if scan_host_keys or options["host_keys"]:
        request |= accept_host_keys(client, source, options["host_keys"])
    if not request:
        raise click.UsageError("There is nothing to change: give an option.")
    changed = client.post(repository_path(name, "set"), request)
    if as_json:
        print_json(changed)
        return
    print_repository(changed)


@click.command()
@repository_argument
@click.option("--take-upstream", is_flag=True, help="Move the branch to upstream's even if commits here are not in it.")
@json_option
@click.pass_obj
def fetch(socket: str | None, name: str, take_upstream: bool, as_json: bool) -> None:
    """Fetch a repository now, and move its branch to upstream's if that is a fast-forward.

    A repository that was registered by its path on this host is read by this command, as you. With --take-upstream
    the commits that the branch gives up stay in the mirror, below refs/landed/.

    \b
    Example:
      hive-c0re repo fetch web
    """
    client = Client(socket)
    answer = fetch_repository(client, client.get(repository_path(name)), take_upstream=take_upstream, quiet=as_json)
    if as_json:
        print_json(answer)
        return
    report_fetch(answer)
