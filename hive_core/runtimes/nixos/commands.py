"""The host's own programs that the daemon runs for a moment: asked, answered, ended."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.processes import Command, describe_exit, read_all, spawn
from hive_core.text import visible

MIB = 1024 * 1024
_TAIL = 2_000
"""Most characters of a failed program's own words."""
_KEPT = re.compile(r"^(PATH|HOME|LOCALE_ARCHIVE|NIX_.*|(SSL|CURL)_.*|(http|https|ftp|all|no)_proxy|[A-Z]+_PROXY)$")


def environment() -> dict[str, str]:
    """What the host's programs are told of the daemon's environment; messages are in English, as they are read."""
    kept = {key: value for key, value in os.environ.items() if _KEPT.match(key)}
    return {"PATH": os.defpath, "HOME": "/root", **kept, "LC_ALL": "C.UTF-8"}


async def run(
    argv: Sequence[str],
    *,
    limit_bytes: int = MIB,
    timeout: float = 60.0,  # noqa: ASYNC109 - what is called is to end, not only the waiting for it
    environment: Mapping[str, str] | None = None,
    keep_fds: Sequence[int] = (),
) -> str:
    """What a program prints on its standard output, at most `limit_bytes`. It is killed after `timeout` seconds.

    `keep_fds` stay open in it.

    Raises HiveError `command_missing`, `command_failed` (with the last of what it said on standard error),
    `command_slow` and `command_too_long`.
    """
    name = Path(argv[0]).name
    shown = " ".join(argv)[:200]
    answer, writer = os.pipe2(os.O_CLOEXEC)
    try:
        os.set_blocking(answer, False)
        try:
            told = _inherited() if environment is None else environment
            process = spawn(Command(argv, told, Path("/"), keep_fds, stdout=writer))
        except FileNotFoundError:
            raise HiveError(
                "command_missing", f"{name} is not installed", hint="put it on the daemon's PATH", status=500
            ) from None
        except OSError as error:
            raise HiveError("command_failed", f"{shown}: {error.strerror}", status=500) from None
        finally:
            os.close(writer)
        try:
            async with asyncio.timeout(timeout):
                # One byte more than is allowed tells that there was more.
                output, words, code = await asyncio.gather(
                    read_all(answer, limit_bytes + 1), read_all(process.output, MIB), process.wait()
                )
        except TimeoutError:
            raise HiveError("command_slow", f"{shown} took longer than {timeout:g} s", status=500) from None
        finally:
            if not process.ended:
                process.kill()
                await process.wait()
            process.close()
    finally:
        os.close(answer)
    if code != 0:
        said = visible(words.decode(errors="replace")).strip()[-_TAIL:]
        raise HiveError("command_failed", f"{shown}: {said or describe_exit(code)}", status=500)
    if len(output) > limit_bytes:
        raise HiveError("command_too_long", f"{shown} answered with more than {limit_bytes:,} bytes", status=500)
    return output.decode(errors="replace")


_inherited = environment
