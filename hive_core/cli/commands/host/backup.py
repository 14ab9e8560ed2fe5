"""The commands `backup` and `restore`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hive_core.cli.arguments import json_option, print_json
from hive_core.cli.client import Client
from hive_core.cli.errors import Failure, NoDaemon
from hive_core.text import escaped_line, format_bytes

if TYPE_CHECKING:
    from hive_core.infra.backup.sources import DatabaseSource
    from hive_core.layout import Layout

_SHOWN = 20
"""Files that are not in a backup and are named one by one."""

_file_argument = click.argument("file", type=click.Path(path_type=Path))
_config_option = click.option(
    "--config", "settings", type=click.Path(path_type=Path), help="The daemon's settings, as TOML."
)
_state_dir_option = click.option("--state-dir", metavar="DIR", help="The state directory of the hive.")


@click.command()
@_file_argument
@_config_option
@_state_dir_option
@json_option
def backup(file: Path, settings: Path | None, state_dir: str | None, as_json: bool) -> None:
    """Write a backup of the hive to a file.

    FILE gets the database, the agents' files, the applied repositories, the builds of the local runtime and the logs.
    It holds the agents' logins: only its owner can read it. FILE must not exist. The daemon may run. Run the command as
    root, or as the daemon's user.

    \b
    Example:
      hive-c0re backup hive.tar.gz
    """
    with _failures():
        from hive_core.infra.backup.create import create_backup  # noqa: PLC0415

        layout = _layout(settings, state_dir)
        created = create_backup(layout, file, _report, _find_database(layout))
    left_out = [{"path": path, "why": why} for path, why in created.left_out]
    if as_json:
        print_json(
            {
                "file": str(file.absolute()),
                "bytes": created.bytes,
                "files": created.members,
                **_facts(created.manifest.model_dump()),
                "left_out": left_out,
            }
        )
        return
    for each in left_out[:_SHOWN]:
        click.echo(f"left out: {escaped_line(each['path'])}: {each['why']}", err=True)
    if len(left_out) > _SHOWN:
        click.echo(f"left out: {len(left_out) - _SHOWN} more; --json lists them all", err=True)
    agents = len(created.manifest.agents)
    click.echo(f"{file}: {format_bytes(created.bytes)}, agents: {agents}, files: {created.members}")


@click.command()
@_file_argument
@_config_option
@_state_dir_option
@json_option
def restore(file: Path, settings: Path | None, state_dir: str | None, as_json: bool) -> None:
    """Restore a hive from a backup.

    The content of FILE is written to an empty state directory, which may have another path than the hive had. The
    daemon must not run; start it afterwards. Run the command as root, or as the daemon's user.

    \b
    Example:
      hive-c0re restore hive.tar.gz --state-dir /var/lib/hyperhive
    """
    with _failures():
        from hive_core.infra.backup.restore import restore_backup  # noqa: PLC0415

        layout = _layout(settings, state_dir)
        restored = restore_backup(layout, file, _report)
    if as_json:
        print_json(
            {
                "state_dir": str(layout.state_dir),
                "files": restored.members,
                **_facts(restored.manifest.model_dump()),
                "other_owners": restored.other_owners,
            }
        )
        return
    if restored.other_owners:
        click.echo(f"{restored.other_owners} files belong to you now: only root can give them to others", err=True)
    made = restored.manifest.created_at
    click.echo(f"{layout.state_dir}: agents: {len(restored.manifest.agents)}, as of {made}")
    click.echo('start the daemon, then see "hive-c0re list" and "hive-c0re doctor"', err=True)


def _find_database(layout: Layout) -> DatabaseSource | None:
    """Return the database of the daemon that runs; None if none runs, or none that can be asked."""
    from hive_core.infra.backup.sources import DaemonDatabase, find_daemon  # noqa: PLC0415

    run_dir = find_daemon(layout)
    if run_dir is None:
        return None
    database = DaemonDatabase(layout, Client(str(replace(layout, run_dir=run_dir).host_socket)))
    try:
        return database if database.is_served() else None
    except NoDaemon:  # It starts or stops.
        return None
    except Failure as failure:
        if failure.code == "not_found":  # It is older than this program.
            return None
        raise


def _facts(manifest: dict[str, Any]) -> dict[str, Any]:
    return {key: manifest[key] for key in ("version", "created_at", "agents")} | {"schema": manifest["schema_number"]}


def _layout(settings: Path | None, state_dir: str | None) -> Layout:
    from hive_core.settings import load  # noqa: PLC0415 - the settings take time to import

    return load(settings, os.environ, {"state_dir": state_dir}).layout


def _report(text: str) -> None:
    click.echo(escaped_line(text), err=True)


@contextmanager
def _failures() -> Iterator[None]:
    from hive_core.errors import HiveError  # noqa: PLC0415

    try:
        yield
    except HiveError as error:
        raise Failure(error.code, error.message, hint=error.hint) from None
