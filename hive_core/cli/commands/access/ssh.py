"""The commands `ssh-proxy` and `ssh-config`."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import click

from hive_core.cli.arguments import complete_agents
from hive_core.cli.client import Client
from hive_core.cli.errors import Failure
from hive_core.layout import DEFAULT_STATE_DIR, default_run_dir

_PREFIX = "hive-"


@click.command("ssh-proxy")
@click.argument("name", required=False, shell_complete=complete_agents)
@click.option("--host", metavar="HOST", help="Name of the host for ssh, hive-NAME, instead of NAME.")
@click.pass_obj
def ssh_proxy(socket: str | None, name: str | None, host: str | None) -> None:
    """Speak SSH for an agent on stdin and stdout.

    It is the ProxyCommand of ssh. Commands, files (scp, sftp) and connections (-L, -D, -W) are those of the agent. No
    port is opened. Remote forwarding and that of agents, X11 and unix sockets is refused. "hive-c0re ssh-config" prints
    what ssh needs.

    \b
    Example:
      hive-c0re ssh-proxy ada
    """
    agent = name or (host or "").removeprefix(_PREFIX)
    if not agent or (name and host):
        raise click.UsageError("Give NAME or --host.")
    _check_installed()
    from hive_core.cli.access.session import open_session  # noqa: PLC0415 - as late as asyncssh
    from hive_core.cli.access.ssh.keys import key_directory, read_keys  # noqa: PLC0415
    from hive_core.cli.access.ssh.openings import Openings  # noqa: PLC0415
    from hive_core.cli.access.ssh.server import serve  # noqa: PLC0415

    keys = read_keys(key_directory())
    client = Client(socket)
    asyncio.run(serve(Openings(agent, lambda opening: open_session(client, agent, opening)), keys))


@click.command("ssh-config")
@click.pass_obj
def ssh_config(socket: str | None) -> None:
    """Print what to add to ~/.ssh/config.

    With it "ssh hive-NAME" reaches an agent. The first call makes the keys, in ~/.config/hyperhive/ssh. They belong to
    you; each user makes their own.

    \b
    Example:
      hive-c0re ssh-config >> ~/.ssh/config
    """
    _check_installed()
    from hive_core.cli.access.ssh.keys import key_directory, make_keys, render_config  # noqa: PLC0415

    directory = key_directory()
    make_keys(directory)
    click.echo(render_config(directory, _program(Client(socket).path)), nl=False)


def _program(socket: Path) -> list[str]:
    """Return the command line of this program, with the socket if it is not the usual one."""
    found = shutil.which("hive-c0re")
    line = [found] if found else [sys.executable, "-P", "-m", "hive_core"]
    usual = default_run_dir(DEFAULT_STATE_DIR) / "host.sock"
    return line if socket == usual else [*line, "--socket", str(socket.absolute())]


def _check_installed() -> None:
    try:
        import asyncssh  # noqa: F401, PLC0415 - an extra, loaded when used
    except ImportError:
        raise Failure(
            "no_asyncssh",
            "ssh needs the Python package asyncssh, which is not installed",
            hint="install hyperhive with its extra ssh: pip install 'hyperhive[ssh]'",
        ) from None
