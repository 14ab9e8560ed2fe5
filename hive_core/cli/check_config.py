"""`hive-c0re check-config`: what the daemon would say about a settings file, without starting one."""

from __future__ import annotations

from pathlib import Path

import click

from hive_core.cli.errors import Failure


@click.command("check-config")
@click.argument("file", type=click.Path(path_type=Path))
def check_config(file: Path) -> None:
    """Check a settings file as the daemon does.

    Looks at nothing but the file: not at variables, and not at whether the directories that it names are there.
    """
    # Settings take time to import, which no other command should pay.
    from hive_core.errors import HiveError  # noqa: PLC0415
    from hive_core.settings import load  # noqa: PLC0415

    try:
        load(file, {}, {}).layout.check_socket_lengths()
    except HiveError as error:
        raise Failure(error.code, error.message, hint=error.hint) from None
    click.echo(f"{file}: no errors")
