"""Short runs of the host's programs, and their answers."""

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
"""Characters of a failed program's message that are kept."""
_KEPT = re.compile(r"^(PATH|HOME|LOCALE_ARCHIVE|NIX_.*|(SSL|CURL)_.*|(http|https|ftp|all|no)_proxy|[A-Z]+_PROXY)$")


def environment() -> dict[str, str]:
    """Return the part of the daemon's environment for the host's programs; messages are in English, because they are
    parsed.
    """
    kept = {key: value for key, value in os.environ.items() if _KEPT.match(key)}
    return {"PATH": os.defpath, "HOME": "/root", **kept, "LC_ALL": "C.UTF-8"}


async def run(
    argv: Sequence[str],
    *,
    limit_bytes: int = MIB,
    timeout: float = 60.0,  # noqa: ASYNC109 - the program is ended too, not only the wait for it
    environment: Mapping[str, str] | None = None,
    keep_fds: Sequence[int] = (),
    limits: Mapping[int, int] | None = None,
    with_messages: bool = False,
) -> str:
    """Run a program; returns its standard output of at most `limit_bytes`. It is killed after `timeout` seconds.

    `keep_fds` stay open in the program; `limits` are those of setrlimit(2). `with_messages`: its standard error
    follows, with the same limit.

    Raises HiveError `command_missing`, `command_failed` (with the end of its standard error),
    `command_slow` and `command_too_long`.
    """
    name = Path(argv[0]).name
    shown = " ".join(argv)[:200]
    answer, writer = os.pipe2(os.O_CLOEXEC)
    try:
        os.set_blocking(answer, False)
        try:
            variables = _inherited() if environment is None else environment
            process = spawn(Command(argv, variables, Path("/"), keep_fds, stdout=writer, limits=limits or {}))
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
                # One byte more than the limit shows that the output is too long.
                output, message, code = await asyncio.gather(
                    read_all(answer, limit_bytes + 1),
                    read_all(process.output, limit_bytes + 1 if with_messages else MIB),
                    process.wait(),
                )
        except TimeoutError:
            raise HiveError("command_slow", f"{shown} took longer than {timeout:g} s", status=500) from None
        finally:
            await process.end()
    finally:
        os.close(answer)
    if code != 0:
        text = visible(message.decode(errors="replace")).strip()[-_TAIL:]
        raise HiveError("command_failed", f"{shown}: {text or describe_exit(code)}", status=500)
    if with_messages:
        output += message
    if len(output) > limit_bytes:
        raise HiveError("command_too_long", f"{shown} answered with more than {limit_bytes:,} bytes", status=500)
    return output.decode(errors="replace")


_inherited = environment
