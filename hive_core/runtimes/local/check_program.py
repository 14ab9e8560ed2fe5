"""A program that checks the files of a configuration: `python -P -m hive_core.runtimes.local.check_program DIRECTORY
SECONDS [NIX_INSTANTIATE]`.

It runs as a child of the daemon because the files are an agent's and parsers are not made for hostile text: some texts
take them hours or gigabytes. It sets its limits before it reads any of the files. The names and values of the settings
are checked by the daemon: that needs pydantic, whose import takes longer than everything here.

Where a `nix-instantiate` is given, the process becomes that program, which parses `agent.nix` under the same limits.
The first line of the output says so (`NIX_FOLLOWS`); its exit code and the rest of the output are Nix's. Otherwise the
program ends with 0 if the files are acceptable, with `NO_NIX` if they are and the given program cannot be started, or
prints the reason and ends with `WRONG`.
"""

from __future__ import annotations

import os
import resource
import stat
import sys
import tomllib
from pathlib import Path

WRONG = 3
NO_NIX = 4
NIX_FOLLOWS = "nix-instantiate:"
LARGEST = 1024 * 1024
"""Bytes of the largest agent.nix that is accepted."""
LARGEST_SETTINGS = 64 * 1024
"""Bytes of the largest agent.toml, which the daemon reads too."""
SECONDS = 10
"""Default limit of processor time."""
MEMORY = 1024 * 1024 * 1024


class Wrong(Exception):
    """A file is not acceptable; the message says why."""


def check(directory: Path) -> None:
    """Check that both files can be read and that agent.toml is TOML.

    Raises:
        Wrong: One of them is not acceptable.
    """
    source = _read(directory / "agent.toml", LARGEST_SETTINGS)
    try:
        tomllib.loads(source.decode())
    except UnicodeDecodeError as error:
        raise Wrong(f"agent.toml, byte {error.start + 1}: this is not UTF-8 text") from None
    except RecursionError:
        raise Wrong("agent.toml is nested too deeply") from None
    except ValueError as error:
        # TOMLDecodeError, and the errors of Python's numbers and dates.
        raise Wrong(f"agent.toml is not TOML: {error}") from None
    _read(directory / "agent.nix", LARGEST)


def _read(path: Path, most: int) -> bytes:
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise Wrong(f"{path.name} is not a plain file")
        with path.open("rb") as file:
            source = file.read(most + 1)
    except FileNotFoundError:
        raise Wrong(f"{path.name} is missing: every configuration needs one") from None
    if len(source) > most:
        raise Wrong(f"{path.name} is larger than {most:,} bytes: move parts of it into files of their own")
    return source


def _become_nix(program: str, file: Path) -> None:
    """Replace this process by a Nix that parses `file` and evaluates nothing. Raises OSError."""
    with Path(program).open("rb"):
        pass  # The sandbox may not show it.
    sys.stdout.write(f"{NIX_FOLLOWS}\n")
    sys.stdout.flush()
    # Nix prints the parsed expression to its output and the errors to its standard error.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        # Nix opens a store at its start, also to parse. The dummy store needs no files; the sandbox shows none of them.
        "NIX_REMOTE": "dummy://",
        "HOME": "/homeless-shelter",
        # Each further thread of the garbage collector takes address space, which is limited here.
        "GC_MARKERS": "1",
    }
    # Nix looks at the name that it is called by: `nix-instantiate` is a link to `nix`.
    os.execve(program, ["nix-instantiate", "--parse", str(file)], environment)  # noqa: S606 - no shell


def main() -> int:
    """Check the directory that the command line names; returns the exit code."""
    for kind, most in (
        (resource.RLIMIT_CPU, int(sys.argv[2])),
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))
    directory = Path(sys.argv[1])
    try:
        check(directory)
    except Wrong as wrong:
        sys.stdout.write(f"{wrong}\n")
        return WRONG
    if len(sys.argv) > 3:
        try:
            _become_nix(sys.argv[3], directory / "agent.nix")
        except OSError as error:
            sys.stderr.write(f"{error.strerror}\n")
            return NO_NIX
    return 0


if __name__ == "__main__":
    sys.exit(main())
