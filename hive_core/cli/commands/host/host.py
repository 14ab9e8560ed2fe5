"""The commands `serve`, `doctor`, `check-config` and `completion`."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import get_completion_class

from hive_core.cli import PROGRAM, main
from hive_core.cli.arguments import LOG_LEVEL, complete_agents, json_option, print_json
from hive_core.cli.client import Client, agent_path
from hive_core.cli.errors import Failure
from hive_core.cli.live.live_check import CheckStep, LiveCheck
from hive_core.cli.output import coloured_state, dim, warn
from hive_core.text import escaped_line

if TYPE_CHECKING:
    from hive_core.cli.live.seal_check import Seal


@click.command()
@click.option("--config", "file", type=click.Path(path_type=Path), help="Settings, as TOML.")
@click.option("--state-dir", metavar="DIR", help="Directory for the database and the agents' files.")
@click.option("--run-dir", metavar="DIR", help="Directory for the sockets.")
@click.option("--sandbox", type=click.Choice(["auto", "bubblewrap", "none"]), help="How agents are confined.")
@click.option("--log-level", type=LOG_LEVEL, help="Lowest level that is logged.")
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
@click.argument("agents", metavar="[AGENT]...", nargs=-1, shell_complete=complete_agents)
@click.option("--live", is_flag=True, help="Also test the running hive: a throwaway agent, and the seals of agents.")
@click.option("--sealed", is_flag=True, help="With --live: the throwaway agent has a sealed network, as by default.")
@click.option("--host-network", is_flag=True, help="With --live: the throwaway agent has the network of the host.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=1_800.0,
    show_default=True,
    help="With --live: seconds that each step may take.",
)
@json_option
@click.pass_context
def doctor(
    context: click.Context,
    agents: tuple[str, ...],
    file: Path | None,
    live: bool,
    sealed: bool,
    host_network: bool,
    timeout: float,
    as_json: bool,
) -> int:
    """Check this host for missing or wrong parts.

    Each finding says what to do about it. The command works without a daemon and changes nothing. The exit code is 1 if
    there are errors; warnings alone do not change it. Run it as root to check everything.

    --live tests the rest: a throwaway agent is created, built, started, asked and removed, and each step is shown with
    its time. Then each running agent tries from inside what a sealed one must not reach, and an allowed host. With
    AGENTs, only their seals are tried ("all": those of all that run). What an agent reports is its word: this host only
    sees for itself who reaches its loopback and its abstract sockets.

    \b
    Examples:
      hive-c0re doctor
      hive-c0re doctor --live
      hive-c0re doctor --live ada bob
    """
    for given, what in ((agents, "AGENT"), (sealed, "--sealed"), (host_network, "--host-network")):
        if given and not live:
            raise click.UsageError(f"{what} needs --live.", context)
    if sealed and host_network:
        raise click.UsageError("Give --sealed or --host-network, not both.", context)
    # The checks import parts of the daemon, which take time that no other command should pay.
    from hive_core.cli.live.seal_check import SealCheck  # noqa: PLC0415
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
    check = LiveCheck(
        client,
        _show_nothing if as_json else _show_step,
        timeout=timeout,
        sealed=not host_network,
        try_seal=lambda agent: SealCheck(client, _show_nothing).run([agent])[0],
    )
    seals: list[Seal] = []
    if live:
        if not agents:
            with _exit_on_signals():
                check.run()
            well = well and check.well
        if check.daemon_answers or agents:
            seals = _check_seals(client, agents, _show_nothing if as_json else _show_seal)
        well = well and all(seal.severity != "error" for seal in seals)
    if as_json:
        shown = [
            {"check": each.check, "severity": each.severity, "what": each.what, "remedy": each.remedy}
            for each in findings
        ]
        steps, tried = [step.as_json() for step in check.steps], [seal.as_json() for seal in seals]
        more = {"live": {"agent": check.name, "steps": steps, "seals": tried}} if live else {}
        print_json({"healthy": well, "findings": shown, **more})
        return 0 if well else 1
    severities: list[str] = [each.severity for each in findings]
    severities += [step.severity for step in check.steps] + [seal.severity for seal in seals]
    words = f"errors: {severities.count('error')}, warnings: {severities.count('warning')}"
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


_ALL = "all"


def _show_nothing(_: CheckStep | Seal) -> None:
    """Leave what was found to the answer in JSON."""


def _show_seal(seal: Seal) -> None:
    _show(seal.severity, f"seal, {seal.seconds:.1f} s: {seal.describe()}", seal.remedy)
    for each in seal.checks:
        if each.held is False:
            saw = ", which this host has seen" if each.seen else ""
            detail = f": {each.detail}" if each.detail else ""
            click.echo(f"{' ' * _SEVERITY_WIDTH}  {dim(escaped_line(f'| {each.check}: {each.target}{saw}{detail}'))}")


def _check_seals(client: Client, names: Sequence[str], on_seal: Callable[[Seal], None]) -> list[Seal]:
    """Try the seals of these agents, or of all that run. Raises Failure."""
    from hive_core.cli.live.seal_check import SealCheck  # noqa: PLC0415

    there = {str(agent.get("name")): agent for agent in client.get("/v1/agents").get("agents", [])}
    if names and _ALL not in names:
        wanted = [there.get(name) or client.get(agent_path(name)) for name in dict.fromkeys(names)]
    else:
        wanted = [agent for agent in there.values() if agent.get("lifecycle") == "running"]
    return SealCheck(client, on_seal).run(wanted)


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
