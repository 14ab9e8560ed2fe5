"""The files of a new agent: `agent.toml`, `prompt.md` and `agent.nix` in one directory, each of them optional."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hive_core.cli.errors import Failure


@dataclass(frozen=True)
class AgentFiles:
    """What the files hold; None for one that is not there."""

    config: dict[str, Any] | None
    prompt: str | None
    agent_nix: str | None


def read_agent_files(directory: Path) -> AgentFiles:
    """Read the directory. What `agent.toml` may hold is the daemon's to judge."""
    toml = directory / "agent.toml"
    text = _text_if_there(toml)
    try:
        config = None if text is None else tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Failure("bad_agent_file", f"{toml} is not valid TOML: {error}") from None
    return AgentFiles(config, _text_if_there(directory / "prompt.md"), _text_if_there(directory / "agent.nix"))


def read_text(path: Path) -> str:
    """The text of a file that the operator named."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise Failure("bad_agent_file", f"cannot read {path}: {os.strerror(error.errno or 0)}") from None
    except UnicodeDecodeError as error:
        raise Failure("bad_agent_file", f"{path} is not UTF-8 text (byte {error.start})") from None


def _text_if_there(path: Path) -> str | None:
    return read_text(path) if path.exists() else None
