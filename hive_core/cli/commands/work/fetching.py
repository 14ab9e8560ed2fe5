"""Fetches of a repository with their progress, by the daemon or from a repository on this host."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from hive_core.cli.client import Client
from hive_core.cli.commands.work.local_source import LocalRepository
from hive_core.cli.commands.work.repositories import repository_path
from hive_core.cli.errors import Failure
from hive_core.cli.output import width
from hive_core.text import escaped_line

_LONGEST_SECONDS = 14 * 24 * 3_600.0
"""The daemon limits the time of a fetch; this only has to be longer."""
_POLL_SECONDS = 0.5


def fetch_repository(client: Client, repository: dict[str, Any], *, take_upstream: bool, quiet: bool) -> dict[str, Any]:
    """Fetch a repository and return the daemon's answer. The progress is printed on stderr unless `quiet`."""
    name = str(repository["name"])
    with _progress(client, name, quiet=quiet):
        if repository.get("source"):
            body = {"take_upstream": take_upstream}
            return client.post(repository_path(name, "fetch"), body, wait=_LONGEST_SECONDS)
        return _send(client, name, Path(str(repository.get("path"))), take_upstream=take_upstream)


def update_from_path(client: Client, repository: dict[str, Any], *, quiet: bool) -> None:
    """Fetch a repository that was registered by its path, which only the command line can read.

    What changed is printed on stderr unless `quiet`. If the path cannot be read, a warning says that the hive goes on
    with what it has: another user may have registered it.
    """
    if repository.get("source") or not repository.get("path"):
        return
    name, branch = escaped_line(str(repository.get("name"))), escaped_line(str(repository.get("branch")))
    try:
        answer = _send(client, str(repository["name"]), Path(str(repository["path"])), take_upstream=False)
    except Failure as failure:
        why = f"{name} is used as it was fetched before: {failure.message}"
        click.echo(f"warning: {why}" + (f" ({failure.hint})" if failure.hint else ""), err=True)
        return
    found, before = answer["repository"], answer.get("before")
    if found.get("state") == "diverged":
        click.echo(f"warning: {name}: {escaped_line(str(found.get('problem')))}", err=True)
        click.echo(f"  {escaped_line(str(found.get('advice')))}", err=True)
    elif before != found.get("commit") and not quiet:
        click.echo(f"{name}: {branch} of {escaped_line(str(found.get('path')))} was fetched", err=True)


def _send(client: Client, name: str, path: Path, *, take_upstream: bool) -> dict[str, Any]:
    local = LocalRepository(path)
    refs = local.refs()
    known = frozenset(str(ref["id"]) for ref in client.get(repository_path(name, "refs"))["refs"])

    def pieces() -> Iterator[bytes]:
        text = refs.text.encode("utf-8", "surrogateescape")
        needed = not refs.ids <= known
        yield f"{len(text)}\n".encode() + text + (b"pack\n" if needed else b"none\n")
        if needed:
            yield from local.pack(sorted(refs.ids), sorted(known))

    query = {"take_upstream": "true"} if take_upstream else None
    return client.send_stream(repository_path(name, "send"), query, pieces(), wait=_LONGEST_SECONDS)


@contextmanager
def _progress(client: Client, name: str, *, quiet: bool) -> Iterator[None]:
    """Print what the daemon does meanwhile: on a terminal in one line, else a line for each new step."""
    if quiet:
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_follow, args=(client, name, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=5.0)


def _follow(client: Client, name: str, done: threading.Event) -> None:
    terminal, last, shown = sys.stderr.isatty(), "", False
    while not done.wait(_POLL_SECONDS):
        try:
            said = escaped_line(str(client.get(repository_path(name)).get("activity") or ""))
        except Failure:
            continue  # The fetch itself says what is wrong.
        if terminal and said:
            shown = True
            click.echo(f"\r\x1b[K{said[: (width() or 80) - 1]}", nl=False, err=True)
        elif said and said.split(" ")[0] != last:
            last = said.split(" ")[0]
            click.echo(f"{name}: {said}", err=True)
    if shown:
        click.echo("\r\x1b[K", nl=False, err=True)


def report_fetch(answer: dict[str, Any]) -> None:
    """Print the result of a fetch in a line or two; a branch that has diverged is explained on stderr."""
    repository = answer["repository"]
    name, branch, commit = repository["name"], repository["branch"], str(repository.get("commit") or "")[:10]
    before = str(answer.get("before") or "")[:10]
    if repository.get("state") == "diverged":
        click.echo(f"{name}: {escaped_line(str(repository.get('problem')))}", err=True)
        click.echo(f"  {escaped_line(str(repository.get('advice')))}", err=True)
    moved = "is new" if not before else f"moved from {before}" if before != commit else "is up to date"
    click.echo(f"{name}: {branch} {moved}, at {commit}; branches and tags changed: {answer.get('refs_changed')}")
    if repository.get("lfs"):
        click.echo(f"{name} uses LFS: the mirror holds the pointers, not the files behind them", err=True)
    if repository.get("submodules"):
        click.echo(
            f"{name} has submodules, which are not fetched; register them as repositories of their own", err=True
        )
    if repository.get("refs_left_out"):
        click.echo(f"{name}: {repository['refs_left_out']} branches and tags were left out for their names", err=True)
