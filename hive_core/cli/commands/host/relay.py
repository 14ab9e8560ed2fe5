"""The command `relay`."""

from __future__ import annotations

from pathlib import Path

import click

_PATH = click.Path(path_type=Path)


@click.command()
@click.option("--socket", "socket_path", type=_PATH, required=True, help="The daemon's socket for the relay.")
@click.option("--status", "status_path", type=_PATH, help="Socket to make for /healthz and /metrics.")
@click.option(
    "--credentials", type=_PATH, help="Directory with the vendors' keys; else $CREDENTIALS_DIRECTORY of systemd."
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="Lowest level that is logged.",
)
def relay(socket_path: Path, status_path: Path | None, credentials: Path | None, log_level: str) -> int:
    """Run the relay in the foreground: the process with the vendors' keys.

    It passes agents' calls of models on, within what their configurations and budgets allow. The daemon decides; the
    relay needs no privileges. Keys are files of the mode 0600, one each. SIGTERM ends it and its calls.

    \b
    Examples:
      hive-c0re relay --socket /run/hyperhive/relay.sock --credentials /etc/hyperhive/keys
    """
    from hive_core.services.relay.main import run  # noqa: PLC0415 - no other command needs it

    return run(socket_path, status_path, credentials, log_level)
