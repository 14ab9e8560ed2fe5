"""The change of a plain directory on btrfs to a subvolume with the same content.

The files are copied by cp(1) with shared extents (reflinks), so that they take no space twice; then both directories
change their names at once. Whatever interrupts that, the directory is whole: the old or the new one. The path of the
directory is the daemon's; what is in it may be an agent's, of which no process may run: cp follows no link below it.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
from pathlib import Path

from hive_core.infra.concurrency.threads import LIFECYCLE
from hive_core.infra.disk_quota import btrfs
from hive_core.infra.processes import Command, describe_exit, read_all, spawn
from hive_core.infra.storage.files import open_directory

_MEMORY = 1024**3
_SECONDS = 3_600.0
_OUTPUT_BYTES = 64 * 1024
_EXCHANGE = 2
"""RENAME_EXCHANGE of renameat2(2)."""


def other_tree(path: Path) -> Path:
    """Return the path of the second tree that there is while a directory becomes a subvolume."""
    return path.with_name(f".{path.name}.subvolume")


async def become_subvolume(path: Path) -> None:
    """Turn a directory of a btrfs into a subvolume. Raises OSError, and then nothing has changed, or all but that the
    second tree is left.
    """
    with open_directory(path.parent) as parent:
        new = other_tree(path).name
        await discard_other_tree(path)
        await LIFECYCLE.run(btrfs.create_subvolume, parent, new)
        try:
            copy = ("cp", "--archive", "--reflink=auto", "--no-target-directory", "--", f"./{path.name}", new)
            await _run(parent, *copy)
            await LIFECYCLE.run(_exchange, parent, path.name, new)
        finally:
            await discard_other_tree(path)


async def discard_other_tree(path: Path) -> None:
    """Remove the second tree, which also an interrupted conversion leaves. Raises OSError."""
    tree = other_tree(path)
    if not await LIFECYCLE.run(os.path.lexists, tree):
        return
    with open_directory(path.parent) as parent:
        line = ("rm", "-rf", "--", tree.name)
        try:
            await _run(parent, *line)
        except OSError:
            if not await LIFECYCLE.run(btrfs.make_writable, tree):
                raise
            await _run(parent, *line)


async def _run(parent: int, *line: str) -> None:
    """Run a program in an open directory. Raises OSError with the first line of its output."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    place = Path(f"/proc/self/fd/{parent}")
    child = spawn(Command(line, environment, place, limits={resource.RLIMIT_AS: _MEMORY}))
    try:
        async with asyncio.timeout(_SECONDS):
            output = await read_all(child.output, _OUTPUT_BYTES)
            code = await child.wait()
    except TimeoutError:
        raise OSError(None, f"{line[0]} took longer than {_SECONDS:g} s") from None
    finally:
        await child.end()
    if code:
        first = ascii(output.decode(errors="replace").partition("\n")[0])[1:-1]
        raise OSError(None, first[:300] or f"{line[0]}: {describe_exit(code)}")


def _exchange(parent: int, one: str, other: str) -> None:
    """Let two entries of a directory change their names at once, after the content of both is on the disk."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = (parent, os.fsencode(one), parent, os.fsencode(other))
    if libc.syncfs(parent) < 0 or libc.renameat2(*names, _EXCHANGE) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
