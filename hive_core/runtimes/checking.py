"""Having the files of a configuration checked by a child process, so that no text can hold up or end the daemon."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.processes import Command, exit_words, read_all, spawn
from hive_core.runtimes.base import BuildFailed
from hive_core.runtimes.checkfiles import MEMORY, SECONDS, WRONG
from hive_core.runtimes.sandbox import python_path

_OUTPUT = 16 * 1024

Confine = Callable[[Path, Sequence[str]], Sequence[str]]
"""Makes of a command line one that runs it where only that directory can be seen, at its own path."""


def unconfined(_directory: Path, line: Sequence[str]) -> Sequence[str]:
    """Where there is no sandbox: limits on time and memory are all."""
    return line


async def check(
    directory: Path, say: Callable[[str], None], confine: Confine = unconfined, seconds: int = SECONDS
) -> None:
    """Check `agent.toml` and `agent.nix` in `directory`, in so many seconds of processor time.

    Raises BuildFailed; HiveError if they cannot be checked here.
    """
    line = [sys.executable, "-P", "-m", "hive_core.runtimes.checkfiles", str(directory), str(seconds)]
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", **python_path()}
    try:
        child = spawn(Command(confine(directory, line), environment, Path("/")))
    except OSError as error:
        raise _cannot(f"the parser cannot be started: {error.strerror}") from None
    try:
        output = await read_all(child.output, _OUTPUT)
        end = await child.wait()
    finally:
        child.kill()
        await child.wait()
        child.close()
    lines = output.decode(errors="replace").splitlines()
    if end == 0:
        for text in lines:
            say(text)
    elif end == WRONG:
        raise BuildFailed("\n".join(lines))
    elif end == 1:
        # Python itself has failed: for want of memory, or of a module.
        if not any("MemoryError" in text for text in lines[-1:]):
            raise _cannot(lines[-1] if lines else exit_words(end))
        raise _too_hard("out of memory", seconds)
    else:
        raise _too_hard(exit_words(end), seconds)


def _too_hard(how: str, seconds: int) -> BuildFailed:
    return BuildFailed(
        f"agent.nix and agent.toml could not be parsed within {seconds} s of processor time and {MEMORY >> 20} MiB "
        f"of memory ({how}): make them simpler"
    )


def _cannot(why: str) -> HiveError:
    return HiveError(
        "cannot_build",
        f"configurations cannot be checked here: {why[:500]}",
        hint="see the log of the daemon",
        status=500,
    )
