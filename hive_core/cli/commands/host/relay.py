"""The command `relay`."""

from __future__ import annotations

from pathlib import Path

import click

from hive_core.cli.arguments import LOG_LEVEL, with_stdin_option

_PATH = click.Path(path_type=Path)


@click.command()
@click.option(
    "--link",
    type=_PATH,
    default=Path("/run/hyperhive/relay.sock"),
    show_default=True,
    help="Socket of the daemon, which says what agents may use.",
)
@click.option("--status", type=_PATH, help="Socket to make, for /healthz and /metrics.")
@click.option(
    "--credentials", type=_PATH, help="Directory with the vendors' keys; else $CREDENTIALS_DIRECTORY of systemd."
)
@with_stdin_option
@click.option(
    "--log-level",
    type=LOG_LEVEL,
    default="info",
    show_default=True,
    help="Lowest level that is logged.",
)
def relay(link: Path, status: Path | None, credentials: Path | None, with_stdin: bool, log_level: str) -> int:
    """Run the relay in the foreground: the process with the vendors' keys.

    It passes agents' calls of models on, within what their configurations and budgets allow. The daemon decides; the
    relay needs no privileges. Keys are files of the mode 0600, one each. SIGTERM ends it and its calls.

    \b
    Examples:
      hive-c0re relay --credentials /etc/hyperhive/keys
      hive-c0re relay --link ~/hive/run/relay.sock --credentials ~/hive/keys
    """
    from hive_core.services.relay.main import run  # noqa: PLC0415 - no other command needs it

    return run(
        link.absolute(),
        status.absolute() if status else None,
        credentials.absolute() if credentials else None,
        log_level,
        with_stdin=with_stdin,
    )
