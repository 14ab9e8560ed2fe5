"""`hive-c0re serve`: the daemon itself."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from hive_core.cli.errors import Failure


@click.command()
@click.option("--config", "file", type=click.Path(path_type=Path), help="Settings, as TOML.")
@click.option("--state-dir", metavar="DIR", help="Directory for the database and the agents' files.")
@click.option("--run-dir", metavar="DIR", help="Directory for the sockets.")
@click.option("--sandbox", type=click.Choice(["auto", "bubblewrap", "none"]), help="How agents are confined.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="Least level logged.")
def serve(
    file: Path | None, state_dir: str | None, run_dir: str | None, sandbox: str | None, log_level: str | None
) -> int:
    """Run the daemon in the foreground.

    SIGTERM or Ctrl-C stops it and its agents; no message is lost. Settings come from the file, then from
    variables HIVE_<NAME>, then from these options; later ones win.
    """
    import_daemon()
    from hive_core.daemon import run  # noqa: PLC0415
    from hive_core.errors import HiveError  # noqa: PLC0415
    from hive_core.settings import load  # noqa: PLC0415

    flags = {"state_dir": state_dir, "run_dir": run_dir, "sandbox": sandbox, "log_level": log_level}
    try:
        return run(load(file, os.environ, flags))
    except HiveError as error:
        raise Failure(error.code, error.message, hint=error.hint) from None


def import_daemon() -> None:
    """Import what the daemon is made of, without what it has no use for: a time that no other command should pay."""
    # Nothing that an import makes is garbage, and looking for it takes a tenth of the start. The daemon turns it on.
    gc.disable()
    with _without("rich"):  # structlog draws tracebacks with it where it is installed; the log here is JSON.
        import structlog  # noqa: F401, PLC0415
    with _without_certificates():  # aiohttp's client, which the daemon has no use for, reads them all when imported.
        import aiohttp  # noqa: F401, PLC0415
    import hive_core.daemon  # noqa: F401, PLC0415


@contextmanager
def _without(package: str) -> Iterator[None]:
    """Import libraries as if `package` were not installed, to save the time that importing it takes."""
    # None makes the import fail: https://docs.python.org/3/reference/import.html#the-module-cache
    hidden = package not in sys.modules
    if hidden:
        sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules[package]


@contextmanager
def _without_certificates() -> Iterator[None]:
    """Let OpenSSL find no certificates meanwhile (SSL_CTX_set_default_verify_paths(3))."""
    places = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}
    before = {name: os.environ.get(name) for name in places}
    os.environ.update(places)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
