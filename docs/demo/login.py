"""The user's own access to Claude Code, for `--claude`: where it is found, and how it reaches the agents."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from failure import DemoFailed

from hive_agent.backends.claude.command import find_program
from hive_agent.backends.cli_launch import ProgramNotFound

_KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
_ALSO_PASSED = (
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_CUSTOM_HEADERS",
    "ANTHROPIC_MODEL",
    "CLAUDE_CODE_MAX_RETRIES",
    "HIVE_CLAUDE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)
"""What a user needs whose network or model is a special one."""
_WITH_RELAY = ("ANTHROPIC_MODEL", "CLAUDE_CODE_MAX_RETRIES", "HIVE_CLAUDE")
"""The settings of providers that agents get to know; of others they know the base URL only."""
_FILE = ".credentials.json"
_LEAST_SECONDS = 15 * 60
_PROGRAM_PATH = "/usr/local/bin:/usr/bin:/bin:/run/current-system/sw/bin"
"""Beside the Python environment's own, where agents find programs: the user's home is not shown to them."""


@dataclass(frozen=True)
class Login:
    """`words` names it for its user, `passed` are the variables that agents get, `file` is what they log in with.

    `key` is what the hive's relay has in their place, for the API at `base_url`.
    """

    words: str
    passed: tuple[str, ...]
    file: str | None = None
    key: str = ""
    base_url: str | None = None

    def give(self, claude_directory: Path) -> None:
        """Put the login into the directory of an agent that has not been started yet."""
        if self.file is None:
            return
        path = claude_directory / _FILE
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(self.file)


def find(environment: Mapping[str, str]) -> Login:
    """A key or token in the environment, else the login that `claude` made. Says what to do if there is neither."""
    _check_program(environment)
    passed = tuple(name for name in (*_KEYS, *_ALSO_PASSED) if environment.get(name))
    base_url = environment.get("ANTHROPIC_BASE_URL") or None
    if "ANTHROPIC_API_KEY" in passed and {*passed} <= {"ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", *_WITH_RELAY}:
        with_relay = tuple(name for name in passed if name in _WITH_RELAY)
        words = "your ANTHROPIC_API_KEY, which only the hive's relay has"
        return Login(words, with_relay, key=environment["ANTHROPIC_API_KEY"], base_url=base_url)
    for name in _KEYS:
        if environment.get(name):
            return Login(f"your {name}", passed)
    directory = Path(environment.get("CLAUDE_CONFIG_DIR") or Path.home() / ".claude")
    path = directory / _FILE
    try:
        return Login(f"your login in {path}", passed, _borrowed(path.read_text()))
    except OSError as error:
        raise DemoFailed(
            f"Claude Code needs your key or login: none of {', '.join(_KEYS)} is set, and {path} cannot be read "
            f"({os.strerror(error.errno or 0)}).\n"
            "Do one of these, and try again:\n"
            "  export ANTHROPIC_API_KEY=...        a key of the Anthropic API\n"
            "  export CLAUDE_CODE_OAUTH_TOKEN=...  what `claude setup-token` prints\n"
            "  claude auth login                   your Claude account\n"
            "Without any of them, `./dev demo` shows the same job without a model."
        ) from None
    except (ValueError, TypeError, KeyError):
        raise DemoFailed(f"{path} holds no login of a Claude account; `claude auth login` makes one.") from None


def _borrowed(text: str) -> str:
    """The login without what renews it: an agent that renewed it would log its user out everywhere else."""
    content = json.loads(text)
    login = {key: value for key, value in content["claudeAiOauth"].items() if key != "refreshToken"}
    if login["expiresAt"] / 1_000 < time.time() + _LEAST_SECONDS:
        raise DemoFailed("Your login of Claude Code runs out or has run out: run `claude` once, and try again.")
    return json.dumps({"claudeAiOauth": login})


def _check_program(environment: Mapping[str, str]) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), _PROGRAM_PATH])
    named = environment.get("HIVE_CLAUDE", "")
    try:
        find_program({"PATH": path, "HIVE_CLAUDE": named})
    except ProgramNotFound as error:
        if named:
            raise DemoFailed(f"{error}.") from None
        raise DemoFailed(
            "There is no Claude Code that agents can see: they see neither your home directory nor your PATH.\n"
            f"Install the extra `claude` into {sys.prefix} (./dev demo --claude does so),\n"
            "or name a program in a system directory: export HIVE_CLAUDE=/usr/..."
        ) from None
