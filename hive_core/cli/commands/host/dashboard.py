"""The command `dashboard`."""

from __future__ import annotations

from pathlib import Path

import click

from hive_core.cli.arguments import LOG_LEVEL, with_stdin_option
from hive_core.cli.errors import Failure


@click.command()
@click.option(
    "--daemon",
    type=click.Path(path_type=Path),
    default=Path("/run/hyperhive/dashboard.sock"),
    show_default=True,
    help="Socket of the daemon for the dashboard.",
)
@click.option(
    "--origin",
    default="http://hive.localhost:7000",
    show_default=True,
    help="Scheme, host and port by which browsers reach the dashboard.",
)
@click.option("--listen", metavar="ADDRESS", help="HOST:PORT or path of a unix socket.  [default: 127.0.0.1:7000]")
@click.option("--inherited", type=int, metavar="FD", help="Listen on this descriptor instead.")
@click.option(
    "--certificate", type=click.Path(path_type=Path), help="File with the certificate and its chain, for TLS."
)
@click.option("--key", type=click.Path(path_type=Path), help="File with the key of the certificate.")
@with_stdin_option
@click.option("--log-level", type=LOG_LEVEL, default="info", help="Lowest level that is logged.")
def dashboard(
    daemon: Path,
    origin: str,
    listen: str | None,
    inherited: int | None,
    certificate: Path | None,
    key: Path | None,
    with_stdin: bool,
    log_level: str,
) -> int:
    """Serve the hive's web pages.

    It needs no privileges and keeps nothing: it can do what the people who are signed in can. Requests to another host
    name than that of --origin are refused. SIGTERM or Ctrl-C stops it. The files of TLS are read again when they have
    changed, and on SIGHUP.

    \b
    Examples:
      hive-c0re dashboard
      hive-c0re dashboard --listen /run/hive/web.sock --origin https://hive.example.org
      hive-c0re dashboard --listen 0.0.0.0:443 --origin https://hive.example.org --certificate hive.crt --key hive.key
    """
    from hive_core.errors import HiveError  # noqa: PLC0415
    from hive_core.services.dashboard.server.main import DashboardOptions, run  # noqa: PLC0415

    try:
        options = DashboardOptions(daemon.absolute(), origin, listen, inherited, certificate, key)
        return run(options, log_level, with_stdin=with_stdin)
    except HiveError as error:
        raise Failure(error.code, error.message, hint=error.hint) from None
