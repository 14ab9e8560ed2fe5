"""The agent's own configuration, a git repository in its container: reading and creating commits.

The path of the repository is passed to git, so that it does not use a repository in a parent directory.
"""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from collections.abc import Mapping
from pathlib import Path

from hive_agent.environment import AgentEnvironment
from hive_agent.infra.leftovers import remove_git_locks

_SECONDS = 60.0
_KEPT_BYTES = 64 * 1024
"""Length of the beginning of git's output that is read."""


class GitFailed(Exception):
    """A git command failed; the text says why, and what to do."""


def applied_repository(environment: AgentEnvironment, agent: str) -> Path | None:
    """The path of the agent's applied repository, None if it cannot be read here."""
    directory = environment.variables.get("HIVE_AGENT_APPLIED")
    return Path(directory, f"{agent}.git") if directory else None


class ConfigRepository:
    """The repository in `directory` of the agent `name`; git is run with the environment `variables`."""

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
        """The id of the checked-out commit. Raises GitFailed."""
        return (await self._git("rev-parse", "--verify", "HEAD^{commit}")).strip()

    async def uncommitted(self) -> list[str]:
        """Changed and new files that are not committed, as lines of git status (truncated). Raises GitFailed."""
        return (await self._git("status", "--porcelain")).splitlines()

    async def commit(self, changes: Mapping[str, str], message: str) -> str:
        """Write the files of `changes` (by path) and commit them; returns the commit's id.

        Without a difference to the checked-out commit, the id of that commit is returned, so this can be repeated.
        Raises GitFailed.
        """
        await self.head()  # fails before anything is written to a broken repository
        async with self._one_at_a_time:
            remove_git_locks(self._directory)
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
        """Run git; returns the beginning of its output."""
        from hive_agent.infra.processes import running  # noqa: PLC0415 (needs `ctypes`, which is not for harnesses at rest)

        argv = ["git", *arguments]
        try:
            # Locked, because at the end of one program its orphans are killed, and a second program would be one.
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
