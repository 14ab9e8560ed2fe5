"""The check of `agent.nix` before the files of a commit become a closure. The intake has checked `agent.toml`.

`agent.nix` has no effect in the local runtime. Where Nix is installed, a child process with limits parses it, so that
no text can hold up or end the daemon.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.processes import Command, describe_exit, read_all, spawn
from hive_core.runtimes.agent_environment import python_path
from hive_core.runtimes.base import BuildFailed
from hive_core.runtimes.local.check_program import MEMORY, NIX_FOLLOWS, NO_NIX
from hive_core.text import visible

LARGEST = 1024 * 1024
"""Bytes of the largest agent.nix that is accepted."""
SECONDS = 10
"""Default limit of processor time."""
_OUTPUT = 16 * 1024
_SHOWN = 2_000
"""Characters of Nix's message that are shown; a line of the file may be long."""
# Both take time that grows with the text only: the file's own lines are in it. A path is matched from the beginning of
# a word only, up to the longest that there is (PATH_MAX of Linux).
_POSITION = re.compile(r"(?:(?:,? at )|(?<!\S))\S{0,4096}?agent\.nix:(\d{1,9}):(\d{1,9}):?")
_EXCERPT = re.compile(r" *+\d*+ *+\|.*")
_EXHAUSTED = re.compile(r"stack overflow|out of memory|bad_alloc")
NOT_CHECKED = "agent.nix was not checked: nix-instantiate is not on the PATH of the daemon"

Confine = Callable[[Path, Sequence[str]], Sequence[str]]
"""Turns a command line into one that runs it in a sandbox with access to that directory only, at its own path."""


def unconfined(_directory: Path, line: Sequence[str]) -> Sequence[str]:
    """Return the command line as it is, for hosts without a sandbox: only the limits on time and memory hold."""
    return line


def find_nix() -> str | None:
    """Find the `nix-instantiate` on the PATH; None if there is none.

    Links are followed, because the sandbox shows the Nix store but not the profiles that link to it.
    """
    found = shutil.which("nix-instantiate")
    return None if found is None else os.path.realpath(found)


async def check(
    directory: Path, say: Callable[[str], None], confine: Confine = unconfined, seconds: int = SECONDS
) -> None:
    """Check `agent.nix` in `directory`, which holds the files of a commit; `seconds` limits the processor time.

    Raises:
        BuildFailed: The file is not acceptable.
        HiveError: `cannot_build`, if it cannot be checked on this host.
    """
    file = directory / "agent.nix"
    if (await asyncio.to_thread(file.lstat)).st_size > LARGEST:
        raise BuildFailed(f"agent.nix is larger than {LARGEST:,} bytes: move parts of it into files of their own")
    nix = await asyncio.to_thread(find_nix)
    say(NOT_CHECKED if nix is None else await _parse(file, confine, nix, seconds))


async def _parse(file: Path, confine: Confine, nix: str, seconds: int) -> str:
    """Have Nix parse the file; returns a line for the log of the build."""
    line = [sys.executable, "-P", "-m", "hive_core.runtimes.local.check_program", str(file), str(seconds), nix]
    code, output = await _run(confine(file.parent, line))
    first, _, rest = output.partition("\n")
    by_nix = first == NIX_FOLLOWS
    if code == 0 and by_nix:
        return "agent.nix: no syntax errors"
    if code == NO_NIX:
        return f"agent.nix was not checked: {nix} cannot be started: {(rest if by_nix else first).strip()}"
    if code == 1 and by_nix:
        return _judge_message(rest, seconds)
    if code in (0, 1):  # Python itself has failed: a module is missing, for example.
        raise _cannot(output.strip().rpartition("\n")[2] or describe_exit(code))
    raise _too_hard(describe_exit(code), seconds)


def _judge_message(output: str, seconds: int) -> str:
    """Raise BuildFailed if Nix has failed because of the file; otherwise return a line for the log that says why."""
    text = visible(output.partition("error:")[2] or output)
    message = text.strip().partition("\n")[0]
    if position := _POSITION.search(text):
        place = f"agent.nix, line {position[1]}, column {position[2]}"
        excerpt = [line for line in text.splitlines() if _EXCERPT.fullmatch(line)]
        raise BuildFailed("\n".join([f"{place}: {_POSITION.sub('', message)}", *excerpt])[:_SHOWN])
    if _EXHAUSTED.search(message):
        raise _too_hard(message[:_SHOWN], seconds)
    return f"agent.nix was not checked: nix-instantiate failed: {message[:_SHOWN]}"


async def _run(line: Sequence[str]) -> tuple[int, str]:
    """Run the check; returns its exit code and output."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", **python_path()}
    try:
        child = spawn(Command(line, environment, Path("/")))
    except OSError as error:
        raise _cannot(f"the parser cannot be started: {error.strerror}") from None
    try:
        output = await read_all(child.output, _OUTPUT)
        code = await child.wait()
    finally:
        await child.end()
    return code, output.decode(errors="replace")


def _too_hard(how: str, seconds: int) -> BuildFailed:
    return BuildFailed(
        f"agent.nix could not be parsed within {seconds} s of processor time and {MEMORY >> 20} MiB of memory ({how}): "
        "make it simpler"
    )


def _cannot(why: str) -> HiveError:
    return HiveError(
        "cannot_build",
        f"configurations cannot be checked here: {why[:500]}",
        hint="see the log of the daemon",
        status=500,
    )
