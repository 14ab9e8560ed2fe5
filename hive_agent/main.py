"""The commands `serve`, `mcp`, `wake` and those for long-running programs of the programs hive-ag3nt and hive-m1nd."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import os
import signal
import sys
import uuid
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING

from hive_agent.backends.base import Backend, BackendContext, open_backend
from hive_agent.client.connection import CoreError
from hive_agent.client.core_client import CoreClient
from hive_agent.environment import AgentEnvironment, version
from hive_agent.harness import Harness
from hive_agent.infra import log as harness_log
from hive_agent.infra.leftovers import remove_git_locks
from hive_agent.interfaces import Controls
from hive_agent.repositories.places import find_places
from hive_agent.role import Role
from hive_agent.turns.attempts.runner import StuckBackend
from hive_core.protocol import Profile
from hive_core.protocol.access.probe import PROBE

if TYPE_CHECKING:
    import argparse

log = logging.getLogger(__name__)


def run(role: Role, arguments: Sequence[str]) -> int:
    """Run a command; returns the exit code."""
    harness_log.configure()
    environment = AgentEnvironment.read(os.environ)
    command = arguments[0] if len(arguments) == 1 else ""
    if command not in ("serve", "mcp"):  # these save the time and memory of argparse
        from hive_agent.client import wake  # noqa: PLC0415

        given = _parse_arguments(role.program, arguments)
        command = given.command
        if command == "wake":
            return asyncio.run(wake.wake(environment, given.label, given.body, given.patience))
        if command == "connect":
            from hive_agent.client.proxied import connect  # noqa: PLC0415

            return connect(given.host, given.port)
        if command == PROBE:
            from hive_agent.access.probe import main as probe  # noqa: PLC0415

            return probe(given.order, os.environ)
        if command not in ("serve", "mcp", "access", "sftp"):
            from hive_agent.programs import commands  # noqa: PLC0415

            return commands.execute(environment, given)
    if command == "access":
        from hive_agent.access.server import main as serve_sessions  # noqa: PLC0415

        return serve_sessions()
    if command == "sftp":
        from hive_agent.access.sftp import serve_files  # noqa: PLC0415

        return serve_files()
    if command == "mcp":
        gc.disable()  # collections take a tenth of the import's time and free nothing
        from hive_agent.tools.server import serve_tools  # noqa: PLC0415 (the SDK alone is 30 MB, not for `serve`)

        gc.freeze()
        gc.enable()
        return asyncio.run(serve_tools(role, environment))
    if environment.parent_pid is not None:
        from hive_agent.infra import processes  # noqa: PLC0415 (`ctypes` is not for harnesses in containers)

        if not processes.follow_parent(environment.parent_pid):
            log.error("the daemon (pid %d) that started this harness has ended", environment.parent_pid)
            return 1
    return asyncio.run(_serve(role, environment))


def _parse_arguments(program: str, arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line. Ends the process after `--help`, `--version` or a usage error."""
    import argparse  # noqa: PLC0415

    from hive_agent.client import wake  # noqa: PLC0415
    from hive_agent.programs.commands import add_arguments  # noqa: PLC0415

    parser = argparse.ArgumentParser(program, description="Runs inside an agent's container; started by the hive.")
    parser.add_argument("--version", action="version", version=version())
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="wait for the agent's messages and handle them")
    commands.add_parser("access", help="serve sessions of people who step into the agent; started when somebody comes")
    commands.add_parser("sftp", help="serve files on stdin and stdout, to scp and sftp of people who step in")
    probe = commands.add_parser(PROBE, help="try what a sealed agent must not reach; `hive-c0re doctor --live` runs it")
    probe.add_argument("order")
    commands.add_parser("mcp", help="offer the hive's tools to an agent CLI, as an MCP server on stdin and stdout")
    connecting = commands.add_parser("connect", help="reach a host through the proxy, on stdin and stdout, as ssh does")
    connecting.add_argument("host", metavar="HOST")
    connecting.add_argument("port", metavar="PORT", type=int)
    wake.add_arguments(commands.add_parser("wake", help="send the agent a message, which starts a turn"))
    add_arguments(commands)
    return parser.parse_args(arguments)


async def _serve(role: Role, environment: AgentEnvironment) -> int:
    from hive_agent.access.start import serving_callers  # noqa: PLC0415 (as below)
    from hive_agent.client.handed import handing_over  # noqa: PLC0415
    from hive_agent.programs.starter import serve_programs  # noqa: PLC0415
    from hive_agent.web.feed import Feed  # noqa: PLC0415 (`mcp` does without the page, and starts sooner)
    from hive_agent.web.serving import serve_page  # noqa: PLC0415

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    instance = str(uuid.uuid4())
    remove_git_locks(environment.config)
    feed = Feed()
    async with (
        handing_over(environment) as environment,
        serving_callers(environment),
        CoreClient(environment.core_socket, patience=math.inf) as client,
    ):

        def opened(profile: Profile) -> Backend:
            return open_backend(BackendContext(profile, environment, role, client, instance, changed=harness.changed))

        async def prepare(profile: Profile) -> Sequence[str]:
            # Imported here: most agents of a hive may have no repository.
            from hive_agent.repositories.clones import prepare_clones  # noqa: PLC0415

            return await prepare_clones(find_places(profile, environment), environment.code, environment.variables)

        def page(controls: Controls, profile: Profile) -> AbstractAsyncContextManager[None]:
            return serve_page(controls, feed, client, environment, profile)

        try:
            harness = Harness(
                client,
                instance,
                version(),
                environment.state,
                opened,
                environment.deployment,
                publish=feed.publish,
                page=page,
                programs=partial(serve_programs, environment),
                prepare=prepare,
            )
            await harness.run(stop)
        except CoreError as error:
            log.error("the daemon refuses this harness: %s%s", error, f" ({error.hint})" if error.hint else "")
            return 1
        except OSError as error:
            log.error("the harness stops after an error: %s", error)
            return 1
        except StuckBackend as error:
            log.error("the harness exits to end its child processes: %s", error)
            return 1
    log.info("stopped")
    return 0


def main_for(role: Role) -> None:
    """Run the program of a role and exit."""
    sys.exit(run(role, sys.argv[1:]))
