"""Checking the files of a configuration: first a child process parses them, so that no text can hold up or end the
daemon; then the daemon, which has the schema at hand, looks at the settings.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ValidationError

from hive_core.errors import HiveError
from hive_core.infra.processes import Command, exit_words, read_all, spawn
from hive_core.protocol import AgentConfig
from hive_core.runtimes.agent_environment import python_path
from hive_core.runtimes.base import BuildFailed
from hive_core.runtimes.local.check_program import MEMORY, SECONDS, WRONG

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
    line = [sys.executable, "-P", "-m", "hive_core.runtimes.local.check_program", str(directory), str(seconds)]
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
        config = await asyncio.to_thread(_settings, directory / "agent.toml")
        say(f"agent.toml: well (backend {config.backend})")
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


def _settings(file: Path) -> AgentConfig:
    """The settings in a file that was parsed before, within the limits of a child. Raises BuildFailed."""
    try:
        return AgentConfig.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise BuildFailed(f"agent.toml, {key[:200]!r}: {first['msg'][:500]}") from None


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
