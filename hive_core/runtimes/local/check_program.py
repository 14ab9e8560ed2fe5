"""A program that becomes a Nix that parses a file, within limits: `python -P -m hive_core.runtimes.local.check_program
FILE SECONDS NIX_INSTANTIATE`.

It runs as a child of the daemon because the file is an agent's and parsers are not made for hostile text: some texts
take them hours or gigabytes. It sets the limits and then replaces itself by the given `nix-instantiate`.

The first line of its output is `NIX_FOLLOWS`; the exit code and the rest of the output are Nix's. Where Nix cannot be
started, it prints the reason and ends with `NO_NIX`.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

NO_NIX = 4
NIX_FOLLOWS = "nix-instantiate:"
MEMORY = 1024 * 1024 * 1024


def _become_nix(program: str, file: str) -> None:
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
    os.execve(program, ["nix-instantiate", "--parse", file], environment)  # noqa: S606 - no shell


def main() -> int:
    """Parse the file that the command line names; returns the exit code if Nix cannot be started."""
    file, seconds, nix = sys.argv[1:]
    for kind, most in (
        (resource.RLIMIT_CPU, int(seconds)),
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))
    try:
        _become_nix(nix, file)
    except OSError as error:
        sys.stderr.write(f"{error.strerror}\n")
    return NO_NIX


if __name__ == "__main__":
    sys.exit(main())
