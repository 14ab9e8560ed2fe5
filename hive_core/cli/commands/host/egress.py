"""The command `egress`."""

from __future__ import annotations

from pathlib import Path

import click

from hive_core.cli.arguments import LOG_LEVEL, with_stdin_option
from hive_core.cli.errors import Failure


@click.command()
@click.option(
    "--link",
    type=click.Path(path_type=Path),
    default=Path("/run/hyperhive/egress.sock"),
    show_default=True,
    help="Socket of the daemon, which says what agents may reach.",
)
@click.option("--status", type=click.Path(path_type=Path), help="Socket to make, for /healthz and /metrics.")
@with_stdin_option
@click.option("--log-level", type=LOG_LEVEL, default="info", help="Lowest level that is logged.")
def egress(link: Path, status: Path | None, with_stdin: bool, log_level: str) -> int:
    """Run the proxy through which sealed agents reach what their rules allow.

    It needs no privileges and keeps nothing. The daemon gives it the agents' listeners and rules; while the daemon is
    away, it goes on with what it has. SIGTERM or Ctrl-C stops it and ends all connections.

    \b
    Examples:
      hive-c0re egress
      hive-c0re egress --link ~/hive/run/egress.sock --status ~/hive/run/egress-status.sock
    """
    from hive_core.errors import HiveError  # noqa: PLC0415
    from hive_core.services.egress.main import run  # noqa: PLC0415

    try:
        return run(link.absolute(), status.absolute() if status else None, log_level, with_stdin=with_stdin)
    except HiveError as error:
        raise Failure(error.code, error.message, hint=error.hint) from None
