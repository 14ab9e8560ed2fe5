"""The start of the program that serves sessions, for a harness that is the first process of its sandbox.

In a container a unit of systemd starts that program, and this harness does not.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hive_agent.client import lent
from hive_agent.environment import AgentEnvironment

log = logging.getLogger(__name__)

STARTED_BY_UNIT = "HIVE_ACCESS_UNIT"
"""The variable that is set where a unit starts the program."""
_AGAIN_SECONDS = 10.0
"""Between requests for a socket that the daemon has not got."""
_PAUSE_SECONDS = 0.2
"""Between two starts of the program: one that ends at once must not be started without a pause."""


@asynccontextmanager
async def serving_callers(environment: AgentEnvironment) -> AsyncIterator[None]:
    """Start the program whenever somebody wants a session, unless a unit does that."""
    if environment.variables.get(STARTED_BY_UNIT):
        yield
        return
    serving = asyncio.create_task(_serve(environment))
    try:
        yield
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def _serve(environment: AgentEnvironment) -> None:
    door, has_begun = environment.run / "access.sock", False
    while True:
        try:
            listener, connection = await lent.fetch_unix(door, None)
        except OSError as error:
            log.debug("no access socket: %s", error)
            if not has_begun:
                return  # The daemon makes the door before it starts an agent: this one has none.
            await asyncio.sleep(_AGAIN_SECONDS)
            continue
        has_begun = True
        with listener, connection:
            await lent.readable(listener, connection)
        # Nobody is waiting if only the socket is another one; then the program fetches that and ends later.
        await _run_program(environment)
        await asyncio.sleep(_PAUSE_SECONDS)


async def _run_program(environment: AgentEnvironment) -> None:
    """Run the program to its end; when cancelled, kill it. Sessions of it end then, too."""
    from hive_agent.infra import processes  # noqa: PLC0415 (`ctypes` is not for harnesses whom nobody visits)

    argv = [sys.executable, "-P", "-m", "hive_agent", "access"]
    try:
        # Popen, which does not wait: a turn that ends meanwhile would kill a child that is not spared yet.
        program = subprocess.Popen(  # noqa: ASYNC220, S603
            argv,
            stdin=subprocess.DEVNULL,
            env=environment.variables,
            cwd="/",
            preexec_fn=processes.die_with_parent,  # noqa: PLW1509 - it only calls the kernel
        )
    except OSError as error:
        log.error("sessions cannot be served: %s", error)
        return
    processes.spare(program.pid)
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    pidfd = os.pidfd_open(program.pid)
    loop.add_reader(pidfd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        program.kill()
        program.wait()
        processes.release(program.pid)
