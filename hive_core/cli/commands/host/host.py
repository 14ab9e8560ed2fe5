"""The commands `serve`, `doctor`, `check-config` and `completion`."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click
from click.shell_completion import get_completion_class

from hive_core.cli import PROGRAM, main
from hive_core.cli.arguments import json_option, print_json
from hive_core.cli.client import Client
from hive_core.cli.errors import Failure
from hive_core.cli.live_check import CheckStep, LiveCheck
from hive_core.cli.output import coloured_state, dim, warn
from hive_core.text import escaped_line


@click.command()
@click.option("--config", "file", type=click.Path(path_type=Path), help="Settings, as TOML.")
@click.option("--state-dir", metavar="DIR", help="Directory for the database and the agents' files.")
@click.option("--run-dir", metavar="DIR", help="Directory for the sockets.")
@click.option("--sandbox", type=click.Choice(["auto", "bubblewrap", "none"]), help="How agents are confined.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="Lowest level that is logged."
)
@click.option("--check", is_flag=True, help="Only say what a start would do; nothing is changed.")
def serve(
    file: Path | None,
    state_dir: str | None,
    run_dir: str | None,
    sandbox: str | None,
    log_level: str | None,
    check: bool,
) -> int:
    """Run the daemon in the foreground.

    SIGTERM, SIGHUP or Ctrl-C stops it and its agents; no message is lost. Settings come from the file, then from
    variables HIVE_<NAME>, then from these options; later ones override earlier ones.

    \b
    Examples:
      hive-c0re serve
      hive-c0re serve --check
      hive-c0re serve --config ~/hive.toml --state-dir ~/hive
    """
    import_daemon()
    from hive_core.daemon import run  # noqa: PLC0415
    from hive_core.errors import HiveError  # noqa: PLC0415
    from hive_core.settings import load, unknown_variables  # noqa: PLC0415

    flags = {"state_dir": state_dir, "run_dir": run_dir, "sandbox": sandbox, "log_level": log_level}
    try:
        settings = load(file, os.environ, flags)
        for each in unknown_variables(os.environ, settings):
            warn(each)
        if not check:
            return run(settings)
        from hive_core.doctor.state_probes import describe_start  # noqa: PLC0415

        for line in describe_start(settings):
            click.echo(line)
        return 0
    except HiveError as error:
        raise Failure(error.code, error.message, hint=error.hint) from None


def import_daemon() -> None:
    """Import the daemon's modules without optional parts that it does not use, because they slow its start down."""
    # Garbage collection during the imports finds nothing and takes a tenth of the start. The daemon enables it again.
    gc.disable()
    with _without("rich"):  # structlog would use it to format tracebacks; the daemon logs JSON.
        import structlog  # noqa: F401, PLC0415
    with _without_certificates():  # aiohttp's client reads them when imported; the daemon does not use it.
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
    """Hide all certificates from OpenSSL within the block (SSL_CTX_set_default_verify_paths(3))."""
    hidden = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}
    before = {name: os.environ.get(name) for name in hidden}
    os.environ.update(hidden)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_COLOURS = {"ok": "idle", "warning": "thinking", "error": "failed"}
"""Lifecycles and states whose colours are used for the severities."""
_SEVERITY_WIDTH = len("warning")


_END_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


@click.command()
@click.option("--config", "file", type=click.Path(path_type=Path), help="The daemon's settings, as TOML.")
@click.option("--live", is_flag=True, help="Also create, reach and remove an agent with the running daemon.")
@click.option("--sealed", is_flag=True, help="With --live: the agent has a sealed network.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=1_800.0,
    show_default=True,
    help="With --live: seconds that each step may take.",
)
@json_option
@click.pass_context
def doctor(context: click.Context, file: Path | None, live: bool, sealed: bool, timeout: float, as_json: bool) -> int:
    """Check this host for missing or wrong parts.

    Each finding says what to do about it. The command works without a daemon and changes nothing. The exit code is 1 if
    there are errors; warnings alone do not change it. Run it as root to check everything.

    --live tests the rest: a throwaway agent is created, built, started, asked and removed, and each step is shown with
    its time.

    \b
    Examples:
      hive-c0re doctor
      hive-c0re doctor --live
    """
    if sealed and not live:
        raise click.UsageError("--sealed needs --live.", context)
    # The checks import parts of the daemon, which take time that no other command should pay.
    from hive_core.doctor import Unanswered, examine, healthy  # noqa: PLC0415

    client = Client(context.obj)

    def ask(path: str) -> dict[str, Any]:
        try:
            return client.get(path)
        except Failure as failure:
            raise Unanswered(failure.code, failure.message, failure.hint) from None

    findings = examine(file, os.environ, client.path, ask)
    well = healthy(findings)
    if not as_json:
        for each in findings:
            _show(each.severity, each.what, each.remedy)
    check = LiveCheck(client, (lambda _: None) if as_json else _show_step, timeout=timeout, sealed=sealed)
    if live:
        with _exit_on_signals():
            check.run()
        well = well and check.well
    if as_json:
        shown = [
            {"check": each.check, "severity": each.severity, "what": each.what, "remedy": each.remedy}
            for each in findings
        ]
        tried = {"live": {"agent": check.name, "steps": [step.as_json() for step in check.steps]}} if live else {}
        print_json({"healthy": well, "findings": shown, **tried})
        return 0 if well else 1
    both = [each.severity for each in findings] + [step.severity for step in check.steps]
    words = f"errors: {both.count('error')}, warnings: {both.count('warning')}"
    click.echo(f"{'healthy' if well else 'not healthy'}: {words}")
    return 0 if well else 1


def _show(severity: str, what: str, remedy: str) -> None:
    click.echo(f"{coloured_state(_COLOURS[severity], severity.ljust(_SEVERITY_WIDTH))}  {escaped_line(what)}")
    if remedy:
        click.echo(f"{' ' * _SEVERITY_WIDTH}  {dim(escaped_line(remedy))}")


def _show_step(step: CheckStep) -> None:
    _show(step.severity, f"{step.step}, {step.seconds:.1f} s: {step.what}", step.remedy)
    for line in step.lines:
        click.echo(f"{' ' * _SEVERITY_WIDTH}  {dim('| ' + escaped_line(line))}")


@contextmanager
def _exit_on_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into SystemExit within the block, so that the clean-up runs as after Ctrl-C."""

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in _END_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@click.command("check-config")
@click.argument("file", type=click.Path(path_type=Path))
def check_config(file: Path) -> None:
    """Check a settings file as the daemon does.

    It checks only the file: not the variables HIVE_<NAME>, and not whether the directories exist.

    \b
    Example:
      hive-c0re check-config /etc/hyperhive/config.toml
    """
    # Settings take time to import, which no other command should pay.
    from hive_core.errors import HiveError  # noqa: PLC0415
    from hive_core.settings import load  # noqa: PLC0415

    try:
        load(file, {}, {}).layout.check_socket_lengths()
    except HiveError as error:
        raise Failure(error.code, error.message, hint=error.hint) from None
    click.echo(f"{file}: no errors")


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script for shell completion.

    \b
    bash:  eval "$(hive-c0re completion bash)"     in ~/.bashrc
    zsh:   eval "$(hive-c0re completion zsh)"      in ~/.zshrc
    fish:  hive-c0re completion fish | source      in ~/.config/fish/config.fish

    \b
    Example:
      eval "$(hive-c0re completion bash)"
    """
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(main, {}, PROGRAM, "_HIVE_C0RE_COMPLETE").source())
