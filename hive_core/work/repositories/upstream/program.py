"""A program of the hive's that talks to the server of a repository, with that repository's credential."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.git.quarantine import pipe
from hive_core.infra.processes import describe_exit, read_all
from hive_core.text import escaped_first_line
from hive_core.work.repositories.upstream.access import UpstreamAccess
from hive_core.work.repositories.upstream.confinement import UpstreamCommand, UpstreamConfinement
from hive_core.work.repositories.upstream.workspace import memory_file

_MESSAGE_BYTES = 16 * 1024


@dataclass(frozen=True)
class UpstreamProgram:
    """A command with its environment and its input. It may read the directories `reads`, and print `most` bytes."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    reads: tuple[Path, ...]
    feed: bytes
    seconds: float
    most: int = 64 * 1024


async def run_program(confinement: UpstreamConfinement, access: UpstreamAccess, program: UpstreamProgram) -> bytes:
    """Run a program in the confinement of transfers, and return its output. Raises HiveError `transfer_failed`."""
    command = UpstreamCommand(
        program.argv,
        program.environment,
        program.reads,
        secret=access.secret,
        seconds=program.seconds,
        file_bytes=program.most,
    )
    source, sink = pipe()
    given = memory_file(program.feed)
    try:
        os.set_blocking(source, False)
        async with asyncio.timeout(program.seconds), confinement.run(command, given, sink) as process:
            os.close(sink)
            sink = -1
            output, messages = await asyncio.gather(
                read_all(source, program.most + 1), read_all(process.output, _MESSAGE_BYTES)
            )
            status = await process.wait()
    except TimeoutError:
        why = f"the server of the repository did not answer within {program.seconds:g} s"
        raise HiveError("upstream_slow", why, hint="it is tried again later", status=502) from None
    finally:
        for descriptor in (source, sink, given):
            if descriptor is not None and descriptor >= 0:
                os.close(descriptor)
    if status or len(output) > program.most:
        # Its last line is that of an exception.
        said = escaped_first_line(messages.decode(errors="replace").strip().rpartition("\n")[2])
        raise HiveError("transfer_failed", f"{describe_exit(status)}: {said}", hint="see the daemon's log", status=502)
    return output
