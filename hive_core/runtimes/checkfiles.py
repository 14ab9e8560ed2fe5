"""A program: check the files of a configuration. `python -P -m hive_core.runtimes.checkfiles DIRECTORY SECONDS`.

It runs as a child of the daemon because the files are an agent's and the parsers are not made for hostile text: some
texts take them hours or gigabytes. The limits are set here, before anything of the files is read.

Prints a line for each file that is well and ends with 0; or prints what is wrong and ends with `WRONG`.
"""

from __future__ import annotations

import resource
import stat
import sys
import tomllib
from pathlib import Path

from pydantic import ValidationError

from hive_core.protocol import AgentConfig

WRONG = 3
LARGEST = 1024 * 1024
"""Bytes of the largest file that is parsed."""
SECONDS = 10
"""Processor time that parsing may take, unless another time is asked for."""
MEMORY = 1024 * 1024 * 1024


class Wrong(Exception):
    """What is wrong, in words."""


def check(directory: Path) -> list[str]:
    """Say of each file that it is well; raises Wrong."""
    said = []
    source = _read(directory / "agent.toml")
    try:
        config = AgentConfig.model_validate(tomllib.loads(source.decode()))
    except UnicodeDecodeError as error:
        raise Wrong(f"agent.toml, byte {error.start + 1}: this is not UTF-8 text") from None
    except RecursionError:
        raise Wrong("agent.toml is nested too deeply") from None
    except tomllib.TOMLDecodeError as error:
        raise Wrong(f"agent.toml is not TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise Wrong(f"agent.toml, {key[:200]!r}: {first['msg'][:500]}") from None
    said.append(f"agent.toml: well (backend {config.backend})")

    # Not before: where it is missing, that should not be told as an error of agent.toml.
    from hive_core.runtimes.nixfile import problem  # noqa: PLC0415

    source = _read(directory / "agent.nix")
    if found := problem(source):
        raise Wrong(f"agent.nix, {found}")
    lines = source.count(b"\n") + (not source.endswith(b"\n"))
    said.append(f"agent.nix: well ({lines} line{'' if lines == 1 else 's'})")
    return said


def _read(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise Wrong(f"{path.name} is not a plain file")
        with path.open("rb") as file:
            source = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise Wrong(f"{path.name} is missing: every configuration needs one") from None
    if len(source) > LARGEST:
        raise Wrong(f"{path.name} is larger than {LARGEST:,} bytes: move parts of it into files of their own")
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
        lines, code = check(Path(sys.argv[1])), 0
    except Wrong as wrong:
        lines, code = [str(wrong)], WRONG
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
