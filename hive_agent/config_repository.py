"""The agent's own configuration, a git repository in its container: its commit, and new ones.

Git is told where the repository is and does not look for one further up: that could be another's.
"""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from collections.abc import Mapping
from pathlib import Path

from hive_agent.environment import AgentEnvironment

_SECONDS = 60.0
_KEPT_BYTES = 64 * 1024
"""How much of git's output is kept; what is looked for is short."""


class GitFailed(Exception):
    """Git could not do it; the text says why, and what to do."""


def applied_repository(environment: AgentEnvironment, agent: str) -> Path | None:
    """Where the agent's applied repository can be read: what is deployed, and what was proposed. None: nowhere."""
    directory = environment.variables.get("HIVE_AGENT_APPLIED")
    return Path(directory, f"{agent}.git") if directory else None


class ConfigRepository:
    """The repository in `directory`, used by the agent `name`; `variables` is the environment git is run in."""

    def __init__(self, directory: Path, name: str, variables: Mapping[str, str]) -> None:
        self._directory = directory
        self._one_at_a_time = asyncio.Lock()
        inherited = {key: value for key, value in variables.items() if not key.startswith("GIT_")}
        self._environment = {
            **inherited,
            "GIT_DIR": str(directory / ".git"),
            "GIT_WORK_TREE": str(directory),
            "GIT_AUTHOR_NAME": name,
            "GIT_AUTHOR_EMAIL": f"{name}@hive",
            "GIT_COMMITTER_NAME": name,
            "GIT_COMMITTER_EMAIL": f"{name}@hive",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_OPTIONAL_LOCKS": "0",
            "LC_ALL": "C.UTF-8",
        }

    async def head(self) -> str:
        """The id of the commit that is checked out. Raises GitFailed."""
        return (await self._git("rev-parse", "--verify", "HEAD^{commit}")).strip()

    async def uncommitted(self) -> list[str]:
        """What is changed or new and not committed, as git names it (cut after some thousands). Raises GitFailed."""
        return (await self._git("status", "--porcelain")).splitlines()

    async def commit(self, changes: Mapping[str, str], message: str) -> str:
        """Write the files of `changes` (by path) and commit them; the commit's id.

        Without a difference to what is checked out there is no new commit, and the answer is the present one: so this
        may be repeated. Raises GitFailed.
        """
        await self.head()  # before anything is written: a broken repository stays as it is
        try:
            for path, text in changes.items():
                (self._directory / path).write_text(text)
        except OSError as error:
            raise GitFailed(f"{self._directory} cannot be written: {error.strerror}") from None
        await self._git("add", "--", *changes)
        if await self._git("diff", "--cached", "--name-only", "HEAD", "--", *changes):
            text = message.replace("\0", "")
            await self._git("commit", "--quiet", "--no-verify", "--no-gpg-sign", "--file=-", "--", *changes, given=text)
        return await self.head()

    async def _git(self, *arguments: str, given: str = "") -> str:
        """Run git and give back (the beginning of) what it wrote."""
        from hive_agent.infra.processes import running  # noqa: PLC0415 (needs `ctypes`, which is not for harnesses at rest)

        argv = ["git", *arguments]
        try:
            # Lock: at the end of one program its remains are searched for, and another one would pass for one.
            async with (
                self._one_at_a_time,
                asyncio.timeout(_SECONDS),
                running(argv, self._environment, self._directory) as process,
            ):
                output, errors = await _converse(process, given.encode())
                code = await process.wait()
        except TimeoutError:
            raise GitFailed(f"`git {arguments[0]}` in {self._directory} took longer than {_SECONDS:g} s") from None
        except FileNotFoundError:
            if not self._directory.is_dir():
                raise GitFailed(f"there is no configuration here: {self._directory} is missing") from None
            raise GitFailed("git is not installed here; name the commit's full id yourself, or ask for git") from None
        except OSError as error:
            raise GitFailed(f"git could not be started: {error.strerror}") from None
        if code != 0:
            said = errors.strip() or f"exit code {code}"
            raise GitFailed(f"`git {arguments[0]}` in {self._directory} failed: {said}")
        return output


async def _converse(process: Process, given: bytes) -> tuple[str, str]:
    """Give stdin; the beginnings of stdout and stderr, both read to their end."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    reading = asyncio.gather(_beginning(process.stdout), _beginning(process.stderr))
    try:
        process.stdin.write(given)
        process.stdin.close()
        output, errors = await reading
    finally:
        reading.cancel()
    return output, errors


async def _beginning(stream: asyncio.StreamReader) -> str:
    kept = bytearray()
    while piece := await stream.read(_KEPT_BYTES):
        kept += piece[: _KEPT_BYTES - len(kept)]
    return kept.decode(errors="replace")
