"""A program: parse the files of a configuration. `python -P -m hive_core.runtimes.local.check_program DIRECTORY
SECONDS`.

It runs as a child of the daemon because the files are an agent's and the parsers are not made for hostile text: some
texts take them hours or gigabytes. The limits are set here, before anything of the files is read. Whether the settings
are those that there are is not asked here: for that, pydantic would have to be imported, which takes longer than all
the rest.

Prints a line about agent.nix and ends with 0 if both files can be parsed; or prints what is wrong, and ends with
`WRONG`.
"""

from __future__ import annotations

import resource
import stat
import sys
import tomllib
from pathlib import Path

WRONG = 3
LARGEST = 1024 * 1024
"""Bytes of the largest agent.nix that is parsed."""
LARGEST_SETTINGS = 64 * 1024
"""Bytes of the largest agent.toml, which the daemon reads too."""
SECONDS = 10
"""Processor time that parsing may take, unless another time is asked for."""
MEMORY = 1024 * 1024 * 1024


class Wrong(Exception):
    """What is wrong, in words."""


def check(directory: Path) -> str:
    """Say of agent.nix that it is well; raises Wrong for either file."""
    source = _read(directory / "agent.toml", LARGEST_SETTINGS)
    try:
        tomllib.loads(source.decode())
    except UnicodeDecodeError as error:
        raise Wrong(f"agent.toml, byte {error.start + 1}: this is not UTF-8 text") from None
    except RecursionError:
        raise Wrong("agent.toml is nested too deeply") from None
    except ValueError as error:
        # TOMLDecodeError, and what Python's numbers and dates refuse.
        raise Wrong(f"agent.toml is not TOML: {error}") from None

    # Not before: where it is missing, that should not be told as an error of agent.toml. Nor does the daemon need it.
    from hive_core.runtimes.local.nix_syntax import problem  # noqa: PLC0415

    source = _read(directory / "agent.nix", LARGEST)
    if found := problem(source):
        raise Wrong(f"agent.nix, {found}")
    lines = source.count(b"\n") + (not source.endswith(b"\n"))
    return f"agent.nix: well ({lines} line{'' if lines == 1 else 's'})"


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


def main() -> int:
    """Check the directory that the command line names; returns the exit code."""
    for kind, most in (
        (resource.RLIMIT_CPU, int(sys.argv[2])),
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))
    try:
        said, code = check(Path(sys.argv[1])), 0
    except Wrong as wrong:
        said, code = str(wrong), WRONG
    sys.stdout.write(f"{said}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
