"""The files of a directory with an agent's configuration, as people, editors and git leave them there.

The command reads them as the person who types it, and sends their content. What it cannot send is refused by name, and
what programs left for themselves is left out and told of.
"""

from __future__ import annotations

import base64
import os
import re
import stat
import tomllib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hive_core.cli.errors import Failure

_KNOWN = ("agent.toml", "prompt.md", "agent.nix")
_OF_PROGRAMS = re.compile(
    # version control; editors: backups, swap files, locks; Python; file managers; results of nix build
    r"\.(git|jj|hg|svn|bzr)|CVS"
    r"|.*~|.*\.(bak|orig|rej)|\.?.*\.sw[a-p]|\.sw[a-p]|#.*#|\.#.*|\.~lock\..*"
    r"|__pycache__|\.direnv|\.idea|\.vscode"
    r"|\.DS_Store|\._.*|Thumbs\.db|[Dd]esktop\.ini",
)
_RESULTS = re.compile(r"result(-.*)?")
_MOST_FILES = 10_000
_NAMED = 10
_ALIKE = 0.7


@dataclass
class ConfigFiles:
    """The files of a configuration. `config`, `prompt` and `agent_nix` are None without their file.

    `others` are the further files in Base64, by path, and `executables` the programs among them. `left_out` are the
    paths of what programs left for themselves.
    """

    config: dict[str, Any] | None = None
    prompt: str | None = None
    agent_nix: str | None = None
    others: dict[str, str] = field(default_factory=dict)
    executables: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def read_directory(directory: Path) -> ConfigFiles:
    """Read the files of a configuration. Raises Failure `bad_agent_file` that names what cannot be sent."""
    files = _read(directory, lambda name: name not in _KNOWN)
    _check_spelling(directory, files)
    files.prompt = read_text(directory / "prompt.md", optional=True)
    files.agent_nix = read_text(directory / "agent.nix", optional=True)
    toml = read_text(directory / "agent.toml", optional=True)
    try:
        files.config = None if toml is None else tomllib.loads(toml)
    except tomllib.TOMLDecodeError as error:
        raise _bad(f"{directory / 'agent.toml'} is not valid TOML: {error}") from None
    return files


def read_files(directory: Path, known: Collection[str]) -> ConfigFiles:
    """Read all files into `others`; those that are `known` are never left out. Raises Failure `bad_agent_file`."""
    return _read(directory, lambda name: True, known)


def _read(directory: Path, wanted: Callable[[str], bool], known: Collection[str] = ()) -> ConfigFiles:
    files = ConfigFiles()
    refused: list[str] = []
    for path in _walk(directory, directory, files, refused, known):
        name = path.relative_to(directory).as_posix()
        if not wanted(name):
            continue
        try:
            files.others[name] = base64.b64encode(path.read_bytes()).decode()
            if path.stat().st_mode & stat.S_IXUSR:
                files.executables.append(name)
        except OSError as error:
            refused.append(f"{_shown(name)} cannot be read ({os.strerror(error.errno or 0)})")
        if len(files.others) > _MOST_FILES:
            raise _bad(f"{directory} has more than {_MOST_FILES:,} files", "name the directory of one configuration")
    if refused:
        rest = f" and {len(refused) - _NAMED} more" if len(refused) > _NAMED else ""
        what = "; ".join(refused[:_NAMED]) + rest
        raise _bad(f"{directory}: {what}", "a configuration has plain files only: put the files themselves there")
    return files


def read_text(path: Path, *, optional: bool = False) -> str | None:
    """Read a text file, without a byte order mark and with the line ends of Unix; None if it may be missing and is.

    Raises Failure.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        if optional:
            return None
        raise _bad(f"cannot read {path}: {os.strerror(error.errno or 0)}") from None
    except OSError as error:
        raise _bad(f"cannot read {path}: {os.strerror(error.errno or 0)}") from None
    except UnicodeDecodeError as error:
        raise _bad(f"{path} is not UTF-8 text (byte {error.start})", "save it as UTF-8") from None


def _walk(top: Path, directory: Path, files: ConfigFiles, refused: list[str], known: Collection[str]) -> Iterator[Path]:
    """Yield the plain files to send, by name, and record what is left out and what is refused."""
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except OSError as error:
        refused.append(f"{_shown(str(directory))} cannot be read ({os.strerror(error.errno or 0)})")
        return
    for entry in entries:
        path = Path(entry.path)
        name = path.relative_to(top).as_posix()
        inside = entry.is_dir(follow_symlinks=False)
        if inside and any(each.startswith(f"{name}/") for each in known):
            yield from _walk(top, path, files, refused, known)
        elif name in known and not inside and entry.is_file(follow_symlinks=False):
            yield path
        elif _OF_PROGRAMS.fullmatch(entry.name) or (entry.is_symlink() and _RESULTS.fullmatch(entry.name)):
            files.left_out.append(name)
        elif entry.is_symlink():
            refused.append(f"{_shown(name)} is a symbolic link")
        elif entry.is_dir():
            yield from _walk(top, path, files, refused, known)
        elif entry.is_file():
            yield path
        else:
            refused.append(f"{_shown(name)} is no plain file")


def _check_spelling(directory: Path, files: ConfigFiles) -> None:
    """Raise Failure for a file at the top whose name is almost that of a known one that is missing."""
    missing = [name for name in _KNOWN if not (directory / name).exists()]
    for name in files.others:
        if "/" not in name and (near := get_close_matches(name.casefold(), missing, n=1, cutoff=_ALIKE)):
            raise _bad(f"{directory / name}: did you mean {near[0]}?", f"rename it, or add {near[0]} if both are meant")


def _shown(name: str) -> str:
    return name.encode(errors="surrogateescape").decode(errors="replace")


def _bad(message: str, hint: str = "") -> Failure:
    return Failure("bad_agent_file", message, hint=hint)
